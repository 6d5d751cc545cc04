// SPDX-License-Identifier: Apache-2.0

package tpmwire_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

func attestation() evidencetest.Attestation {
	return evidencetest.Attestation{
		Magic: tpmwire.GeneratedValue, Type: tpmwire.AttestQuote, QualifiedSigner: []byte("signer"), ExtraData: []byte("data"),
		Clock: 1, Reset: 2, Restart: 3, Safe: 1, Firmware: 4,
		Banks: []evidencetest.Bank{{Hash: 0x000b, Select: []byte{1, 0x40, 0}}, {Hash: 0x000c, Select: []byte{0, 0, 0x80}}}, Digest: []byte("digest"),
	}
}

// TestParseQuote: each field is read from its place, as the library reads it, and only an
// attestation over a quote that ends with the text is one.
func TestParseQuote(t *testing.T) {
	x := attestation()
	good := x.Encode()
	a, err := tpmwire.ParseQuote(good)
	if err != nil {
		t.Fatal(err)
	}
	if string(a.QualifiedSigner) != "signer" || string(a.ExtraData) != "data" || a.Clock != 1 || a.ResetCount != 2 || a.RestartCount != 3 ||
		!a.Safe || a.Firmware != 4 || string(a.PCRDigest) != "digest" || !a.Canonical || a.Trailing != 0 {
		t.Errorf("got %+v", a)
	}
	theirs, err := tpm2.Unmarshal[tpm2.TPMSAttest](good)
	if err != nil {
		t.Fatal(err)
	}
	q, err := theirs.Attested.Quote()
	if err != nil || !bytes.Equal(tpm2.Marshal(q.PCRSelect), tpm2.Marshal(a.Selection)) {
		t.Errorf("selection %v, the library reads %v, %v", a.Selection, q, err)
	}
	for name, change := range map[string]func(a *evidencetest.Attestation){
		"magic":      func(a *evidencetest.Attestation) { a.Magic++ },
		"NV":         func(a *evidencetest.Attestation) { a.Type = 0x8014 },
		"time":       func(a *evidencetest.Attestation) { a.Type = 0x8019 },
		"safe":       func(a *evidencetest.Attestation) { a.Safe = 2 },
		"trailing":   func(a *evidencetest.Attestation) { a.Trailing = []byte{0} },
		"many banks": func(a *evidencetest.Attestation) { a.Banks = make([]evidencetest.Bank, 17) },
		"body":       func(a *evidencetest.Attestation) { a.Body = []byte{0xff, 0xff, 0xff, 0xff} },
	} {
		x := attestation()
		change(&x)
		if a, err := tpmwire.ParseQuote(x.Encode()); err == nil {
			t.Errorf("%s: read as %+v", name, a)
		}
	}
	for i := range good {
		if _, err := tpmwire.ParseQuote(good[:i]); err == nil {
			t.Errorf("read from %d bytes of %d", i, len(good))
		}
	}
	x.Banks[0].Select = x.Banks[0].Select[:2]
	if a, err := tpmwire.ParseAttest(x.Encode()); err != nil || a.Canonical {
		t.Errorf("a bitmap of two bytes: %v, %v", a, err)
	}
	x.Trailing = []byte{1, 2}
	if a, err := tpmwire.ParseAttest(x.Encode()); err != nil || a.Trailing != 2 {
		t.Errorf("two bytes after it: %v, %v", a, err)
	}
}

func FuzzParseAttest(f *testing.F) {
	x := attestation()
	f.Add(x.Encode())
	b := []byte{0xff, 'T', 'C', 'G', 0x80, 0x18, 0, 0, 0, 0}
	f.Add(binary.BigEndian.AppendUint32(append(b, make([]byte, 25)...), 1<<31))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := tpmwire.ParseQuote(b)
		if err != nil {
			return
		}
		if theirs, err := tpm2.Unmarshal[tpm2.TPMSAttest](b); err != nil || !bytes.Equal(tpm2.Marshal(theirs), b) || theirs.ClockInfo.Clock != a.Clock {
			t.Fatalf("%x: %+v, the library reads %+v, %v", b, a, theirs, err)
		}
	})
}
