// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
)

// TestOldestMakesRoom: the entry that was not used for longest is forgotten, and no other.
func TestOldestMakesRoom(t *testing.T) {
	c := New(3)
	key := func(n byte) evidence.Digest { return evidence.Digest{n} }
	for n := range byte(3) {
		c.Put(key(n), int(n))
	}
	c.Get(key(0))     // used again: 1 is the oldest now
	c.Put(key(2), 22) // put again: no new entry
	c.Put(key(3), 3)  // 1 makes room
	want := map[byte]any{0: 0, 2: 22, 3: 3}
	for n := range byte(4) {
		if got, ok := c.Get(key(n)); ok != (want[n] != nil) || got != want[n] {
			t.Errorf("entry %d: %v, %v, want %v", n, got, ok, want[n])
		}
	}
	if c.Len() != 3 {
		t.Errorf("%d entries, want 3", c.Len())
	}
}
