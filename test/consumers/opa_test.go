// SPDX-License-Identifier: Apache-2.0

package consumers

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/cvm-agentd/agentd/verify/ear"
)

// TestOPA: the policy of docs/tokens.md lets a new token of the one application in, and nothing else.
func TestOPA(t *testing.T) {
	for _, edwards := range []bool{true, false} {
		v := newVerifier(t, edwards)
		set, err := ear.KeySet(v.signer.Public())
		if err != nil {
			t.Fatal(err)
		}
		var jwks any
		if err := json.Unmarshal(set, &jwks); err != nil {
			t.Fatal(err)
		}
		module := block(t, "OPA", "rego")
		if !edwards {
			module = strings.Replace(module, `"EdDSA"`, `"ES256"`, 1)
		}
		data := map[string]any{"jwks": jwks, "issuer": issuer, "policies": []any{"sha256:" + v.policy.Digest().String()}}
		query, err := rego.New(rego.Query("data.agentd.allow"), rego.Module("agentd.rego", module), rego.Store(inmem.NewFromObject(data))).PrepareForEval(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		allows := func(token string) bool {
			t.Helper()
			r, err := query.Eval(t.Context(), rego.EvalInput(map[string]any{"token": token}))
			if err != nil || len(r) != 1 || len(r[0].Expressions) != 1 {
				t.Fatalf("%v, %v", r, err)
			}
			return r[0].Expressions[0].Value == true
		}
		const audience = "https://opa.example"
		good := v.token(t, request{audience: audience})
		if !allows(good) {
			t.Fatalf("Ed25519 %v: OPA refuses a good token", edwards)
		}
		bad := forgeries(t, v, good, audience)
		bad["over"] = v.token(t, request{audience: audience, at: -time.Hour})
		bad["of the future"] = v.token(t, request{audience: audience, at: time.Hour})
		bad["another audience"] = v.token(t, request{audience: "https://vault.example"})
		bad["another application"] = v.token(t, request{audience: audience, app: "payment"})
		bad["refused evidence"] = v.token(t, request{audience: audience, refused: true})
		bad["a test root"] = v.token(t, request{audience: audience, testRoot: true})
		for name, token := range bad {
			if allows(token) {
				t.Errorf("Ed25519 %v: OPA accepts a token: %s", edwards, name)
			}
		}
	}
}
