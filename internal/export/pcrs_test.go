// SPDX-License-Identifier: Apache-2.0

package export

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
)

func bank(algorithm string, size int, indices ...uint32) evidence.Bank {
	b := evidence.Bank{Algorithm: algorithm}
	for _, i := range indices {
		b.PCRs = append(b.PCRs, evidence.PCR{Index: i, Value: bytes.Repeat([]byte{byte(0x40 + i)}, size)})
	}
	return b
}

// TestSerializedPCRs reads the C structures back at their offsets. That tpm2-tools
// reads them too is tested in test/interop.
func TestSerializedPCRs(t *testing.T) {
	s := &evidence.Snapshot{PCRs: []evidence.Bank{bank("sha256", 32, 0, 1, 2, 3, 4, 5, 6, 7, 14), bank("sha384", 48, 23)}}
	b, err := SerializedPCRs(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != 132+4+2*532 {
		t.Fatalf("%d bytes, want selection, count and two lists: %d", len(b), 132+4+2*532)
	}
	for _, c := range []struct {
		what string
		at   int
		want []byte
	}{
		{"number of selections", 0, []byte{2, 0, 0, 0}},
		{"first selection: sha256, three bytes, PCRs 0 to 7 and 14", 4, []byte{0x0b, 0, 3, 0xff, 0x40, 0, 0, 0}},
		{"second selection: sha384, PCR 23", 12, []byte{0x0c, 0, 3, 0, 0, 0x80, 0, 0}},
		{"third selection is empty", 20, make([]byte, 8)},
		{"number of lists", 132, []byte{2, 0, 0, 0}},
		{"first list is full", 136, []byte{8, 0, 0, 0}},
		{"its first digest: PCR 0", 140, []byte{32, 0, 0x40, 0x40}},
		{"second list", 136 + 532, []byte{2, 0, 0, 0}},
		{"its first digest: PCR 14", 136 + 532 + 4, []byte{32, 0, 0x4e, 0x4e}},
		{"its second digest: PCR 23 of 48 bytes", 136 + 532 + 4 + 66, []byte{48, 0, 0x57, 0x57}},
	} {
		if got := b[c.at : c.at+len(c.want)]; !bytes.Equal(got, c.want) {
			t.Errorf("%s: % x, want % x", c.what, got, c.want)
		}
	}
}

func TestSerializedPCRsRefuses(t *testing.T) {
	for name, banks := range map[string][]evidence.Bank{
		"unknown bank":   {bank("md5", 16, 0)},
		"short value":    {bank("sha256", 31, 0)},
		"index too high": {bank("sha256", 32, 24)},
		"huge index":     {bank("sha256", 32, 1<<31)},
		"too many banks": make([]evidence.Bank, 17),
	} {
		if _, err := SerializedPCRs(&evidence.Snapshot{PCRs: banks}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzSerializedPCRs(f *testing.F) {
	f.Add("sha256", uint32(14), 32)
	f.Fuzz(func(t *testing.T, algorithm string, index uint32, size int) {
		if size < 0 || size > 4096 {
			t.Skip()
		}
		b, err := SerializedPCRs(&evidence.Snapshot{PCRs: []evidence.Bank{{Algorithm: algorithm, PCRs: []evidence.PCR{{Index: index, Value: make([]byte, size)}}}}})
		if err == nil && (len(b) != 132+4+532 || binary.LittleEndian.Uint32(b) != 1) {
			t.Errorf("%d bytes", len(b))
		}
	})
}

func TestWriteDoesNotMix(t *testing.T) {
	dir := t.TempDir()
	files := []File{{Name: "a", Content: []byte("1")}}
	if err := Write(dir+"/new", files); err != nil {
		t.Fatal(err)
	}
	if err := Write(dir+"/new", files); err == nil {
		t.Error("wrote over an earlier export")
	}
}
