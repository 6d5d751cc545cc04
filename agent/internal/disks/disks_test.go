// SPDX-License-Identifier: Apache-2.0

package disks

import (
	"bytes"
	"testing"
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
