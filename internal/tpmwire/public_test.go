// SPDX-License-Identifier: Apache-2.0

package tpmwire_test

import (
	"bytes"
	"crypto/elliptic"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// publicKeys are attestation keys of every kind that is accepted.
func publicKeys(t testing.TB) map[string][]byte {
	return map[string][]byte{
		"P-256":  evidencetest.ECCKey('k').Public(),
		"P-384":  evidencetest.ECCKeyOn(elliptic.P384(), tpm2.TPMECCNistP384, tpm2.TPMAlgSHA384, 'k').Public(),
		"RSASSA": evidencetest.RSAKey(t, 2048, tpm2.TPMAlgRSASSA).Public(),
		"RSAPSS": evidencetest.RSAKey(t, 2048, tpm2.TPMAlgRSAPSS).Public(),
	}
}

// sameAsLibrary compares our reading of b, if there is one, with the library's: what we read
// must encode to b again, and must be what the library reads.
func sameAsLibrary(t *testing.T, b []byte) (ours bool) {
	t.Helper()
	p, ok := tpmwire.SigningPublic(b)
	if !ok {
		return false
	}
	if again := tpm2.Marshal(p); !bytes.Equal(again, b) {
		t.Fatalf("read from %x, and encodes to %x", b, again)
	}
	theirs, err := tpm2.Unmarshal[tpm2.TPMTPublic](b)
	if err != nil || !bytes.Equal(tpm2.Marshal(theirs), b) {
		t.Fatalf("the library does not read %x: %v", b, err)
	}
	if p.ObjectAttributes != theirs.ObjectAttributes {
		t.Fatalf("attributes %+v, the library reads %+v", p.ObjectAttributes, theirs.ObjectAttributes)
	}
	return true
}

// TestPublic: keys in use are read here. Every flip of a bit in them is read as the library
// reads it, or left to the library. Names are those that a TPM gives.
func TestPublic(t *testing.T) {
	for name, b := range publicKeys(t) {
		t.Run(name, func(t *testing.T) {
			if !sameAsLibrary(t, b) {
				t.Fatal("left to the library")
			}
			public, err := tpmwire.ParsePublic(b)
			if err != nil {
				t.Fatal(err)
			}
			key, err := tpmwire.SigningKey(public, b)
			if err != nil {
				t.Fatal(err)
			}
			if want, err := tpm2.ObjectName(public); err != nil || !bytes.Equal(key.Name, want.Buffer) {
				t.Errorf("name %x, want %x, %v", key.Name, want.Buffer, err)
			}
			for i := range min(len(b), 48) {
				for bit := range 8 {
					flipped := bytes.Clone(b)
					flipped[i] ^= 1 << bit
					sameAsLibrary(t, flipped)
				}
			}
			for i := range len(b) {
				if sameAsLibrary(t, b[:i]) {
					t.Errorf("read from %d bytes of %d", i, len(b))
				}
			}
			if sameAsLibrary(t, append(bytes.Clone(b), 0)) {
				t.Error("a byte after it is ignored")
			}
		})
	}
}

func FuzzPublic(f *testing.F) {
	for _, b := range publicKeys(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { sameAsLibrary(t, b) })
}
