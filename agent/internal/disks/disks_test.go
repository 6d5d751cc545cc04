// SPDX-License-Identifier: Apache-2.0

package disks

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/cryptsetup"
	"github.com/cvm-agentd/agentd/sealing"
)

// TestVolume enrols a volume, opens it, rotates its key twice, and removes it: the key of the volume
// is the same all the time, and that of the agent is not.
func TestVolume(t *testing.T) {
	b := newBed(t, formatted(t))
	vk := b.onDisk(recoveryKey)
	b.enroll()
	first, err := b.key()
	must(t, err)
	for range 2 {
		if !bytes.Equal(b.opens(), vk) || !bytes.Equal(b.onDisk(recoveryKey), vk) {
			t.Fatal("another key of the volume")
		}
		disk, err := b.volume.Rotate(t.Context())
		must(t, err)
		if disk.Pending || len(disk.Recovery) != 1 || len(disk.Former) != 0 {
			t.Fatalf("after a rotation: %+v", disk)
		}
		next, err := b.key()
		must(t, err)
		if bytes.Equal(first, next) {
			t.Fatal("the key of the agent is the same after a rotation")
		}
		first = next
	}
	b.opens()
	must(t, b.volume.Remove(t.Context()))
	if _, err := b.key(); err == nil {
		t.Error("a removed volume has a key")
	}
	if !bytes.Equal(b.onDisk(recoveryKey), vk) {
		t.Error("the recovery key does not open the removed volume")
	}
}

// TestHandedOver: the records went to a successor, which would not learn of a change. Then nothing
// changes a volume, so that it has no header that neither of the two knows; it opens as before.
func TestHandedOver(t *testing.T) {
	b := newBed(t, formatted(t))
	b.enroll()
	vk := b.opens()
	before := b.disk.now()
	b.records.frozen = &sealing.Error{Code: api.CodeHandedOver, Detail: "handed over"}
	_, rotated := b.volume.Rotate(t.Context())
	for name, err := range map[string]error{"rotate": rotated, "remove": b.volume.Remove(t.Context()), "forget": b.volume.Forget(t.Context())} {
		if !errors.Is(err, api.CodeHandedOver) {
			t.Errorf("%s: %v, want %s", name, err, api.CodeHandedOver)
		}
	}
	if !bytes.Equal(b.disk.now(), before) {
		t.Error("the device was changed")
	}
	if !bytes.Equal(b.opens(), vk) {
		t.Error("another key of the volume")
	}
}

// otherAgent changes what the agent is asked, and keeps the last headers of a check.
type otherAgent struct {
	cryptsetup.Agent
	headers []api.DiskHeader
}

// EnrollDisk leaves out that the loss is acknowledged.
func (o *otherAgent) EnrollDisk(ctx context.Context, r api.DiskEnrollRequest) (*api.Disk, error) {
	r.LoseOnHardwareChange = false
	return o.Agent.EnrollDisk(ctx, r)
}

func (o *otherAgent) CheckDisk(ctx context.Context, r api.DiskRequest) (*api.DiskChecked, error) {
	o.headers = r.Headers
	return o.Agent.CheckDisk(ctx, r)
}

