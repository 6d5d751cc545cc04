// SPDX-License-Identifier: Apache-2.0

package disks

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cvm-agentd/agentd/api"
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
