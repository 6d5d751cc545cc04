// SPDX-License-Identifier: Apache-2.0

package relying_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/verify"
)

// service returns a handler that verifies evidence for clients that have no Go.
func service(policy *verify.Policy, verifier *verify.Verifier) (http.Handler, error) {
	return relying.New(relying.Config{
		Policies: func(context.Context) (*verify.Verifier, *verify.Policy, error) {
			return verifier, policy, nil
		},
		Challenges: relying.NewMemoryChallenges(10_000),
		Logs:       relying.NewMemoryLogs(10_000),
	})
}

// A server limits its clients, and passes their requests to the handler.
func Example() {
	policy, err := verify.ParsePolicy([]byte("version = 1\nunlisted_launch = \"allow\"\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier, err := verify.New(policy, verify.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	h, err := service(policy, verifier)
	if err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(h)
	defer server.Close()
	for _, path := range []string{"/v1/challenges", "/v1/appraisals"} {
		r, err := http.Post(server.URL+path, "application/json", strings.NewReader("{}"))
		if err != nil {
			fmt.Println(err)
			return
		}
		r.Body.Close()
		fmt.Println(path, r.StatusCode, r.Header.Get("Content-Type"))
	}
	// Output:
	// /v1/challenges 200 application/json
	// /v1/appraisals 400 application/problem+json
}

// certifying returns a handler that also certifies attestation keys of accepted evidence, by an authority
// with its certificates and its key.
func certifying(policies func(context.Context) (*verify.Verifier, *verify.Policy, error), chain []*x509.Certificate, key crypto.Signer) (http.Handler, error) {
	authority := &relying.Authority{Chain: chain, Key: key}
	return relying.New(relying.Config{
		Policies:   policies,
		Challenges: relying.NewMemoryChallenges(10_000),
		Logs:       relying.NewMemoryLogs(10_000),
		Authority:  authority,
	})
}

// An authority needs certificates that may issue others.
func ExampleAuthority() {
	_, err := certifying(func(context.Context) (*verify.Verifier, *verify.Policy, error) { return nil, nil, nil }, nil, nil)
	fmt.Println(err)
	// Output:
	// relying: an authority needs a key, and 1 to 8 certificates
}
