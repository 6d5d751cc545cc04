// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// TestPreimageBoundaries covers case 53: moving a boundary, padding, or leaving a
// part out always gives other bytes.
func TestPreimageBoundaries(t *testing.T) {
	lists := [][][]byte{
		{},
		{{}},
		{{}, {}},
		{[]byte("ab"), []byte("c")},
		{[]byte("a"), []byte("bc")},
		{[]byte("abc")},
		{[]byte("abc"), {}},
		{{}, []byte("abc")},
		{[]byte("abc\x00")},
		{[]byte("\x00abc")},
	}
	seen := map[string]int{}
	for i, l := range lists {
		p := string(Preimage("label", l...))
		if j, ok := seen[p]; ok {
			t.Errorf("lists %d and %d encode alike", i, j)
		}
		seen[p] = i
	}
	if bytes.Equal(Preimage("a", []byte("b")), Preimage("", []byte("a"), []byte("b"))) {
		t.Error("a label can be read as a part")
	}
	if bytes.Equal(Preimage("ab", []byte("c")), Preimage("a", []byte("bc"))) {
		t.Error("the boundary between label and first part moves")
	}
}

// TestPreimageExample: the bytes are those of the comment of Preimage.
func TestPreimageExample(t *testing.T) {
	const want = "000000000000000c" + "6167656e74642f6c6f672f31" + "0000000000000002" + "6162" + "0000000000000000"
	if got := hex.EncodeToString(Preimage("agentd/log/1", []byte("ab"), nil)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
