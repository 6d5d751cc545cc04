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
	"the last is torn": func(w []write) []write {
		if len(w) == 0 {
			return w
		}
		last := w[len(w)-1]
		out := append([]write{}, w[:len(w)-1]...)
		return append(out, write{last.offset, last.b[:len(last.b)/2]})
	},
	"the last is there alone": func(w []write) []write {
		if len(w) == 0 {
			return w
		}
		return w[len(w)-1:]
	},
}

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
		if testing.Short() && cut%6 != 3 {
			continue
		}
		for _, after := range []bool{false, true} {
			for fate, lost := range losses {
				if testing.Short() && fate != "the last is torn" {
					continue
				}
				b := newBed(t, bytes.Clone(device))
				b.records.sealed["data"] = bytes.Clone(sealed)
				b.where = fmt.Sprintf("step %d, after %v, %s", cut, after, fate)
				b.cut, b.after = cut, after
				if _, err := b.volume.Rotate(t.Context()); !errors.Is(err, errCut) {
					t.Fatalf("%s: the power was not cut: %v", b.where, err)
				}
				if len(b.disk.pending) == 0 && fate != "the last is torn" {
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
				if fate != "the last is torn" && (testing.Short() || fate != "all are lost") {
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
