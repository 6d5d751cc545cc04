// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
)

// stub is a stand-in for the agent. It answers on a unix socket whose path is in the
// environment variable that the client looks at.
func stub(answers map[string]http.HandlerFunc) (stop func()) {
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		log.Fatal(err)
	}
	path := filepath.Join(dir, "agentd.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	for pattern, h := range answers {
		mux.HandleFunc(pattern, h)
	}
	s := &http.Server{Handler: mux}
	go s.Serve(l)
	os.Setenv(api.SocketEnv, path)
	return func() {
		s.Close()
		os.Unsetenv(api.SocketEnv)
		os.RemoveAll(dir)
	}
}

// answer returns a handler that reads a request of type R and answers with v(r).
func answer[R any](v func(R) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var request R
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		json.NewEncoder(w).Encode(v(request))
	}
}

// An app makes a key for its TLS connections and asks for evidence over it. The relying
// party chose the nonce. It verifies the document with package verify.
func ExampleClient_Evidence() {
	defer stub(map[string]http.HandlerFunc{
		"POST /v1/evidence": answer(func(r api.EvidenceRequest) any {
			return map[string]any{"type": "agentd/evidence/2", "forKeyOf": len(r.PublicKey)}
		}),
	})()

	nonce := []byte("0123456789abcdef0123456789abcdef") // from the relying party
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	key, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		log.Fatal(err)
	}

	var agent client.Client
	document, err := agent.Evidence(context.Background(), api.EvidenceRequest{
		Nonce: nonce, PublicKey: key, Audience: "billing.example",
	})
	if errors.Is(err, api.CodePlatformBusy) {
		fmt.Println("reports are throttled: try again later")
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", document) // send it as it is
	// Output: {"forKeyOf":44,"type":"agentd/evidence/2"}
}

// An app shows that it has the key that it names: it signs the request with that key. Without
// that, any caller could name any key. A policy asks for it with key_proof = true.
func ExampleClient_EvidenceWithKey() {
	defer stub(map[string]http.HandlerFunc{
		"GET /v1/self": func(w http.ResponseWriter, _ *http.Request) {
			json.NewEncoder(w).Encode(api.Self{UID: 990, PID: 4321, Started: 12340, AgentKey: make([]byte, 32)})
		},
		"POST /v1/evidence": answer(func(r api.EvidenceRequest) any {
			return map[string]any{"type": "agentd/evidence/2", "forKeyOf": len(r.PublicKey), "proof": len(r.KeyProof)}
		}),
	})()

	_, key, err := ed25519.GenerateKey(rand.Reader) // any crypto.Signer: it can be in an HSM
	if err != nil {
		log.Fatal(err)
	}
	var agent client.Client
	document, err := agent.EvidenceWithKey(context.Background(), api.EvidenceRequest{
		Nonce: []byte("0123456789abcdef0123456789abcdef"), Audience: "billing.example",
	}, key)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", document)
	// Output: {"forKeyOf":44,"proof":64,"type":"agentd/evidence/2"}
}

// An app derives the key of its disk. The secret is the same after each restart, and
// only the system unit of this app on this machine gets it.
func ExampleClient_Derive() {
	defer stub(map[string]http.HandlerFunc{
		"POST /v1/keys/derive": answer(func(r api.DeriveRequest) any {
			return api.Derived{Secret: make([]byte, r.Length), Version: 1}
		}),
	})()

	var agent client.Client
	derived, err := agent.Derive(context.Background(), api.DeriveRequest{Label: "disk", Length: 32})
	if err != nil {
		log.Fatal(err)
	}
	defer clear(derived.Secret)
	fmt.Printf("%d bytes from version %d of the root\n", len(derived.Secret), derived.Version)
	// Output: 32 bytes from version 1 of the root
}

// An app asks for a certificate for a key that is in the TPM and never leaves it.
func ExampleNewSigner() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // in the place of the TPM
	if err != nil {
		log.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		log.Fatal(err)
	}
	defer stub(map[string]http.HandlerFunc{
		"GET /v1/keys/public": func(w http.ResponseWriter, _ *http.Request) {
			json.NewEncoder(w).Encode(api.PublicKey{PublicKey: der, Version: 1})
		},
		"POST /v1/sign": answer(func(r api.SignRequest) any {
			signature, err := key.Sign(rand.Reader, r.Digest, crypto.SHA256)
			if err != nil {
				log.Fatal(err)
			}
			return api.Signed{Signature: signature, PublicKey: der, Version: r.Version}
		}),
	})()

	var agent client.Client
	signer, err := client.NewSigner(context.Background(), &agent, api.SigningKey{Label: "tls", Algorithm: api.SignTPMP256})
	if err != nil {
		log.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{DNSNames: []string{"billing.example"}}, signer)
	if err != nil {
		log.Fatal(err)
	}
	parsed, err := x509.ParseCertificateRequest(request)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(parsed.DNSNames, parsed.CheckSignature())
	// Output: [billing.example] <nil>
}

// An app stores a secret that it was given, and opens it after a restart.
func ExampleClient_Seal() {
	sealed := map[string][]byte{}
	defer stub(map[string]http.HandlerFunc{
		"POST /v1/seal": answer(func(r api.SealRequest) any {
			sealed[r.Name] = r.Data
			return api.Sealed{Name: r.Name, Bytes: len(r.Data)}
		}),
		"POST /v1/unseal": answer(func(r api.UnsealRequest) any { return api.Unsealed{Data: sealed[r.Name]} }),
	})()

	ctx := context.Background()
	var agent client.Client
	if _, err := agent.Seal(ctx, api.SealRequest{Name: "token", Data: []byte("hunter2")}); err != nil {
		log.Fatal(err)
	}

	secret, err := agent.Unseal(ctx, api.UnsealRequest{Name: "token"})
	if err != nil {
		log.Fatal(err)
	}
	defer clear(secret)
	fmt.Printf("%s\n", secret)
	// Output: hunter2
}
