// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"crypto"
	"errors"
	"testing"

	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestAgree: a TPM that authenticates its answer can still quote something else than it
// was asked for.
func TestAgree(t *testing.T) {
	asked := pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{14}}}
	other := pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{13}}}
	same := make([]byte, 32)
	values := pcr.Values{pcr.SHA256: {13: same, 14: same}}
	quote := func(s pcr.Selection, v pcr.Values) *tpmwire.Attest {
		d, err := s.Composite(v, crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		return &tpmwire.Attest{Selection: s.TPM(), PCRDigest: d}
	}
	if err := agree(quote(asked, values), asked, values, crypto.SHA256); err != nil {
		t.Errorf("what was asked for: %v", err)
	}
	// The same digest over the same values of another PCR.
	if err := agree(quote(other, values), asked, values, crypto.SHA256); !errors.Is(err, tpmkeys.ErrQuote) {
		t.Errorf("another selection: error %v, want ErrQuote", err)
	}
	moved := pcr.Values{pcr.SHA256: {14: append(make([]byte, 31), 1)}}
	if err := agree(quote(asked, moved), asked, values, crypto.SHA256); !errors.Is(err, ErrUnstable) {
		t.Errorf("values of another moment: error %v, want ErrUnstable", err)
	}
}

// TestSameBoot: milliseconds are compared only between quotes of one key and one boot.
func TestSameBoot(t *testing.T) {
	c := Clock{Signer: []byte{1}, Milliseconds: 5, ResetCount: 2, RestartCount: 3}
	for name, x := range map[string]struct {
		change func(*Clock)
		want   bool
	}{
		"later":       {func(d *Clock) { d.Milliseconds++ }, true},
		"another key": {func(d *Clock) { d.Signer = []byte{2} }, false},
		"reset":       {func(d *Clock) { d.ResetCount++ }, false},
		"restart":     {func(d *Clock) { d.RestartCount++ }, false},
	} {
		d := c
		x.change(&d)
		if c.SameBoot(d) != x.want {
			t.Errorf("%s: %v, want %v", name, !x.want, x.want)
		}
	}
}
