// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"bytes"
	"encoding/binary"
	"encoding/pem"
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// entry is a header of a table.
type entry struct {
	guid           snp.GUID
	offset, length uint32
}

func table(size int, entries ...entry) []byte {
	b := make([]byte, size)
	for i, e := range entries {
		h := b[24*i:]
		copy(h, e.guid[:])
		binary.LittleEndian.PutUint32(h[16:], e.offset)
		binary.LittleEndian.PutUint32(h[20:], e.length)
	}
	return b
}

// case 43: what a host may put instead of its table.
func TestParseTable(t *testing.T) {
	many := make([]entry, 17)
	for i := range many {
		many[i] = entry{snp.GUIDARK, uint32(600 + i), 1}
	}
	for _, c := range []struct {
		name string
		in   []byte
		n    int
		want snp.Code
	}{
		{"none", nil, 0, ""},
		{"empty", make([]byte, 24), 0, ""},
		{"empty page", make([]byte, 4096), 0, ""},
		{"one", table(100, entry{snp.GUIDVCEK, 48, 52}), 1, ""},
		{"unknown kind", table(100, entry{snp.GUID{1}, 48, 52}), 1, ""},
		{"sixteen", table(1000, many[:16]...), 16, ""},
		{"seventeen", table(1000, many...), 0, snp.CodeTable},
		{"shorter than an entry", make([]byte, 23), 0, snp.CodeTable},
		{"no end", table(24, entry{snp.GUIDVCEK, 24, 1})[:24], 0, snp.CodeTable},
		{"offset into the header", table(100, entry{snp.GUIDVCEK, 47, 10}), 0, snp.CodeTable},
		{"offset 0", table(100, entry{snp.GUIDVCEK, 0, 10}), 0, snp.CodeTable},
		{"length 0", table(100, entry{snp.GUIDVCEK, 48, 0}), 0, snp.CodeTable},
		{"one byte out", table(100, entry{snp.GUIDVCEK, 48, 53}), 0, snp.CodeTable},
		{"sum overflows 32 bits", table(100, entry{snp.GUIDVCEK, 48, 0xFFFFFFFF}), 0, snp.CodeTable},
		{"offset far out", table(100, entry{snp.GUIDVCEK, 0xFFFFFFFF, 2}), 0, snp.CodeTable},
		{"overlap", table(200, entry{snp.GUIDVCEK, 72, 20}, entry{snp.GUIDASK, 91, 20}), 0, snp.CodeTable},
		{"too large", make([]byte, snp.MaxTable+1), 0, snp.CodeTable},
		{"noise", bytes.Repeat([]byte{0xA5}, 4096), 0, snp.CodeTable},
	} {
		t.Run(c.name, func(t *testing.T) {
			entries, err := snp.ParseTable(c.in)
			if len(entries) != c.n || snp.CodeOf(err) != c.want || (err == nil) != (c.want == "") {
				t.Errorf("%d entries, %v; want %d and code %q", len(entries), err, c.n, c.want)
			}
		})
	}
}

func TestTableCertificates(t *testing.T) {
	der := launch(t, soft.Options{}).Endorsement()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	put := func(guid snp.GUID, data []byte) []byte {
		return append(table(48, entry{guid, 48, uint32(len(data))}), data...)
	}
	for _, c := range []struct {
		name string
		in   []byte
		n    int
		want snp.Code
	}{
		{"DER", put(snp.GUIDVCEK, der), 1, ""},
		{"PEM", put(snp.GUIDASK, text), 1, ""},
		{"two in PEM", put(snp.GUIDASK, append(slices.Clone(text), text...)), 2, ""},
		{"unknown kind is passed over", put(snp.GUID{1}, []byte("anything")), 0, ""},
		{"DER with a tail", put(snp.GUIDVCEK, append(slices.Clone(der), 0)), 0, snp.CodeTable},
		{"no certificate", put(snp.GUIDVCEK, []byte("anything")), 0, snp.CodeTable},
		{"PEM of something else", put(snp.GUIDVCEK, bytes.ReplaceAll(text, []byte("CERTIFICATE"), []byte("PRIVATE KEY"))), 0, snp.CodeTable},
		{"text before PEM", put(snp.GUIDVCEK, append([]byte("hello\n"), text...)), 1, ""},
		{"text after PEM", put(snp.GUIDVCEK, append(slices.Clone(text), "hello"...)), 1, ""},
		{"seventeen in PEM", put(snp.GUIDVCEK, bytes.Repeat(text, 17)), 0, snp.CodeTable},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := snp.TableCertificates(c.in)
			if len(got) != c.n || snp.CodeOf(err) != c.want || (err == nil) != (c.want == "") {
				t.Errorf("%d certificates, %v; want %d and code %q", len(got), err, c.n, c.want)
			}
		})
	}
}
