// SPDX-License-Identifier: Apache-2.0

package api

import "testing"

func TestReadingLeft(t *testing.T) {
	for _, c := range []struct {
		r     Reading
		left  uint64
		known bool
	}{
		{Reading{Since: 12, Bytes: 1 << 30, Of: 4 << 30}, 36, true},
		{Reading{Since: 12, Bytes: 4 << 30, Of: 4 << 30}, 0, true},
		{Reading{Since: 2, Bytes: 1, Of: 4}, 0, false},
		{Reading{Since: 12, Of: 4}, 0, false},
		{Reading{Since: 12, Bytes: 5, Of: 4}, 0, false},
		{Reading{Since: 12, Bytes: 1, Of: 4, Stuck: true}, 0, false},
	} {
		if left, known := c.r.Left(); known != c.known || known && left != c.left {
			t.Errorf("%+v: %d %v, want %d %v", c.r, left, known, c.left, c.known)
		}
	}
}
