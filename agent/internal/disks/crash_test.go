// SPDX-License-Identifier: Apache-2.0

package disks

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// losses are what a power cut does to writes that were not synced.
var losses = map[string]func([]write) []write{
	"all are lost":  func([]write) []write { return nil },
	"all are there": func(w []write) []write { return w },
	torn: func(w []write) (out []write) {
		for _, x := range w {
			out = append(out, write{x.offset, x.b[:min(len(x.b), 4096)]}) // a binary header without its JSON
		}
		return out
	},
	"the last is there alone": func(w []write) []write { return w[max(0, len(w)-1):] },
}

// torn is the fate that a crash matrix tries with -short.
const torn = "each is torn"

// TestCrashMatrix cuts the power at each durable step of a rotation, before and after it takes
// effect, with each fate of what was not synced: a write or a sync of the device, a write of the
// record. After the boot the volume opens without further ado, and the same command ends the rotation,
// also if the power is cut once more while it does.
func TestCrashMatrix(t *testing.T) {
	device := formatted(t)
	whole := newBed(t, bytes.Clone(device))
	whole.enroll()
	device, sealed := whole.disk.durable, whole.records.sealed["data"]
	vk := whole.opens()
	from := whole.steps
	_, err := whole.volume.Rotate(t.Context())
	must(t, err)
	steps := whole.steps - from
	points := 0
	for cut := 1; cut <= steps; cut++ {
		if testing.Short() && cut%3 != 0 {
			continue
		}
		for _, after := range []bool{false, true} {
			for fate, lost := range losses {
				if testing.Short() && fate != torn {
					continue
				}
				b := newBed(t, bytes.Clone(device))
				b.records.sealed["data"] = bytes.Clone(sealed)
				b.where = fmt.Sprintf("step %d, after %v, %s", cut, after, fate)
				b.cut, b.after = cut, after
				if _, err := b.volume.Rotate(t.Context()); !errors.Is(err, errCut) {
					t.Fatalf("%s: the power was not cut: %v", b.where, err)
				}
				if len(b.disk.pending) == 0 && fate != torn {
					continue // all fates are one
				}
				points++
				afterCut(b, lost, vk)
			}
		}
	}
	t.Logf("%d steps of a rotation, %d power cuts", steps, points)
}

// afterCut boots, opens the volume, and ends the rotation, with one more power cut at its first step.
func afterCut(b *bed, lost func([]write) []write, vk []byte) {
	b.t.Helper()
	b.boot(lost)
	if !bytes.Equal(b.opens(), vk) {
		b.t.Fatalf("%s: another key of the volume after the boot", b.where)
	}
	b.cut, b.steps = 1, 0
	if _, err := b.volume.Rotate(b.t.Context()); !errors.Is(err, errCut) && err != nil {
		b.t.Fatalf("%s: %v", b.where, err)
	}
	b.boot(lost)
	if _, err := b.key(); err != nil {
		b.t.Fatalf("%s: after one more cut: %v", b.where, err)
	}
	disk, err := b.volume.Rotate(b.t.Context())
	if err != nil {
		b.t.Fatalf("%s: %v", b.where, err)
	}
	if disk.Pending || len(disk.Former) != 0 || len(disk.Recovery) != 1 {
		b.t.Errorf("%s: the rotation was not ended: %+v", b.where, disk)
	}
	if !bytes.Equal(b.opens(), vk) || !bytes.Equal(b.onDisk(recoveryKey), vk) {
		b.t.Errorf("%s: another key of the volume at the end", b.where)
	}
}

// TestCrashAtEnrollment cuts the power at each durable step of an enrolment. After the boot the
// recovery key opens the volume, and the volume can be enrolled, with --replace if it is recorded.
func TestCrashAtEnrollment(t *testing.T) {
	device := formatted(t)
	whole := newBed(t, bytes.Clone(device))
	vk := whole.onDisk(recoveryKey)
	whole.enroll()
	points := 0
	for cut := 1; cut <= whole.steps; cut++ {
		for _, after := range []bool{false, true} {
			for fate, lost := range losses {
				if fate != torn && (testing.Short() || fate != "all are lost") {
					continue
				}
				points++
				b := newBed(t, bytes.Clone(device))
				b.cut, b.after = cut, after
				if _, err := b.volume.Enroll(t.Context(), ofAdministrator(b, false)); !errors.Is(err, errCut) {
					t.Fatalf("step %d: the power was not cut: %v", cut, err)
				}
				b.boot(lost)
				if got := repaired(b); !bytes.Equal(got, vk) {
					t.Fatalf("step %d, after %v, %s: the recovery key opens another volume", cut, after, fate)
				}
				if _, err := b.key(); err == nil {
					continue // everything was there
				}
				if _, err := b.volume.Enroll(t.Context(), ofAdministrator(b, true)); err != nil {
					t.Fatalf("step %d, after %v, %s: enrol again: %v", cut, after, fate, err)
				}
				if !bytes.Equal(b.opens(), vk) {
					t.Errorf("step %d, after %v, %s: another key of the volume", cut, after, fate)
				}
			}
		}
	}
	t.Logf("%d steps of an enrolment, %d power cuts", whole.steps, points)
}

// TestCutWhileMending: one copy is torn, so that the other one is all there is. A power cut at each
// durable step of the rotation that mends it leaves a volume that opens.
func TestCutWhileMending(t *testing.T) {
	device := formatted(t)
	whole := newBed(t, device)
	whole.enroll()
	device, sealed := whole.disk.durable, whole.records.sealed["data"]
	for which := range 2 {
		for cut := 1; cut <= 10; cut++ {
			b := newBed(t, bytes.Clone(device))
			b.records.sealed["data"] = bytes.Clone(sealed)
			b.disk.durable[which*16384+5000] ^= 1
			b.cut = cut
			if _, err := b.volume.Rotate(t.Context()); !errors.Is(err, errCut) {
				t.Fatalf("copy %d, step %d: the power was not cut: %v", which, cut, err)
			}
			b.boot(losses[torn])
			if _, err := b.key(); err != nil {
				t.Fatalf("copy %d, step %d: %v", which, cut, err)
			}
		}
	}
}
