// SPDX-License-Identifier: Apache-2.0

package relying_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/verify/ear"
)

// TestTokens: a token comes with accepted evidence alone, under the first key, and all keys are
// published. Keys are exchanged by overlap: each token verifies with a set that was read before it was
// made, and with one that is read while it lasts.
func TestTokens(t *testing.T) {
	var all []*ear.Key
	for _, seed := range []byte{1, 2} {
		k, err := ear.NewKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, k)
	}
	one, two := all[0], all[1]
	var mu sync.Mutex
	var inForce []*ear.Key
	f := serve(t, func(c *relying.Config) {
		c.Keys = func() []*ear.Key { mu.Lock(); defer mu.Unlock(); return inForce }
		c.Token = ear.Options{Audience: "https://vault.example", Build: "test 1"}
	})
	for i, step := range [][]*ear.Key{{one}, {one, two}, {two, one}, {two}} {
		var before map[string]ed25519.PublicKey
		if i > 0 {
			before = f.keys(t)
		}
		mu.Lock()
		inForce = step
		mu.Unlock()
		code, a := f.appraise(t, nil)
		after := f.keys(t)
		if code != 200 || !verifies(a.Token, after, step[0].ID()) || i > 0 && !verifies(a.Token, before, step[0].ID()) || len(after) != len(step) {
			t.Errorf("%d: %d, %q, %v, %v", i, code, a.Token, before, after)
		}
	}
	if code, a := f.appraise(t, func(r *evidencetest.Recipe) { r.Statement.Nonce = evidencetest.Nonce }); code != 200 || a.Appraisal.Verdict != "fail" || a.Token != "" {
		t.Errorf("%d, %s, %q", code, a.Appraisal.Verdict, a.Token)
	}
	if code := serve(t, nil).get(t, "/v1/jwks"); code != 404 {
		t.Errorf("without keys: %d", code)
	}
	if code, a := serve(t, nil).appraise(t, nil); code != 200 || a.Token != "" {
		t.Errorf("without keys: %d, %q", code, a.Token)
	}
}

// keys returns the published keys by kid.
func (f *fixture) keys(t *testing.T) map[string]ed25519.PublicKey {
	t.Helper()
	r, err := http.Get(f.URL + "/v1/jwks")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var set struct{ Keys []struct{ Kid, X string } }
	if err := json.NewDecoder(r.Body).Decode(&set); err != nil || r.Header.Get("Content-Type") != "application/jwk-set+json" {
		t.Fatalf("%v, %v", err, r.Header)
	}
	out := map[string]ed25519.PublicKey{}
	for _, k := range set.Keys {
		b, err := base64.RawURLEncoding.DecodeString(k.X)
		if err != nil || len(b) != ed25519.PublicKeySize {
			t.Fatalf("%v, %q", err, k.X)
		}
		out[k.Kid] = b
	}
	return out
}

// verifies reports whether a token is signed by the key of a set that its header names, and that is this
// one.
func verifies(token string, set map[string]ed25519.PublicKey, id string) bool {
	message, signature, ok := cutLast(token, ".")
	header, _, _ := strings.Cut(message, ".")
	var h struct{ Kid string }
	b, err := base64.RawURLEncoding.DecodeString(header)
	s, err2 := base64.RawURLEncoding.DecodeString(signature)
	return ok && err == nil && err2 == nil && json.Unmarshal(b, &h) == nil && h.Kid == id && set[id] != nil && ed25519.Verify(set[id], []byte(message), s)
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
