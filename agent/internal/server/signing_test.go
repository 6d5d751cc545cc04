// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
)

// withKey is the body of a request for evidence that names a signing key, and more members.
func withKey(more string) string {
	return `{"nonce":"AAAAAAAAAAAAAAAAAAAAAA==","audience":"bank","signingKey":{"label":"host","algorithm":"ed25519"}` + more + `}`
}

// TestEvidenceWithSigningKey checks that the agent names the key of the caller's app, and proves its
// possession for exactly this caller, nonce and run of the agent.
func TestEvidenceWithSigningKey(t *testing.T) {
	agentKey := ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)
	type request struct {
		api.EvidenceRequest
		of evidence.Caller
	}
	asked := make(chan request, 1)
	f := &fake{attest: func(_ context.Context, r api.EvidenceRequest, c evidence.Caller) ([]byte, error) {
		asked <- request{r, c}
		return answerFor(r, c), nil
	}}
	r := run(t, f, Limits{}, func(c *Config) { c.AgentKey = agentKey })
	status, b, p := ask(t, as(r.client, 1000), "POST", api.CallEvidence.Path, withKey(""))
	if status != http.StatusOK {
		t.Fatalf("%s %v", b, p)
	}
	got := <-asked
	public, _ := signer(Owner{App: "billing", UID: 1000}, "host")
	if string(got.PublicKey) != string(public) {
		t.Errorf("the statement names %x", []byte(got.PublicKey))
	}
	message := evidence.KeyProofMessage(&evidence.Statement{Nonce: make([]byte, 16), Audience: "bank", Caller: got.of}, agentKey)
	if err := keys.CheckPossession(public, message, got.KeyProof); err != nil || got.of.UID != 1000 {
		t.Errorf("uid %d: %v", got.of.UID, err)
	}
}

// TestSigningKeyIsNotMixed checks that a request for evidence names one key, in one way.
func TestSigningKeyIsNotMixed(t *testing.T) {
	r := run(t, &fake{attest: func(context.Context, api.EvidenceRequest, evidence.Caller) ([]byte, error) {
		t.Error("evidence was made")
		return []byte("{}"), nil
	}}, Limits{}, nil)
	for _, x := range []struct {
		socket, body, where string
		code                api.Code
	}{
		{r.client, withKey(`,"publicKey":"AAAA"`), "/publicKey", api.CodeInvalidValue},
		{r.client, withKey(`,"publicKey":"AAAA","keyProof":"AAAA"`), "/publicKey", api.CodeInvalidValue},
		{r.client, withKey(`,"keyProof":"AAAA"`), "/keyProof", api.CodeInvalidValue},
		{r.admin, withKey(""), "", api.CodeNotPermitted},
	} {
		_, b, p := ask(t, as(x.socket, 1000), "POST", api.CallEvidence.Path, x.body)
		if p == nil || p.Code != x.code || p.Where != x.where {
			t.Errorf("%s: %s", x.body, b)
		}
	}
}

// TestPublicKeyParameters checks that a key is named in full, and its version is a number.
func TestPublicKeyParameters(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	for query, where := range map[string]string{
		"":                                 "label",
		"?label=host":                      "algorithm",
		"?algorithm=ed25519":               "label",
		"?label=a&algorithm=b&version=x":   "version",
		"?label=a&algorithm=b&version=-1":  "version",
		"?label=a&algorithm=b&version=1.0": "version",
		fmt.Sprint("?label=a&algorithm=b&version=", uint64(1)<<32): "version",
	} {
		_, b, p := ask(t, as(r.client, 1000), "GET", api.CallPublic.Path+query, "")
		if p == nil || p.Code != api.CodeInvalidValue || p.Where != where {
			t.Errorf("%s: %s", query, b)
		}
	}
	_, b, p := ask(t, as(r.client, 1000), "GET", api.CallPublic.Path+"?label=host&algorithm=ed25519&version=3", "")
	if p != nil || !strings.Contains(string(b), `"version":3`) {
		t.Errorf("%s", b)
	}
}
