// SPDX-License-Identifier: Apache-2.0

package deviceattest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/evidence"
)

// TestObject: an attestation object has the bytes of RFC 8949, in the order of CTAP2. A reader of others
// (step-ca) reads larger ones in test/acme.
func TestObject(t *testing.T) {
	signature := []byte{0, 0x14, 0, 0x0b, 0xaa}
	o := object{chain: []evidence.Bytes{bytes.Repeat([]byte{1}, 24), bytes.Repeat([]byte{2}, 256)}, public: []byte{3}, certified: nil, signature: signature}
	want := "a2" + "63666d74" + "6374706d" + "6761747453746d74" + "a6" +
		"63616c67" + "390100" + "63736967" + "450014000baa" + "63766572" + "63322e30" +
		"63783563" + "82" + "5818" + strings.Repeat("01", 24) + "590100" + strings.Repeat("02", 256) +
		"6770756241726561" + "4103" + "6863657274496e666f" + "40"
	b, err := o.encode()
	if err != nil || hex.EncodeToString(b) != want {
		t.Errorf("%v, %x\nwant %s", err, b, want)
	}
}

// TestAlgorithm: the format has no name for other signatures, and a wrong name would have the server
// compute another hash.
func TestAlgorithm(t *testing.T) {
	for signature, want := range map[string]int{"0018000b00": es256, "0014000b00": rs256, "0016000b00": 0, "0018000c00": 0, "001400": 0, "": 0} {
		b, err := hex.DecodeString(signature)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := algorithm(b); got != want || (err == nil) != (want != 0) {
			t.Errorf("%s: %d, %v", signature, got, err)
		}
	}
}

// stub is an agent that makes evidence, which no verifier accepts.
func stub(t *testing.T) *client.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"type":"agentd/evidence/2"}`)
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return &client.Client{Socket: path}
}

// authorityOf is a client of an attestation authority that answers so to a request for an appraisal.
func authorityOf(t *testing.T, answer http.HandlerFunc) *Client {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/challenges", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"nonce":%q,"expires":"2031-01-01T00:00:00Z"}`, base64.StdEncoding.EncodeToString(make([]byte, 32)))
	})
	mux.HandleFunc("POST /v1/appraisals", answer)
	s := httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return &Client{Authority: Server{URL: s.URL, TLS: &tls.Config{RootCAs: roots}}}
}

func say(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
}

