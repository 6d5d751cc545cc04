// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"bytes"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/keys"
)

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