// TestRecoverySlotIsRequired: no step leaves a volume that nothing but the agent opens, unless root
// acknowledged the loss when it was enrolled. What is refused changes nothing.
func TestRecoverySlotIsRequired(t *testing.T) {
	b := newBed(t, formatted(t))
	honest := b.volume.Agent
	other := &otherAgent{Agent: honest}
	alone := cryptsetup.Request{Path: "/dev/vdb", Keys: [][]byte{recoveryKey}, Lose: true}
	before := b.disk.now()
	b.volume.Agent = other
	if _, err := b.volume.Enroll(t.Context(), alone); !errors.Is(err, api.CodeDiskNoRecovery) {
		t.Errorf("enrolled without recovery and acknowledgement: %v, want %s", err, api.CodeDiskNoRecovery)
	}
	if !bytes.Equal(b.disk.now(), before) {
		t.Error("the device was changed")
	}
	b.enroll()
	vk := b.opens()

	// A next header without the recovery key slot.
	enrolled := bytes.Clone(b.disk.durable)
	copy(b.disk.durable, withoutRecovery(t, b, enrolled))
	_, _ = b.volume.Check(t.Context()) // refused; the headers are known now
	copy(b.disk.durable, enrolled)
	l, err := b.disks.List(t.Context())
	must(t, err)
	_, err = b.disks.Change(t.Context(), api.DiskChangeRequest{Name: "data", Header: other.headers[0], Slot: l.Disks[0].Slot})
	if !errors.Is(err, api.CodeDiskNoRecovery) {
		t.Errorf("a next header without the recovery key slot: %v, want %s", err, api.CodeDiskNoRecovery)
	}
	if !bytes.Equal(b.opens(), vk) || !bytes.Equal(b.onDisk(recoveryKey), vk) {
		t.Error("another key of the volume")
	}

	// With the acknowledgement, only the agent opens it, and it does not forget that by itself.
	b = newBed(t, formatted(t))
	vk = b.onDisk(recoveryKey)
	disk, err := b.volume.Enroll(t.Context(), alone)
	must(t, err)
	if !disk.LossAck || len(disk.Recovery) != 0 || !bytes.Equal(b.opens(), vk) {
		t.Errorf("enrolled with the acknowledgement: %+v", disk)
	}
	before = b.disk.now()
	if err := b.volume.Remove(t.Context()); !errors.Is(err, api.CodeDiskNoRecovery) {
		t.Errorf("removed although only the agent opens it: %v, want %s", err, api.CodeDiskNoRecovery)
	}
	if !bytes.Equal(b.disk.now(), before) || !bytes.Equal(b.opens(), vk) {
		t.Error("the refused removal changed the volume")
	}
}

// TestNextHeader: a next header is of the same volume and newer than the present one, and a change
// ends only when both copies on the device are it.
func TestNextHeader(t *testing.T) {
	b, foreign := newBed(t, formatted(t)), newBed(t, formatted(t))
	b.enroll()
	foreign.enroll()
	// headers returns both copies of a device as the agent is told of them.
	headers := func(from *bed) []api.DiskHeader {
		o := &otherAgent{Agent: from.volume.Agent}
		v := *from.volume
		v.Agent = o
		_, _ = v.Check(t.Context())
		return o.headers
	}
	l, err := b.disks.List(t.Context())
	must(t, err)
	slot := l.Disks[0].Slot
	present := headers(b)
	for name, c := range map[string]struct {
		header api.DiskHeader
		want   api.Code
	}{
		"another volume":   {headers(foreign)[0], api.CodeDiskOther},
		"the present one":  {present[0], api.CodeDiskOlder},
		"an earlier count": {func() api.DiskHeader { h := present[0]; h.Sequence--; return h }(), api.CodeDiskOlder},
	} {
		if _, err := b.disks.Change(t.Context(), api.DiskChangeRequest{Name: "data", Header: c.header, Slot: slot}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	next := present[0]
	next.Sequence++
	_, err = b.disks.Change(t.Context(), api.DiskChangeRequest{Name: "data", Header: next, Slot: slot})
	must(t, err)
	for name, c := range map[string]struct {
		headers []api.DiskHeader
		want    api.Code
	}{
		"one copy":                {[]api.DiskHeader{next}, api.CodeDiskHeader},
		"one is that of before":   {[]api.DiskHeader{next, present[1]}, api.CodeDiskChanged},
		"both are that of before": {present, api.CodeDiskChanged},
	} {
		if _, err := b.disks.Settle(t.Context(), api.DiskRequest{Name: "data", Headers: c.headers}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	disk, err := b.disks.Settle(t.Context(), api.DiskRequest{Name: "data", Headers: []api.DiskHeader{next, next}})
	must(t, err)
	if disk.Pending {
		t.Errorf("after both copies are the next header: %+v", disk)
	}
}
