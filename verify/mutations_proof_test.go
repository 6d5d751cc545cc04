// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"maps"
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// provers are the kinds of keys that can prove their possession.
func provers(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	out := map[string]crypto.Signer{"Ed25519": evidencetest.Key('q'), "RSA-2048": rsaProver(t, 2048), "RSA-4096": rsaProver(t, 4096)}
	for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		out[c.Params().Name] = ecProver(t, c)
	}
	return out
}

func rsaProver(t *testing.T, bits int) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ecProver(t *testing.T, c elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestKeyProof (case 101): each kind of key proves that the caller has it, and a policy that
// demands that accepts; without a proof the key is named, and such a policy refuses.
func TestKeyProof(t *testing.T) {
	keys := provers(t)
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		for _, proves := range []bool{true, false} {
			r := evidencetest.New()
			if r.Prove(t, keys[name], nil); !proves {
				r.Statement.KeyProof = nil
			}
			for _, tables := range []string{"", "[caller]\nkey_proof = true"} {
				o := baseOptions(t)
				o.Policy = mustPolicy(t, makePolicy("", tables))
				a, err := appraiseEvidence(r.Encode(t), o)
				if err != nil {
					t.Fatal(err)
				}
				verdict, failed := Pass, []CheckID(nil)
				if !proves {
					verdict = NotAsserted
					if tables != "" {
						failed = []CheckID{PolicyCallerKeyProof}
					}
				}
				c := a.Check(StatementKeyProof)
				if c.Verdict != verdict || !slices.Equal(failedIDs(a), failed) {
					t.Errorf("%s, proved %t, policy %q: %s, failed %v: %s", name, proves, tables, c.Verdict, failedIDs(a), c.Sentence)
				}
				if !proves && c.Sentence != "the key is named by the caller, who did not prove to have it" {
					t.Errorf("%s: %q", name, c.Sentence)
				}
			}
		}
	}
}

// proves returns a change of a recipe whose statement has a proof over something else.
func proves(change func(*evidence.Statement)) func(*testing.T, *evidencetest.Recipe) {
	return func(t *testing.T, r *evidencetest.Recipe) { r.Prove(t, evidencetest.Key('q'), change) }
}

// reproved returns a change of a recipe in which other, made of the message and a good proof,
// takes the place of the proof.
func reproved(key func(*testing.T) crypto.Signer, other func(t *testing.T, key crypto.Signer, message, proof []byte) []byte) func(*testing.T, *evidencetest.Recipe) {
	return func(t *testing.T, r *evidencetest.Recipe) {
		k := key(t)
		r.Prove(t, k, nil)
		message := evidence.KeyProofMessage(&r.Statement, r.AgentKey.Public().(ed25519.PublicKey))
		r.Statement.KeyProof = other(t, k, message, r.Statement.KeyProof)
	}
}

func p256Prover(t *testing.T) crypto.Signer { return ecProver(t, elliptic.P256()) }

// pssWith signs with a salt of another size.
func pssWith(salt int) func(*testing.T, crypto.Signer, []byte, []byte) []byte {
	return func(t *testing.T, key crypto.Signer, message, _ []byte) []byte {
		d := sha256.Sum256(message)
		sig, err := key.Sign(rand.Reader, d[:], &rsa.PSSOptions{SaltLength: salt, Hash: crypto.SHA256})
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
}

func proofMutations() []mutation {
	all := []mutation{
		{id: StatementKeyProof, name: "case 101 another key", recipe: func(t *testing.T, r *evidencetest.Recipe) {
			r.Prove(t, evidencetest.Key('r'), nil)
			public, err := x509.MarshalPKIXPublicKey(evidencetest.Key('q').Public())
			if err != nil {
				t.Fatal(err)
			}
			r.Statement.PublicKey = public
		}},
		{id: StatementKeyProof, name: "another nonce", recipe: proves(func(s *evidence.Statement) { s.Nonce = s.Nonce[:31] })},
		{id: StatementKeyProof, name: "another audience", recipe: proves(func(s *evidence.Statement) { s.Audience = "https://b.example" })},
		{id: StatementKeyProof, name: "another uid", recipe: proves(func(s *evidence.Statement) { s.Caller.UID++ })},
		{id: StatementKeyProof, name: "another process", recipe: proves(func(s *evidence.Statement) { s.Caller.PID++ })},
		{id: StatementKeyProof, name: "an earlier process of that number", recipe: proves(func(s *evidence.Statement) { s.Caller.Started -= 10 })},
		{id: StatementKeyProof, name: "another agent", recipe: func(t *testing.T, r *evidencetest.Recipe) {
			agent := r.AgentKey
			r.AgentKey = evidencetest.Key('b')
			r.Prove(t, evidencetest.Key('q'), nil)
			r.AgentKey = agent
		}},
		{id: StatementKeyProof, name: "DER with trailing bytes", recipe: reproved(p256Prover, func(_ *testing.T, _ crypto.Signer, _, proof []byte) []byte { return append(proof, 0) })},
		{id: StatementKeyProof, name: "DER with a long length", recipe: reproved(p256Prover, func(_ *testing.T, _ crypto.Signer, _, proof []byte) []byte {
			return append([]byte{proof[0], 0x81}, proof[1:]...)
		})},
		{id: StatementKeyProof, name: "PSS with a salt of 20 bytes", recipe: reproved(func(t *testing.T) crypto.Signer { return rsaProver(t, 2048) }, pssWith(20))},
		{id: StatementKeyProof, name: "RSA of 1,024 bits", recipe: reproved(func(t *testing.T) crypto.Signer { return rsaProver(t, 1024) }, pssWith(32))},
		{id: StatementKeyProof, name: "ECDSA on P-224", recipe: reproved(func(t *testing.T) crypto.Signer { return ecProver(t, elliptic.P224()) },
			func(_ *testing.T, _ crypto.Signer, _, proof []byte) []byte { return proof })},
		{id: StatementKeyProof, name: "a key of no known kind", recipe: func(t *testing.T, r *evidencetest.Recipe) {
			r.Prove(t, evidencetest.Key('q'), nil)
			r.Statement.PublicKey = []byte("a public key")
		}},
		{id: StatementKeyProof, name: "a key with trailing bytes", recipe: func(t *testing.T, r *evidencetest.Recipe) {
			r.Prove(t, evidencetest.Key('q'), nil)
			r.Statement.PublicKey = append(r.Statement.PublicKey, 0)
		}},
		{id: PolicyCallerKeyProof, name: "a key that is only named", tables: "[caller]\nkey_proof = true"},
		{id: PolicyCallerKeyProof, name: "no key", tables: "[caller]\nkey_proof = true", recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.Statement.PublicKey = nil }},
	}
	forgers := evidencetest.Forgers()
	for _, name := range slices.Sorted(maps.Keys(forgers)) {
		f := forgers[name]
		all = append(all, mutation{id: BatchAgentKey, name: name, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
			r.AgentKey, r.BatchSignature = f.Key(), f.Sign
			r.Events[0] = evidencetest.Agent(pcr.EventAgent, "1.0.0", r.AgentKey)
		}}, mutation{id: StatementKeyProof, name: "Ed25519, " + name, recipe: func(t *testing.T, r *evidencetest.Recipe) {
			r.Prove(t, evidencetest.Key('q'), nil)
			public, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(f.Public))
			if err != nil {
				t.Fatal(err)
			}
			r.Statement.PublicKey = public
			r.Statement.KeyProof = f.Sign(evidence.KeyProofMessage(&r.Statement, r.AgentKey.Public().(ed25519.PublicKey)))
		}})
	}
	return all
}
