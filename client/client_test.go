// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// serve answers on a socket with h and gives its path. The real server is tested with
// this client in agent/internal/server.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "client")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go s.Serve(l)
	t.Cleanup(func() { s.Close(); os.RemoveAll(dir) })
	return path
}

func answer(status int, media, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", media)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// TestRequests checks what each method sends.
func TestRequests(t *testing.T) {
	var got string
	path := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = r.Method + " " + r.URL.RequestURI() + " " + string(b)
		if _, ok := r.Header["Idempotency-Key"]; ok {
			t.Error("a header was sent that means nothing")
		}
		io.WriteString(w, "{}")
	})
	c, a := &Client{Socket: path}, &Admin{Socket: path}
	for want, do := range map[string]func() error{
		`POST /v1/evidence {"nonce":"AQI=","log":"none"}`: func() error {
			_, err := c.Evidence(t.Context(), api.EvidenceRequest{Nonce: []byte{1, 2}, Log: api.LogNone})
			return err
		},
		"GET /v1/self ":                        func() error { _, err := c.Self(t.Context()); return err },
		"GET /v1/status ":                      func() error { _, err := c.Status(t.Context()); return err },
		"GET /v1/log?format=cel-tlv&start=7 ":  func() error { _, err := c.Log(t.Context(), 7); return err },
		"GET /v1/log?format=cel-json&start=0 ": func() error { _, err := c.LogCELJSON(t.Context(), 0); return err },
		"GET /v1/ak ":                          func() error { _, err := c.AK(t.Context()); return err },
		"GET /v1/apps ":                        func() error { _, err := a.Apps(t.Context()); return err },
		"POST /v1/apps/a%2Fb%3F/measure ":      func() error { _, err := a.Measure(t.Context(), "a/b?"); return err },
		`POST /v1/keys/derive {"label":"disk","length":32}`: func() error {
			_, err := c.Derive(t.Context(), api.DeriveRequest{Label: "disk", Length: 32})
			return err
		},
		`POST /v1/sign {"label":"host","algorithm":"ed25519","message":"AQ=="}`: func() error {
			_, err := c.Sign(t.Context(), api.SignRequest{Label: "host", Algorithm: api.SignEd25519, Message: []byte{1}})
			return err
		},
		"GET /v1/keys/public?algorithm=ecdsa-p256&label=a%26b&version=2 ": func() error {
			_, err := c.PublicKey(t.Context(), api.SigningKey{Label: "a&b", Algorithm: api.SignP256, Version: 2})
			return err
		},
		`POST /v1/keys/certify {"label":"acme","algorithm":"tpm-ecdsa-p256","data":"AQ=="}`: func() error {
			_, err := c.Certify(t.Context(), api.CertifyRequest{Label: "acme", Algorithm: api.SignTPMP256, Data: []byte{1}})
			return err
		},
		`POST /v1/evidence {"nonce":"AQI=","signingKey":{"label":"host","algorithm":"ed25519"}}`: func() error {
			_, err := c.Evidence(t.Context(), api.EvidenceRequest{Nonce: []byte{1, 2}, SigningKey: &api.SigningKey{Label: "host", Algorithm: api.SignEd25519}})
			return err
		},
		`POST /v1/seal {"name":"n","data":"AQ=="}`: func() error {
			_, err := c.Seal(t.Context(), api.SealRequest{Name: "n", Data: []byte{1}})
			return err
		},
		`POST /v1/unseal {"name":"n","associatedData":"AQ=="}`: func() error {
			_, err := c.Unseal(t.Context(), api.UnsealRequest{Name: "n", AssociatedData: []byte{1}})
			return err
		},
		`POST /v1/discard {"name":"n"}`: func() error { return c.Discard(t.Context(), "n") },
		"GET /v1/contract ":             func() error { _, err := c.Contract(t.Context(), ""); return err },
		"GET /v1/contract?name=a%26b ":  func() error { _, err := c.Contract(t.Context(), "a&b"); return err },
		"GET /v1/store ":                func() error { _, err := a.Store(t.Context()); return err },
		"GET /v1/store/contract?app=billing&name=n ": func() error {
			_, err := a.Contract(t.Context(), "billing", "n")
			return err
		},
		"POST /v1/store/rewrap ":                        func() error { _, err := a.Rewrap(t.Context()); return err },
		`POST /v1/store/rotate {"app":"billing"}`:       func() error { _, err := a.Rotate(t.Context(), "billing"); return err },
		`POST /v1/store/retire {"app":"b","version":1}`: func() error { return a.Retire(t.Context(), "b", 1) },
		`POST /v1/store/recover {"identities":"AQ==","storeKey":"k"}`: func() error {
			_, err := a.Recover(t.Context(), api.RecoverRequest{Identities: []byte{1}, StoreKey: "k"})
			return err
		},
		`POST /v1/store/recover {}`:        func() error { _, err := a.Recover(t.Context(), api.RecoverRequest{}); return err },
		"POST /v1/store/rotate-store-key ": func() error { _, err := a.RotateStoreKey(t.Context()); return err },
		`POST /v1/store/recipients {"recipients":["age"]}`: func() error {
			_, err := a.ChangeRecipients(t.Context(), api.RecipientsRequest{Recipients: []string{"age"}})
			return err
		},
		"POST /v1/store/accept-rollback ": func() error { _, err := a.AcceptRollback(t.Context()); return err },
		`POST /v1/store/digests {"app":"b","action":"lift"}`: func() error {
			_, err := a.ChangeDigests(t.Context(), api.DigestRequest{App: "b", Action: api.DigestLift})
			return err
		},
		"POST /v1/store/probe ": func() error { _, err := a.Probe(t.Context()); return err },
		"POST /v1/tpm/try ":     func() error { _, err := a.TryTPM(t.Context()); return err },
		"POST /v1/ak/replace ":  func() error { _, err := a.ReplaceAK(t.Context()); return err },
		"POST /v1/reload ":      func() error { _, err := a.Reload(t.Context()); return err },
		`POST /v1/ak/activate {"credential":"AQ==","secret":"Ag=="}`: func() error {
			_, err := a.Activate(t.Context(), api.ActivateRequest{Credential: []byte{1}, Secret: []byte{2}})
			return err
		},
	} {
		if err := do(); err != nil || got != want {
			t.Errorf("got %q %v, want %q", got, err, want)
		}
	}
}

