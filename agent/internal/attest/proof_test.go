// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// case 101: a proof over this request of this caller to this agent goes into the statement, and
// every other one is refused before anything is quoted.
func TestKeyProof(t *testing.T) {
	r := newRig(t, nil)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	agentKey := r.c.AgentKey.Public().(ed25519.PublicKey)
	good := request(1, evidence.Fresh)
	good.Audience, good.PublicKey = "https://a.example", public
	prove := func(q api.EvidenceRequest, c evidence.Caller, agent []byte) evidence.Bytes {
		s := evidence.Statement{Nonce: q.Nonce, Audience: q.Audience, Caller: c}
		return evidencetest.SignPossession(t, key, evidence.KeyProofMessage(&s, agent))
	}
	proved := good
	proved.KeyProof = prove(good, caller, agentKey)
	e := r.ask(t, proved)
	if s, err := evidence.ParseStatement(e.Statement); err != nil || string(s.KeyProof) != string(proved.KeyProof) {
		t.Errorf("the statement has the proof %x, %v; want %x", s.KeyProof, err, proved.KeyProof)
	}
	quotes := r.tpm.quotes
	for name, change := range map[string]func(q *api.EvidenceRequest, c *evidence.Caller, agent *[]byte){
		"another nonce":      func(q *api.EvidenceRequest, _ *evidence.Caller, _ *[]byte) { q.Nonce = make([]byte, 32) },
		"another audience":   func(q *api.EvidenceRequest, _ *evidence.Caller, _ *[]byte) { q.Audience = "https://b.example" },
		"another uid":        func(_ *api.EvidenceRequest, c *evidence.Caller, _ *[]byte) { c.UID++ },
		"another process":    func(_ *api.EvidenceRequest, c *evidence.Caller, _ *[]byte) { c.PID++ },
		"another start time": func(_ *api.EvidenceRequest, c *evidence.Caller, _ *[]byte) { c.Started += 10 },
		"another agent":      func(_ *api.EvidenceRequest, _ *evidence.Caller, agent *[]byte) { *agent = make([]byte, 32) },
	} {
		over, by, agent := good, caller, []byte(agentKey)
		change(&over, &by, &agent)
		q := good
		q.KeyProof = prove(over, by, agent)
		if _, err := r.Attest(t.Context(), q, caller); !errors.Is(err, ErrKeyProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, q := range map[string]api.EvidenceRequest{
		"no signature": {Nonce: good.Nonce, PublicKey: public, KeyProof: []byte("proof")},
		"no known key": {Nonce: good.Nonce, PublicKey: []byte("key"), KeyProof: proved.KeyProof},
	} {
		if _, err := r.Attest(t.Context(), q, caller); !errors.Is(err, ErrKeyProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.Attest(t.Context(), api.EvidenceRequest{Nonce: good.Nonce, KeyProof: proved.KeyProof}, caller); !errors.Is(err, ErrRequest) {
		t.Errorf("a proof without a key: %v", err)
	}
	if r.tpm.quotes != quotes {
		t.Errorf("%d quotes for requests that are refused", r.tpm.quotes-quotes)
	}
}
