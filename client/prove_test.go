// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
)

// proving is an agent that was started again some times since the client asked who it is.
type proving struct {
	t      *testing.T
	starts int // still to come
	key    []byte
	self   int
	asked  int
	proof  []byte
}

func (p *proving) who() api.Self {
	return api.Self{UID: 7, PID: 4321, Started: 12340, AgentKey: bytes.Clone(p.key)}
}

func (p *proving) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/self" {
		p.self++
		json.NewEncoder(w).Encode(p.who())
		return
	}
	p.asked++
	var q api.EvidenceRequest
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		p.t.Error(err)
	}
	if p.starts > 0 {
		p.starts--
		p.key[0]++
	}
	self := p.who()
	s := evidence.Statement{Nonce: q.Nonce, Audience: q.Audience, Caller: evidence.Caller{UID: self.UID, PID: self.PID, Started: self.Started}}
	if err := keys.CheckPossession(q.PublicKey, evidence.KeyProofMessage(&s, p.key), q.KeyProof); err != nil {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(400)
		json.NewEncoder(w).Encode(api.Problem{Code: api.CodeBadKeyProof, Status: 400, Detail: err.Error()})
		return
	}
	p.proof = q.KeyProof
	io.WriteString(w, "{}")
}

// TestEvidenceWithKey (case 101): each kind of key signs in the form that a verifier takes. An
// agent that was started again is asked once more, and not for ever.
func TestEvidenceWithKey(t *testing.T) {
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signers := map[string]crypto.Signer{"Ed25519": ed25519.NewKeyFromSeed(make([]byte, 32)), "RSA": rsa2048}
	for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		if signers[c.Params().Name], err = ecdsa.GenerateKey(c, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	request := api.EvidenceRequest{Nonce: make([]byte, 32), Audience: "https://a.example"}
	for name, key := range signers {
		for starts, want := range map[int]int{0: 1, 1: 2, 9: 2} { // times that the agent is asked
			p := &proving{t: t, starts: starts, key: make([]byte, 32)}
			c := &Client{Socket: serve(t, p.ServeHTTP)}
			_, err := c.EvidenceWithKey(t.Context(), request, key)
			if good := starts < 2; (err == nil) != good || !good && !errors.Is(err, api.CodeBadKeyProof) || p.asked != want || p.self != want {
				t.Errorf("%s, %d starts: %v after %d requests and %d questions, want %d", name, starts, err, p.asked, p.self, want)
			}
			c.Close()
		}
	}
}

// TestSelfIsRemembered: a client asks who it is once, and again after the agent was started again.
func TestSelfIsRemembered(t *testing.T) {
	p := &proving{t: t, key: make([]byte, 32)}
	c := &Client{Socket: serve(t, p.ServeHTTP)}
	defer c.Close()
	for i, want := range []struct{ starts, self, asked int }{{0, 1, 1}, {0, 1, 2}, {1, 2, 4}, {0, 2, 5}} {
		p.starts = want.starts
		_, err := c.EvidenceWithKey(t.Context(), api.EvidenceRequest{Nonce: make([]byte, 32)}, ed25519.NewKeyFromSeed(make([]byte, 32)))
		if err != nil || p.self != want.self || p.asked != want.asked {
			t.Errorf("request %d: %v after %d requests and %d questions, want %d and %d", i, err, p.asked, p.self, want.asked, want.self)
		}
	}
}

// TestEvidenceWithOtherKeys checks that nothing is asked for with a key that cannot prove itself.
func TestEvidenceWithOtherKeys(t *testing.T) {
	p := &proving{t: t, key: make([]byte, 32)}
	c := &Client{Socket: serve(t, p.ServeHTTP)}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.EvidenceWithKey(t.Context(), api.EvidenceRequest{Nonce: make([]byte, 32)}, p224); err == nil {
		t.Error("a key on P-224 signs")
	}
	r := api.EvidenceRequest{Nonce: make([]byte, 32), PublicKey: []byte("another key")}
	if _, err := c.EvidenceWithKey(t.Context(), r, ed25519.NewKeyFromSeed(make([]byte, 32))); err == nil {
		t.Error("a request that names another key is signed")
	}
	if p.asked != 0 {
		t.Errorf("%d requests", p.asked)
	}
}
