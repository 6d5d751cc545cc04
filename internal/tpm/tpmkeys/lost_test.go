// SPDX-License-Identifier: Apache-2.0

package tpmkeys_test

import (
	"bytes"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

func transients(t *testing.T, s transport.TPM) int {
	t.Helper()
	return len(swtpm.Handles(t, s, tpm2.TPMHTTransient))
}

// With the key's handle flushed by another program, or taken by another object, the key is
// loaded again, and nothing else ever signs.
func TestHandleLost(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	quote := func() {
		t.Helper()
		attest, signature, err := ak.Quote(s, []byte("nonce"), selection(t, "sha256:14"))
		if err != nil {
			t.Fatal(err)
		}
		checkQuote(t, ak, attest, signature, []byte("nonce"))
	}
	quote()
	swtpm.Flush(t, s, tpm2.TPMHTTransient)
	quote()
	swtpm.Flush(t, s, tpm2.TPMHTTransient)
	foreign := provision(t, s, nil) // another attestation key, at the same handle
	quote()
	if err := foreign.Flush(s); err != nil {
		t.Fatal(err)
	}
	quote()
}

// case 36: killed ten times while the slots are full, the eleventh start works and has
// the same key.
func TestKilledTenTimes(t *testing.T) {
	s := swtpm.Start(t)
	p := s.Listen()
	var blob *tpmkeys.Blob
	for round := range 11 {
		d, err := tpm.Open(t.Context(), p.Address(), tpm.Options{})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		err = d.Do(t.Context(), func(c transport.TPM) error {
			ak, err := tpmkeys.Provision(c, blob, none)
			if err != nil {
				return err
			}
			if blob != nil && !blob.Name().Equal(ak.Name()) {
				t.Errorf("round %d: key %s, want %s", round, ak.Name(), blob.Name())
			}
			blob = ak.Blob()
			if _, _, err := ak.Quote(c, nil, selection(t, "sha256:14")); err != nil {
				return err
			}
			for range 2 { // fill the other slots, and the sessions
				if _, err := (tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}).Execute(c); err != nil {
					return err
				}
			}
			for range 3 {
				if _, _, err := tpm2.HMACSession(c, tpm2.TPMAlgSHA256, 16); err != nil {
					return err
				}
			}
			if n := transients(t, c); n != 3 {
				t.Errorf("round %d: %d transient objects, want all three slots taken", round, n)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		p.Disconnect()
		d.Close()
	}
}

// The authorization value never appears on the wire: not when the key is made, not
// when it quotes, not when it answers a challenge.
func TestAuthorizationIsNotSent(t *testing.T) {
	s := swtpm.Start(t)
	tap := &tap{tpm: s}
	ak := provision(t, tap, nil)
	if _, _, err := ak.Quote(tap, nil, selection(t, "sha256:14")); err != nil {
		t.Fatal(err)
	}
	challenge, expected, answer := challenge(t, tap, ak, keys.EKECC256)
	if err := expected.Check(answer); err != nil {
		t.Fatal(err)
	}
	_ = challenge
	auth := tpmkeys.BlobAuth(ak.Blob())
	if len(auth) != 32 || tap.all.Len() < 1000 {
		t.Fatalf("%d bytes of authorization, %d bytes on the wire: the test does not test", len(auth), tap.all.Len())
	}
	for i := range len(auth) - 7 {
		if bytes.Contains(tap.all.Bytes(), auth[i:i+8]) {
			t.Fatal("eight bytes of the authorization value are on the wire")
		}
	}
	if bytes.Contains(tap.all.Bytes(), answer) {
		t.Error("the answer to the challenge is on the wire in the clear")
	}
}

// tap keeps all that passes.
type tap struct {
	tpm transport.TPM
	all bytes.Buffer
}

func (p *tap) Send(command []byte) ([]byte, error) {
	p.all.Write(command)
	rsp, err := p.tpm.Send(command)
	p.all.Write(rsp)
	return rsp, err
}
