// SPDX-License-Identifier: Apache-2.0

package tpmkeys_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// cases 44, 45 and 46, the part of the agent: what the TPM hands out as a quote is
// looked at before anything is read from it.
func TestParseQuote(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	data := []byte("nonce of the test")
	good, _, err := ak.Quote(s, data, selection(t, "sha256:14"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tpmkeys.ParseQuote(good, data); err != nil {
		t.Fatal(err)
	}
	set := func(offset int, b ...byte) []byte {
		out := bytes.Clone(good)
		copy(out[offset:], b)
		return out
	}
	for name, bad := range map[string][]byte{
		"nothing":          nil,
		"wrong magic":      set(0, 0xfe),
		"NV certification": set(4, 0x80, 0x14),
		"type time":        set(4, 0x80, 0x19),
		"type zero":        set(4, 0, 0),
		"trailing byte":    append(bytes.Clone(good), 0),
		"cut":              good[:len(good)-1],
		"safe is neither":  set(bytes.Index(good, data)+len(data)+16, 2),
		"signer size":      set(6, 0xff, 0xff),
	} {
		if _, err := tpmkeys.ParseQuote(bad, data); !errors.Is(err, tpmkeys.ErrQuote) {
			t.Errorf("%s: got %v, want ErrQuote", name, err)
		}
	}
	for _, other := range [][]byte{nil, data[1:], append(data[:len(data):len(data)], 0)} {
		if _, err := tpmkeys.ParseQuote(good, other); !errors.Is(err, tpmkeys.ErrQuote) {
			t.Errorf("for data %q: got %v, want ErrQuote", other, err)
		}
	}
}

// Whatever the TPM sends as a quote, nothing panics.
func FuzzParseQuote(f *testing.F) {
	b := []byte{0xff, 'T', 'C', 'G', 0x80, 0x18, 0, 0, 0, 1, 'n'}
	b = append(b, make([]byte, 25)...)                      // clock and firmware version
	b = binary.BigEndian.AppendUint32(b, 1)                 // one bank
	b = append(b, 0, 0x0b, 3, 0, 0x40, 0, 0, 2, 0xaa, 0xbb) // selection and digest
	f.Add(b)
	f.Add([]byte{0xff, 'T', 'C', 'G', 0x80, 0x14})
	f.Fuzz(func(t *testing.T, b []byte) { tpmkeys.ParseQuote(b, []byte("n")) })
}
