// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/keys"
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
	if _, err := keys.ParseQuote(good, data); err != nil {
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
		if _, err := keys.ParseQuote(bad, data); !errors.Is(err, keys.ErrQuote) {
			t.Errorf("%s: got %v, want ErrQuote", name, err)
		}
	}
	for _, other := range [][]byte{nil, data[1:], append(data[:len(data):len(data)], 0)} {
		if _, err := keys.ParseQuote(good, other); !errors.Is(err, keys.ErrQuote) {
			t.Errorf("for data %q: got %v, want ErrQuote", other, err)
		}
	}
}

func TestNameText(t *testing.T) {
	good := "000b" + string(bytes.Repeat([]byte("5a"), 32))
	var n keys.Name
	if err := n.UnmarshalText([]byte(good)); err != nil || n.String() != good {
		t.Errorf("got %s, %v", n, err)
	}
	for _, bad := range []string{"", "000b", good[:66], good + "00", "000c" + good[4:], "000B" + good[4:], good[:67] + "g", " " + good[1:]} {
		if err := n.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is a name", bad)
		}
	}
	if (keys.Name)(nil).Equal(nil) {
		t.Error("two empty names are the same")
	}
}

// A public area that parses encodes to the bytes it came from, and nothing that is
// asked of it panics.
func FuzzParsePublic(f *testing.F) {
	for _, p := range []tpm2.TPMTPublic{tpm2.RSAEKTemplate, tpm2.ECCEKTemplate, tpm2.ECCSRKTemplate, rsaAK(2048)} {
		f.Add(tpm2.Marshal(p))
	}
	f.Add([]byte{0, 8, 0, 0x0b, 0, 0, 0, 0x52, 0, 0, 0, 0x10, 0, 0})                   // sealed data
	f.Add([]byte{0, 0x25, 0, 0x0b, 0, 0, 0, 0x52, 0, 0, 0, 6, 0, 0x80, 0, 0x43, 0, 0}) // AES key
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := keys.ParsePublic(b)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Bytes(), b) || len(p.Name()) != 34 {
			t.Fatalf("%x parses as %x, name %s", b, p.Bytes(), p.Name())
		}
		p.Key()
		if p.CheckAttestation() == nil {
			if _, err := p.Key(); err != nil {
				t.Fatalf("%x may attest and has no key: %v", b, err)
			}
		}
		if _, err := keys.EKKindOf(p); err == nil {
			if _, _, err := keys.NewChallenge(b, b); err == nil {
				t.Fatalf("%x is an endorsement key and an attestation key", b)
			}
		}
	})
}

// Whatever the TPM sends as a quote, nothing panics.
func FuzzParseQuote(f *testing.F) {
	b := []byte{0xff, 'T', 'C', 'G', 0x80, 0x18, 0, 0, 0, 1, 'n'}
	b = append(b, make([]byte, 25)...)                      // clock and firmware version
	b = binary.BigEndian.AppendUint32(b, 1)                 // one bank
	b = append(b, 0, 0x0b, 3, 0, 0x40, 0, 0, 2, 0xaa, 0xbb) // selection and digest
	f.Add(b)
	f.Add([]byte{0xff, 'T', 'C', 'G', 0x80, 0x14})
	f.Fuzz(func(t *testing.T, b []byte) { keys.ParseQuote(b, []byte("n")) })
}
