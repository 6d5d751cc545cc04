// SPDX-License-Identifier: Apache-2.0

package attestedtls_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/verify"
)

// newVerifier reads the policy of a relying party. It names the caller:
//
//	[caller]
//	unit = "billing.service"
func newVerifier() *attestedtls.Verifier {
	text, err := os.ReadFile("policy.toml")
	if err != nil {
		log.Fatal(err)
	}
	policy, err := verify.ParsePolicy(text)
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := attestedtls.NewVerifier(policy, attestedtls.VerifierOptions{})
	if err != nil {
		log.Fatal(err)
	}
	return verifier
}

// A relying party connects to a machine, and knows what runs there before it sends a byte.
func ExampleClient_Dial() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := &attestedtls.Client{Verifier: newVerifier()}
	conn, err := client.Dial(ctx, "tcp", "machine.example:443")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Println(conn.Verdict().Claims.Statement.Caller.Unit)
}

// A policy that is signed, and may expire: nothing is accepted from then on.
func ExampleNewSignedVerifier() {
	pem, err := os.ReadFile("policy-keys.pem")
	if err != nil {
		log.Fatal(err)
	}
	keys, err := verify.ParsePolicyKeys(pem)
	if err != nil {
		log.Fatal(err)
	}
	text, err := os.ReadFile("policy.dsse")
	if err != nil {
		log.Fatal(err)
	}
	policy, err := keys.Parse(text, time.Now())
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := attestedtls.NewSignedVerifier(policy, attestedtls.VerifierOptions{JudgeOpen: true})
	if err != nil {
		log.Fatal(err)
	}
	client := &attestedtls.Client{Verifier: verifier}
	if err := client.Check(); err != nil {
		log.Fatal(err)
	}
}

// Requests over HTTP. A machine that the policy refuses gets none.
func ExampleClient_Transport() {
	client := &attestedtls.Client{Verifier: newVerifier(), Application: "http/1.1"}
	web := &http.Client{Transport: client.Transport()}
	answer, err := web.Get("https://machine.example/")
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	fmt.Println(attestedtls.VerdictFrom(answer.Request.Context()).Claims.Machine.Measurement)
}

// The machine serves HTTP. Its certificate is any that TLS accepts. The agent is asked for
// evidence for each connection.
func ExampleServer_Serve() {
	certificate, err := tls.LoadX509KeyPair("certificate.pem", "key.pem")
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", ":443")
	if err != nil {
		log.Fatal(err)
	}
	server := &attestedtls.Server{TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}, Application: "http/1.1"}
	log.Fatal(server.Serve(&http.Server{ReadHeaderTimeout: time.Minute}, listener))
}

// Both ends attest, and each verifies the other. The handler sees who asks.
func ExampleVerdictFrom() {
	listener, err := net.Listen("tcp", ":443")
	if err != nil {
		log.Fatal(err)
	}
	server := &attestedtls.Server{Verifier: newVerifier(), Attester: new(attestedtls.Attester)}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims := attestedtls.VerdictFrom(r.Context()).Claims
		fmt.Fprintln(w, "hello,", claims.Statement.Caller.App)
	})
	log.Fatal(server.Serve(&http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}, listener))
}

// An application asks for more than the policy, and tells refusals apart.
func ExampleHook() {
	client := &attestedtls.Client{
		Verifier: newVerifier(),
		Hook: func(ctx context.Context, v *attestedtls.Verdict) error {
			if err := attestedtls.Block(ctx, v); err != nil {
				return err
			}
			if v.Claims.Machine.Label == "last year's image" {
				return errors.New("too old")
			}
			return nil
		},
	}
	conn, err := client.Dial(context.Background(), "tcp", "machine.example:443")
	switch {
	case errors.Is(err, attestedtls.ErrMisuse):
		log.Fatal("the configuration makes no sense: ", err)
	case errors.Is(err, attestedtls.CodePolicy), errors.Is(err, attestedtls.CodeBlocked):
		log.Fatal("a genuine machine, and not one that we want: ", err)
	case err != nil:
		log.Fatal(err)
	}
	defer conn.Close()
}

// A handler looks at the connection that a request came over.
func ExampleFrom() {
	handler := func(w http.ResponseWriter, r *http.Request) {
		if conn := attestedtls.From(r.Context()); conn != nil {
			log.Println("a request from", conn.RemoteAddr())
		}
	}
	http.HandleFunc("/", handler)
}

// Before a policy is enforced, a relying party looks at what it would refuse.
func ExampleWarn() {
	client := &attestedtls.Client{
		Verifier: newVerifier(),
		Hook: attestedtls.Warn(func(v *attestedtls.Verdict) {
			log.Println("would be refused:", v.Refusal)
		}),
	}
	conn, err := client.Dial(context.Background(), "tcp", "machine.example:443")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
}

// A policy is replaced while connections are open. Those that it refuses are closed, if the
// verifier was made with JudgeOpen.
func ExampleVerifier_Replace() {
	verifier := newVerifier()
	text, err := os.ReadFile("policy.toml")
	if err != nil {
		log.Fatal(err)
	}
	policy, err := verify.ParsePolicy(text)
	if err != nil {
		log.Fatal(err)
	}
	closed, err := verifier.Replace(policy, verify.Config{})
	if err != nil {
		log.Print(err) // the policy of before stays in force
	}
	fmt.Println("closed", closed)
}

// A browser asks for evidence with an ordinary request. It does not survive relay.
func ExampleEvidenceHandler() {
	listener, err := net.Listen("tcp", ":443")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(attestedtls.EvidencePath, new(attestedtls.EvidenceHandler))
	server := &attestedtls.Server{AlsoPlain: true}
	log.Fatal(server.Serve(&http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}, listener))
}
