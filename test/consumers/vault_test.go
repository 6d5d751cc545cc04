// SPDX-License-Identifier: Apache-2.0

package consumers

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	jwtauth "github.com/hashicorp/vault-plugin-auth-jwt"
	"github.com/hashicorp/vault/sdk/logical"
)

// vault is the JWT auth method, set up as docs/tokens.md does it.
type vault struct {
	t       *testing.T
	backend logical.Backend
	storage logical.Storage
}

func newVault(t *testing.T, v *verifier) *vault {
	t.Helper()
	system := &logical.StaticSystemView{DefaultLeaseTTLVal: time.Hour, MaxLeaseTTLVal: time.Hour}
	storage := &logical.InmemStorage{}
	b, err := jwtauth.Factory(t.Context(), &logical.BackendConfig{Logger: hclog.NewNullLogger(), System: system, StorageView: storage})
	if err != nil {
		t.Fatal(err)
	}
	x := &vault{t, b, storage}
	if r := x.ask(logical.UpdateOperation, "config", map[string]any{"jwt_validation_pubkeys": []string{string(v.publicPEM(t))}, "bound_issuer": issuer}); r.IsError() {
		t.Fatal(r.Error())
	}
	role := between(t, block(t, "Vault and OpenBao", "sh"), "<<'EOF'\n", "\nEOF\n")
	role = strings.Replace(role, "sha256:...", "sha256:"+v.policy.Digest().String(), 1)
	var data map[string]any
	if err := json.Unmarshal([]byte(role), &data); err != nil {
		t.Fatalf("%v in\n%s", err, role)
	}
	if r := x.ask(logical.CreateOperation, "role/billing", data); r != nil && r.IsError() {
		t.Fatal(r.Error())
	}
	return x
}

func between(t *testing.T, s, begin, end string) string {
	t.Helper()
	_, rest, found := strings.Cut(s, begin)
	out, _, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("no text between %q and %q in\n%s", begin, end, s)
	}
	return out
}

func (x *vault) ask(op logical.Operation, path string, data map[string]any) *logical.Response {
	x.t.Helper()
	r, err := x.backend.HandleRequest(x.t.Context(), &logical.Request{Operation: op, Path: path, Storage: x.storage, Data: data, Connection: &logical.Connection{RemoteAddr: "127.0.0.1"}})
	if err != nil && r == nil {
		r = logical.ErrorResponse("%v", err)
	}
	return r
}

// TestVault: the role of docs/tokens.md logs the one application in by a new token, and nothing else.
func TestVault(t *testing.T) {
	for _, edwards := range []bool{true, false} {
		logsIn(t, newVerifier(t, edwards))
	}
}

// logsIn tries the tokens of a verifier, whose key Vault was given.
func logsIn(t *testing.T, v *verifier) {
	t.Helper()
	x := newVault(t, v)
	const audience = "https://vault.example"
	login := func(token string) *logical.Response {
		return x.ask(logical.UpdateOperation, "login", map[string]any{"role": "billing", "jwt": token})
	}
	good := v.token(t, request{audience: audience})
	if r := login(good); r.IsError() || r.Auth == nil || r.Auth.Alias.Name != "app:billing" || len(r.Auth.Policies) != 1 || r.Auth.Policies[0] != "billing" {
		t.Fatalf("Vault refuses a good token: %+v", r)
	}
	bad := forgeries(t, v, good, audience)
	bad["over"] = v.token(t, request{audience: audience, at: -time.Hour})
	bad["of the future"] = v.token(t, request{audience: audience, at: time.Hour})
	bad["another audience"] = v.token(t, request{audience: "https://opa.example"})
	bad["another application"] = v.token(t, request{audience: audience, app: "payment"})
	bad["refused evidence"] = v.token(t, request{audience: audience, refused: true})
	bad["a test root"] = v.token(t, request{audience: audience, testRoot: true})
	for name, token := range bad {
		if r := login(token); !r.IsError() {
			t.Errorf("Vault logs in: %s", name)
		}
	}
}