// The zero values ask at the paths in the variables.
func TestZeroValue(t *testing.T) {
	t.Setenv(api.SocketEnv, serve(t, answer(200, "application/json", `{"version":"v","laterMember":{"a":1}}`)))
	t.Setenv(api.AdminEnv, serve(t, answer(200, "application/json", `{"apps":[{"name":"billing"}]}`)))
	var c Client
	if s, err := c.Status(t.Context()); err != nil || s.Version != "v" {
		t.Errorf("%+v %v", s, err)
	}
	var a Admin
	if l, err := a.Apps(t.Context()); err != nil || len(l) != 1 || l[0].Name != "billing" {
		t.Errorf("%+v %v", l, err)
	}
	if (endpoint{"NO_SUCH_VARIABLE", api.Socket}).path("") != api.Socket || clientSocket.path("/x") != "/x" {
		t.Error("path of the socket")
	}
}

func TestProblem(t *testing.T) {
	c := &Client{Socket: serve(t, answer(503, api.ProblemType, `{"status":503,"code":"busy","detail":"d","retryAfter":3,"later":1}`))}
	_, err := c.Self(t.Context())
	var p *api.Problem
	if !errors.As(err, &p) || p.RetryAfter != 3 || !errors.Is(err, &api.Problem{Code: api.CodeBusy}) || errors.Is(err, &api.Problem{Code: api.CodeThrottled}) {
		t.Errorf("got %v", err)
	}
	for name, h := range map[string]http.HandlerFunc{
		"no problem":     answer(502, "text/html", "<h1>"),
		"broken problem": answer(500, api.ProblemType, "{"),
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == api.CallSelf.Path {
				http.Redirect(w, r, "/elsewhere", http.StatusFound)
			} else {
				io.WriteString(w, "{}")
			}
		},
		"broken answer":   answer(200, "application/json", `{"uid":-1}`),
		"answer too long": answer(200, "application/json", "{}"+strings.Repeat(" ", maxAnswer)),
		"cut off": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "{")
		},
	} {
		c := &Client{Socket: serve(t, h)}
		if _, err := c.Self(t.Context()); err == nil || errors.As(err, &p) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestNotThere(t *testing.T) {
	none := t.TempDir() + "/none"
	_, client := (&Client{Socket: none}).Self(t.Context())
	_, admin := (&Admin{Socket: none}).Apps(t.Context())
	for variable, err := range map[string]error{api.SocketEnv: client, api.AdminEnv: admin} {
		if err == nil || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "is agentd running? "+variable+" names") || strings.Contains(err.Error(), "http://") {
			t.Errorf("got %v", err)
		}
	}
}

func TestContext(t *testing.T) {
	hold := make(chan struct{})
	path := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	})
	defer close(hold)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := (&Client{Socket: path}).Self(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// TestOtherProgram: an answer that is not the agent's says what to look for.
func TestOtherProgram(t *testing.T) {
	_, err := (&Client{Socket: serve(t, answer(502, "text/html", "<h1>"))}).Self(t.Context())
	if want := "unexpected HTTP status 502: is another program listening on this socket?"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// A client may be used by many at once; each gets its own answer.
func TestConcurrent(t *testing.T) {
	path := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Write(b)
	})
	var c Client
	c.Socket = path
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			for range 20 {
				nonce := fmt.Appendf(nil, "%016d", n)
				b, err := c.Evidence(t.Context(), api.EvidenceRequest{Nonce: nonce})
				want, _ := strictjson.Encode(api.EvidenceRequest{Nonce: nonce})
				if err != nil || string(b) != string(want) {
					t.Errorf("got %s %v", b, err)
				}
			}
		})
	}
	wg.Wait()
	c.Close()
}
