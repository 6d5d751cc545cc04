// SPDX-License-Identifier: Apache-2.0

package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// issuer is one of OpenID Connect, with what a user gets of it.
type issuer struct {
	t      *testing.T
	server *httptest.Server
	keys   atomic.Pointer[[]byte] // the document of its keys
	key    *ecdsa.PrivateKey
	kid    string
	status atomic.Int32 // of its answers, 0: they are right
	jwks   atomic.Pointer[string]
	asked  atomic.Int32 // how often its keys were asked for
}

func newIssuer(t *testing.T, b *bed) *issuer {
	t.Helper()
	i := &issuer{t: t}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, body []byte) {
		if s := i.status.Load(); s != 0 {
			w.Header().Set("Location", i.server.URL+"/keys")
			w.WriteHeader(int(s))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, fmt.Appendf(nil, `{"issuer":%q,"jwks_uri":%q,"authorization_endpoint":"https://a.example","token_endpoint":"https://a.example","response_types_supported":["id_token"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["ES256","HS256","none"]}`, i.server.URL, *i.jwks.Load()))
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.asked.Add(1)
		answer(w, *i.keys.Load())
	})
	i.server = httptest.NewUnstartedServer(mux)
	i.server.TLS = &tls.Config{Certificates: []tls.Certificate{b.ca.issue(t, "issuer")}}
	i.server.StartTLS()
	t.Cleanup(i.server.Close)
	i.names(i.server.URL + "/keys")
	i.rotate("first")
	return i
}

// names has the issuer name another place for its keys.
func (i *issuer) names(url string) { i.jwks.Store(&url) }

// rotate makes a new key, in place of the one of before.
func (i *issuer) rotate(kid string) {
	i.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes() // 0x04, x and y
	if err != nil {
		i.t.Fatal(err)
	}
	part := base64.RawURLEncoding.EncodeToString
	document, err := json.Marshal(map[string]any{"keys": []any{map[string]any{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid, "x": part(point[1:33]), "y": part(point[33:])}}})
	if err != nil {
		i.t.Fatal(err)
	}
	i.key, i.kid = key, kid
	i.keys.Store(&document)
}

// token is what a user gets, changed by change.
func (i *issuer) token(change jwt.MapClaims) string {
	i.t.Helper()
	return i.signed(jwt.SigningMethodES256, i.key, i.kid, change)
}

