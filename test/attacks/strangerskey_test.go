// SPDX-License-Identifier: Apache-2.0

package attacks

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify"
)

// TestStrangersKeyCountsAsTheCallers: case 101. A program that may ask for evidence names the
// public key of another party. The relying party takes that key for one of the program: what
// the other party signs is then its word, and a proof that the owner made once proves it again.
func TestStrangersKeyCountsAsTheCallers(t *testing.T) {
	x := switchOn(t, filepath.Join(t.TempDir(), "m"))
	private, public := keyPair(t)
	proved := policy("", "\n[caller]\nkey_proof = true\n")

	nonce, file := x.attest("--public-key", public)
	named := x.verify(policy("", ""), nonce, file, "--public-key", public)
	named.accepted(t, "a key that the caller named, under a policy that does not ask whose it is")
	if c := named.Check("statement.key-proof"); c.Verdict != verify.NotAsserted {
		t.Errorf("the key of another party: %s %s", c.ID, c.Verdict)
	}
	x.verify(proved, nonce, file, "--public-key", public).refused(t, "a key that the caller only names", 5, "policy.caller-key-proof")

	// The owner proves it, and the attacker has the owner's evidence.
	nonce, file = x.attest("--prove-key", private)
	x.verify(proved, nonce, file, "--public-key", public).accepted(t, "the owner of the key")
	b, err := os.ReadFile(file)
	must(t, err)
	e, err := evidence.Parse(b)
	must(t, err)
	s, err := evidence.ParseStatement(e.Statement)
	must(t, err)
	if len(s.KeyProof) == 0 {
		t.Fatal("the statement of the owner has no proof")
	}
	fresh, err := hex.DecodeString(newNonce())
	must(t, err)
	for what, request := range map[string]api.EvidenceRequest{
		"for another nonce":                {Nonce: fresh, PublicKey: s.PublicKey, KeyProof: s.KeyProof},
		"for the same, by another process": {Nonce: s.Nonce, PublicKey: s.PublicKey, KeyProof: s.KeyProof},
	} {
		if _, err := x.Client().Evidence(t.Context(), request); !errors.Is(err, api.CodeBadKeyProof) {
			t.Errorf("the proof of the owner, sent again %s: %v, want %s", what, err, api.CodeBadKeyProof)
		}
	}
}

// keyPair makes a key, and returns the files of its halves.
func keyPair(t *testing.T) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	return write(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))),
		write(t, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})))
}