// TestAuthorityAnswers: whatever an attestation authority answers, there is a certificate or a reason.
func TestAuthorityAnswers(t *testing.T) {
	pass := `{"appraisal":{"verdict":"pass","class":0,"checks":[]}`
	many := strings.Repeat(`"AA==",`, maxChain) + `"AA=="`
	for name, x := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"a certificate":               {say(pass + `,"new":1,"akCertificate":{"chain":["AA=="],"permanentIdentifier":"m","notAfter":"2031-01-01T00:00:00Z"}}`), ""},
		"refused":                     {say(`{"appraisal":{"verdict":"fail","class":5,"checks":[{"id":"policy.tcb","verdict":"fail","sentence":"too\u001b[2J old","required":true},{"id":"a","verdict":"pass","sentence":"","required":true},{"id":"b","verdict":"not-asserted","sentence":"open","required":true},{"id":"c","verdict":"not-asserted","sentence":"","required":false}]}}`), "refused the evidence: policy.tcb: too"},
		"refused, with a certificate": {say(`{"appraisal":{"verdict":"fail","class":5,"checks":[]},"akCertificate":{"chain":["AA=="],"permanentIdentifier":"m"}}`), "refused the evidence"},
		"no reason":                   {say(pass + `}`), "gives no reason"},
		"a reason":                    {say(pass + `,"uncertified":"no name here"}`), "no name here"},
		"an empty chain":              {say(pass + `,"akCertificate":{"chain":[],"permanentIdentifier":"m"}}`), "0 certificates"},
		"a long chain":                {say(pass + `,"akCertificate":{"chain":[` + many + `],"permanentIdentifier":"m"}}`), "17 certificates"},
		"no identifier":               {say(pass + `,"akCertificate":{"chain":["AA=="],"permanentIdentifier":""}}`), `identifier ""`},
		"a long identifier":           {say(pass + `,"akCertificate":{"chain":["AA=="],"permanentIdentifier":"` + strings.Repeat("m", maxIdentifier+1) + `"}}`), "want 1 to"},
		"not JSON":                    {say("<html>"), "another document"},
		"nothing":                     {say(""), "another document"},
		"too much":                    {say(`{"uncertified":"` + strings.Repeat("a", maxAnswer) + `"}`), errLarge.Error()},
		"another address": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://other.example/", http.StatusTemporaryRedirect)
		}, "redirects to https://other.example/"},
		"a status of the server between": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, "502"},
		"a problem": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(409)
			io.WriteString(w, `{"type":"about:blank","title":"t","status":409,"code":"challenge-unknown","detail":"ask for a new one"}`)
		}, "ask for a new one"},
	} {
		t.Run(name, func(t *testing.T) {
			c := authorityOf(t, x.answer)
			_, err := c.certifyAK(t.Context(), stub(t), api.SigningKey{Label: "tls", Algorithm: api.SignTPMP256})
			if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
				t.Fatalf("%v, want %q", err, x.want)
			}
			if r, is := errors.AsType[*RefusedError](err); is && len(r.Failed) > 0 && (r.Class != 5 || len(r.Failed) != 2 || strings.Contains(err.Error(), "\x1b")) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestOnlyHTTPS: also if a server names the address.
func TestOnlyHTTPS(t *testing.T) {
	s := httptest.NewServer(say("{}"))
	defer s.Close()
	c := &Client{Authority: Server{URL: s.URL}}
	if _, err := c.certifyAK(t.Context(), stub(t), api.SigningKey{}); err == nil || !strings.Contains(err.Error(), "not of https") {
		t.Errorf("the authority: %v", err)
	}
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"newNonce":%q,"newAccount":%q,"newOrder":%q}`, s.URL, s.URL, s.URL)
	}))
	defer secure.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	o := &order{acme: &acme.Client{DirectoryURL: secure.URL, HTTPClient: newHTTP(&Server{TLS: &tls.Config{RootCAs: roots}}), Key: testKey(t)}}
	if err := o.register(t.Context()); err == nil || !strings.Contains(err.Error(), "not of https") {
		t.Errorf("an address of the directory: %v", err)
	}
	if err := (&order{acme: &acme.Client{DirectoryURL: secure.URL, HTTPClient: newHTTP(&Server{})}}).register(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server that nothing vouches for: %v", err)
	}
}

// TestTerms: terms of service are not accepted in the name of a person who was not asked.
func TestTerms(t *testing.T) {
	var asked []string
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		io.WriteString(w, `{"newNonce":"https://127.0.0.1:1/n","newAccount":"https://127.0.0.1:1/a","newOrder":"https://127.0.0.1:1/o","meta":{"termsOfService":"https://terms.example"}}`)
	}))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	o := &order{acme: &acme.Client{DirectoryURL: s.URL, HTTPClient: newHTTP(&Server{TLS: &tls.Config{RootCAs: roots}}), Key: testKey(t)}}
	if err := o.register(t.Context()); err == nil || !strings.Contains(err.Error(), "https://terms.example") || len(asked) != 1 {
		t.Errorf("%v, asked %v", err, asked)
	}
}

// TestChallenges: the challenge is found among others, and its absence is said with what to do.
func TestChallenges(t *testing.T) {
	z := &acme.Authorization{Challenges: []*acme.Challenge{{Type: "http-01"}, {Type: challengeType, Token: "t"}}}
	if c, err := find(z); err != nil || c.Token != "t" {
		t.Errorf("%+v, %v", c, err)
	}
	z.Challenges = slices.Delete(z.Challenges, 1, 2)
	if c, err := find(z); c != nil || err == nil || !strings.Contains(err.Error(), `["http-01"], want device-attest-01: enable it there`) {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestServerThatNeverDecides: an authorization that stays pending ends with the context.
func TestServerThatNeverDecides(t *testing.T) {
	var s *httptest.Server
	s = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Replay-Nonce", "n")
		switch r.URL.Path {
		case "/":
			fmt.Fprintf(w, `{"newNonce":%q,"newAccount":%q,"newOrder":%q}`, s.URL+"/n", s.URL+"/a", s.URL+"/o")
		default:
			fmt.Fprintf(w, `{"status":"pending","identifier":{"type":"permanent-identifier","value":"m"},"challenges":[{"type":"device-attest-01","status":"processing","token":"t","url":%q}]}`, s.URL+"/c")
		}
	}))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	o := &order{acme: &acme.Client{DirectoryURL: s.URL, HTTPClient: newHTTP(&Server{TLS: &tls.Config{RootCAs: roots}}), Key: testKey(t), KID: "k"}}
	if err := o.decided(ctx, s.URL+"/z", new(acme.Authorization), &acme.Challenge{Status: acme.StatusProcessing}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