func (i *issuer) signed(method jwt.SigningMethod, key any, kid string, change jwt.MapClaims) string {
	i.t.Helper()
	now := time.Now()
	claims := jwt.MapClaims{"iss": i.server.URL, "aud": "agentd-verifier", "sub": "user-1", "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
	maps.Copy(claims, change)
	for k, v := range claims {
		if v == nil {
			delete(claims, k)
		}
	}
	x := jwt.NewWithClaims(method, claims)
	x.Header["kid"] = kid
	s, err := x.SignedString(key)
	if err != nil {
		i.t.Fatal(err)
	}
	return s
}

// settings are those of a worker that takes tokens of the issuer.
func (i *issuer) settings(b *bed, claim, name string) string {
	return fmt.Sprintf("[admin.oidc]\nissuer = %q\naudience = \"agentd-verifier\"\nclaim = %q\nnames = [%q]\nca = %q\n", i.server.URL, claim, name, b.path("ca.crt"))
}

// with asks for the policies with headers of Authorization, and returns the status and the code.
func (w *worker) with(c *http.Client, authorization ...string) (int, string) {
	w.t.Helper()
	r, err := http.NewRequest("GET", w.admin+"/admin/v1/policies", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header["Authorization"] = authorization
	answer, err := c.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	var p struct{ Code string }
	if err := json.NewDecoder(answer.Body).Decode(&p); err != nil {
		w.t.Fatal(err)
	}
	return answer.StatusCode, p.Code
}

// TestTokensOfAdministrators: a token of the issuer, for this service and a name that is listed, is as
// good as a certificate. Everything else is refused, also from a party with a certificate.
func TestTokensOfAdministrators(t *testing.T) {
	b := newBed(t, false)
	i := newIssuer(t, b)
	b.admin = i.settings(b, "sub", "user-1")
	w := b.start("one")
	if code, _ := w.with(w.client, "Bearer "+i.token(nil)); code != 200 {
		t.Fatalf("a token: %d\n%s", code, w.Output())
	}
	point, err := i.key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	long := i.token(jwt.MapClaims{"more": strings.Repeat("x", 12<<10)})
	for name, headers := range map[string][]string{
		"another user":             {"Bearer " + i.token(jwt.MapClaims{"sub": "user-2"})},
		"no user":                  {"Bearer " + i.token(jwt.MapClaims{"sub": nil})},
		"for another service":      {"Bearer " + i.token(jwt.MapClaims{"aud": "another"})},
		"for none":                 {"Bearer " + i.token(jwt.MapClaims{"aud": nil})},
		"expired":                  {"Bearer " + i.token(jwt.MapClaims{"exp": time.Now().Add(-time.Minute).Unix()})},
		"without an end":           {"Bearer " + i.token(jwt.MapClaims{"exp": nil})},
		"of later":                 {"Bearer " + i.token(jwt.MapClaims{"nbf": time.Now().Add(time.Hour).Unix()})},
		"of another issuer":        {"Bearer " + i.token(jwt.MapClaims{"iss": "https://other.example"})},
		"by another key":           {"Bearer " + i.signed(jwt.SigningMethodES256, other, i.kid, nil)},
		"unsigned":                 {"Bearer " + i.signed(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, i.kid, nil)},
		"by the public key":        {"Bearer " + i.signed(jwt.SigningMethodHS256, point, i.kid, nil)},
		"too long":                 {"Bearer " + long},
		"no token":                 {"Bearer x"},
		"empty":                    {""},
		"another scheme":           {"Basic " + i.token(nil)},
		"two, the second is right": {"Bearer x", "Bearer " + i.token(nil)},
		"two, the first is right":  {"Bearer " + i.token(nil), "Bearer x"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range []*http.Client{w.client, b.alice()} {
				if code, said := w.with(c, headers...); code != 403 || said != "not-permitted" {
					t.Errorf("%d, %s", code, said)
				}
			}
		})
	}
	if code, _ := w.with(b.alice()); code != 200 {
		t.Errorf("a certificate: %d", code)
	}
	if code, said := w.with(w.client); code != 403 || said != "not-permitted" {
		t.Errorf("neither: %d, %s", code, said)
	}
	if strings.Contains(w.Output(), strings.Split(long, ".")[0]) {
		t.Error("a token is in the log")
	}

	// The record names the user, and how it came.
	r, err := http.NewRequest("PUT", w.admin+"/admin/v1/policies/default", strings.NewReader(`{"text":"version = 1\nunlisted_launch = \"allow\"\n"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+i.token(nil))
	answer, err := w.client.Do(r)
	if err != nil || answer.StatusCode != 200 {
		t.Fatalf("%v, %v", answer, err)
	}
	answer.Body.Close()
	if all := w.records(); len(all) != 1 || all[0].By != "oidc:user-1" {
		t.Errorf("%+v", all)
	}

	// What a reload takes away does not count any more.
	b.admin = i.settings(b, "sub", "user-2")
	w.config("token.key")
	w.Process.Signal(t, syscall.SIGHUP)
	eventually(t, func() error {
		if code, _ := w.with(w.client, "Bearer "+i.token(nil)); code != 403 {
			return fmt.Errorf("after the reload: %d", code)
		}
		return nil
	})
	if code, _ := w.with(w.client, "Bearer "+i.token(jwt.MapClaims{"sub": "user-2"})); code != 200 {
		t.Errorf("the user that the reload names: %d", code)
	}
}

// TestAddressesOfAdministrators: an address counts if the issuer has verified it.
func TestAddressesOfAdministrators(t *testing.T) {
	b := newBed(t, false)
	i := newIssuer(t, b)
	b.admin = i.settings(b, "email", "user@site.example")
	w := b.start("one")
	for name, c := range map[string]struct {
		claims jwt.MapClaims
		want   int
	}{
		"verified":        {jwt.MapClaims{"email": "user@site.example", "email_verified": true}, 200},
		"another":         {jwt.MapClaims{"email": "other@site.example", "email_verified": true}, 403},
		"not verified":    {jwt.MapClaims{"email": "user@site.example", "email_verified": false}, 403},
		"not said":        {jwt.MapClaims{"email": "user@site.example"}, 403},
		"a text":          {jwt.MapClaims{"email": "user@site.example", "email_verified": "true"}, 403},
		"only as subject": {jwt.MapClaims{"sub": "user@site.example"}, 403},
	} {
		if code, _ := w.with(w.client, "Bearer "+i.token(c.claims)); code != c.want {
			t.Errorf("%s: %d, want %d", name, code, c.want)
		}
	}
}

// TestIssuerAway: after an issuer did not answer, or misled, no restart is needed, and it gets few
// requests however many tokens come.
func TestIssuerAway(t *testing.T) {
	b := newBed(t, false)
	i := newIssuer(t, b)
	b.admin = i.settings(b, "sub", "user-1")
	started := time.Now()
	w := b.start("one")
	eventuallyIs := func(what string, want int) {
		t.Helper()
		eventually(t, func() error {
			if code, said := w.with(w.client, "Bearer "+i.token(nil)); code != want {
				return fmt.Errorf("%s: %d, %s, want %d\n%s", what, code, said, want, w.Output())
			}
			return nil
		})
	}
	i.status.Store(500)
	eventuallyIs("a fault", 503)
	i.status.Store(302)
	eventuallyIs("sent elsewhere", 503)
	i.status.Store(0)
	i.names(strings.Replace(i.server.URL, "https", "http", 1) + "/keys")
	eventually(t, func() error {
		w.with(w.client, "Bearer "+i.token(nil))
		if !strings.Contains(w.Output(), "is not https") {
			return fmt.Errorf("keys over http: %s", w.Output())
		}
		return nil
	})
	if i.asked.Load() != 0 {
		t.Error("the keys were fetched without TLS")
	}

	i.names(i.server.URL + "/keys")
	eventuallyIs("the issuer is back", 200)
	i.rotate("second")
	eventuallyIs("another key", 200)

	// Keys of more than 1 MiB are not read, and little of them is in the log.
	i.rotate("third")
	whole := *i.keys.Load()
	long := append([]byte(strings.Repeat(" ", 1<<20)), whole...)
	i.keys.Store(&long)
	asked := i.asked.Load()
	eventually(t, func() error {
		if code, _ := w.with(w.client, "Bearer "+i.token(nil)); code == 200 {
			t.Fatal("a document of more than 1 MiB was read")
		}
		if i.asked.Load() == asked {
			return errors.New("the keys were not asked for")
		}
		return nil
	})
	i.keys.Store(&whole)
	eventuallyIs("a document that fits", 200)

	before, begin := i.asked.Load(), time.Now()
	for n := range 200 {
		w.with(w.client, "Bearer "+i.signed(jwt.SigningMethodES256, i.key, fmt.Sprint("unknown-", n), nil))
	}
	if most := 6 + int32(time.Since(begin)/(2*time.Second)); i.asked.Load()-before > most {
		t.Errorf("200 tokens of unknown keys cost the issuer %d requests, at most %d are wanted", i.asked.Load()-before, most)
	}
	eventuallyIs("after that", 200)
	if n, most := strings.Count(w.Output(), "administrator's token"), 6+int(2*time.Since(started)/time.Second); n > most || len(w.Output()) > 1<<20 {
		t.Errorf("%d lines and %d bytes are in the log, at most %d lines are wanted", n, len(w.Output()), most)
	}

	// Without the settings, no token counts.
	b.admin = ""
	w.config("token.key")
	w.Process.Signal(t, syscall.SIGHUP)
	eventually(t, func() error {
		code, err := ask(b.alice(), "GET", w.admin+"/admin/v1/policies", nil, nil)
		if err != nil || code != 200 {
			return fmt.Errorf("%d, %w", code, err)
		}
		if code, _ := w.with(b.alice(), "Bearer "+i.token(nil)); code != 403 {
			return fmt.Errorf("without [admin.oidc]: %d", code)
		}
		return nil
	})
}
