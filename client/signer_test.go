// SPDX-License-Identifier: Apache-2.0

package client

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
)

type keysAgent struct {
	key   crypto.Signer
	asked []api.SignRequest
}

func (a *keysAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	public, _ := x509.MarshalPKIXPublicKey(a.key.Public())
	if r.Method == "GET" {
		json.NewEncoder(w).Encode(api.PublicKey{PublicKey: public, Version: 3})
		return
	}
	var request api.SignRequest
	json.NewDecoder(r.Body).Decode(&request)
	a.asked = append(a.asked, request)
	signed, hash := request.Message, crypto.Hash(0)
	if len(request.Digest) > 0 {
		signed, hash = request.Digest, crypto.SHA256
	}
	signature, err := a.key.Sign(rand.Reader, signed, hash)
	if err != nil {
		panic(err)
	}
	json.NewEncoder(w).Encode(api.Signed{Signature: signature, PublicKey: public, Version: 3})
}

// TestSigner: a signing key makes a request of a certificate, whatever its algorithm is, and stays with
// its version.
func TestSigner(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		a   api.SigningAlgorithm
		key crypto.Signer
	}{{api.SignEd25519, ed}, {api.SignP256, onCurve(t, elliptic.P256())}, {api.SignP384, onCurve(t, elliptic.P384())}, {api.SignTPMP256, onCurve(t, elliptic.P256())}} {
		agent := &keysAgent{key: c.key}
		client := &Client{Socket: serve(t, agent.ServeHTTP)}
		s, err := NewSigner(t.Context(), client, api.SigningKey{Label: "tls", Algorithm: c.a})
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{}, s)
		if err != nil {
			t.Fatalf("%s: %v", c.a, err)
		}
		request, err := x509.ParseCertificateRequest(der)
		if err == nil {
			err = request.CheckSignature()
		}
		if err != nil {
			t.Errorf("%s: %v", c.a, err)
		}
		if asked := agent.asked[0]; asked.Version != 3 || asked.Label != "tls" || asked.Algorithm != c.a || s.Key().Version != 3 {
			t.Errorf("%s: asked %+v", c.a, asked)
		}
	}
}

func onCurve(t *testing.T, c elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestSignerRefuses: what the key does not sign, what is signed by another key, and a key that no app
// has.
func TestSignerRefuses(t *testing.T) {
	agent := &keysAgent{key: onCurve(t, elliptic.P256())}
	client := &Client{Socket: serve(t, func(w http.ResponseWriter, r *http.Request) { agent.ServeHTTP(w, r) })}
	s, err := NewSigner(t.Context(), client, api.SigningKey{Label: "tls", Algorithm: api.SignTPMP256})
	if err != nil {
		t.Fatal(err)
	}
	digest, long := sha256.Sum256(nil), sha512.Sum384(nil)
	if signature, err := s.Sign(nil, long[:], crypto.SHA384); err == nil {
		t.Errorf("a digest of SHA-384 is signed: %x", signature)
	}
	if signature, err := s.Sign(nil, []byte("message"), crypto.Hash(0)); err == nil {
		t.Errorf("a message is signed: %x", signature)
	}
	agent.key = onCurve(t, elliptic.P256())
	if signature, err := s.Sign(nil, digest[:], crypto.SHA256); err == nil || !strings.Contains(err.Error(), "another one than before") {
		t.Errorf("signed by another key: %x, %v", signature, err)
	}
	_, ed, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	agent.key = ed
	if s, err = NewSigner(t.Context(), client, api.SigningKey{Label: "tls", Algorithm: api.SignEd25519}); err != nil {
		t.Fatal(err)
	}
	if signature, err := s.Sign(nil, []byte("message"), &ed25519.Options{Context: "c"}); err == nil {
		t.Errorf("signed with a context: %x", signature)
	}
	if agent.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if s, err := NewSigner(t.Context(), client, api.SigningKey{Label: "tls"}); err == nil {
		t.Errorf("a key of RSA: %+v", s)
	}
}
