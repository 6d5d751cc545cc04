// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
)

// TestBounded: a cache keeps as much as it was told to, what was used last first.
func TestBounded(t *testing.T) {
	c := New(2)
	for i := range byte(3) {
		c.Put(evidence.Digest{i}, int(i))
		c.Get(evidence.Digest{0})
	}
	for i, want := range []bool{true, false, true} {
		if v, ok := c.Get(evidence.Digest{byte(i)}); ok != want || ok && v != i {
			t.Errorf("entry %d: %v, %t", i, v, ok)
		}
	}
	if c.Len() != 2 {
		t.Errorf("%d entries, %v", c.Len(), c.entries)
	}
	c.Put(evidence.Digest{2}, 7)
	if v, _ := c.Get(evidence.Digest{2}); v != 7 || c.Len() != 2 {
		t.Errorf("a second value for a key: %v, %d entries", v, c.Len())
	}
	if New(0).limit != 1 {
		t.Error("a cache of nothing")
	}
}

// TestNone: without a cache nothing is remembered.
func TestNone(t *testing.T) {
	var c *Cache
	c.Put(evidence.Digest{}, 1)
	if _, ok := c.Get(evidence.Digest{}); ok {
		t.Error("a nil cache remembers")
	}
}
