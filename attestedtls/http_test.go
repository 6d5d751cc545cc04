// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// serve serves a handler, and returns the address.
func serve(t *testing.T, s *Server, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	done := make(chan error, 1)
	go func() { done <- s.Serve(server, l) }()
	t.Cleanup(func() {
		server.Close()
		waitFor(t, done)
	})
	return l.Addr().String()
}

// unitOf returns the unit of the caller in the verdict of a context, or a word.
func unitOf(ctx context.Context) string {
	v := VerdictFrom(ctx)
	switch {
	case v == nil:
		return "unverified"
	case v.Claims == nil:
		return "refused: " + string(v.Refusal.Code)
	}
	return v.Claims.Statement.Caller.Unit
}

// get sends a request, and returns what the handler says of the client, and the client's context of
// the server.
func get(t *testing.T, c *http.Client, url string) (body, server string, err error) {
	t.Helper()
	answer, err := c.Get(url)
	if err != nil {
		return "", "", err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.TLS == nil || answer.TLS.NegotiatedProtocol != Protocol {
		t.Errorf("the answer's TLS is %+v", answer.TLS)
	}
	return string(b), unitOf(answer.Request.Context()), nil
}

// saysUnit answers with the unit of the client.
var saysUnit = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil || r.TLS.NegotiatedProtocol != Protocol {
		http.Error(w, "no TLS", http.StatusInternalServerError)
		return
	}
	io.WriteString(w, unitOf(r.Context()))
})

// TestHTTP: requests come over connections that are kept; both ends find the verdict on the other.
func TestHTTP(t *testing.T) {
	for i, application := range []string{"", ApplicationHTTP2, "http/1.1", ApplicationHTTP2} {
		agent, mutual := &machine{tb: t}, i > 1
		s := &Server{Attester: &Attester{Agent: agent}, Application: application}
		c := &Client{AnyCertificate: true, Verifier: usual(t), Application: application}
		want := "unverified"
		if mutual {
			s.Verifier, c.Attester = usual(t), attests(t, nil)
			want = "billing.service"
		}
		url := "https://" + serve(t, s, saysUnit)
		transport := c.Transport()
		web := &http.Client{Transport: transport}
		for range 5 {
			body, server, err := get(t, web, url)
			if err != nil || body != want || server != "billing.service" {
				t.Errorf("mutual %v: %q, %q, %v", mutual, body, server, err)
			}
		}
		if n := agent.asked.Load(); n != 1 {
			t.Errorf("the agent was asked %d times for one connection", n)
		}
		transport.CloseIdleConnections()
		if _, _, err := get(t, web, url); err != nil || agent.asked.Load() != 2 {
			t.Errorf("%v, and the agent was asked %d times for two connections", err, agent.asked.Load())
		}
		if _, err := web.Get("http://" + strings.TrimPrefix(url, "https://")); err == nil || !strings.Contains(err.Error(), "want https") {
			t.Errorf("a URL of http: %v", err)
		}
		transport.CloseIdleConnections()
	}
}

// TestHTTP2: ends that name HTTP/2 speak it, over one connection for requests at the same time. Ends
// that name another protocol do not.
func TestHTTP2(t *testing.T) {
	says := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || r.TLS.NegotiatedProtocol != Protocol || From(r.Context()) == nil {
			t.Errorf("the request's TLS is %+v", r.TLS)
		}
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		io.WriteString(w, string(b)+r.Proto+" "+r.Host)
	})
	for application, want := range map[string]string{ApplicationHTTP2: "HTTP/2.0", "http/1.1": "HTTP/1.1", "": "HTTP/1.1"} {
		agent := &machine{tb: t}
		address := serve(t, &Server{Attester: &Attester{Agent: agent}, Application: application}, says)
		c := &Client{AnyCertificate: true, Verifier: usual(t), Application: application}
		transport := c.Transport()
		body := strings.Repeat("x", 100<<10)
		send := func() {
			r, err := (&http.Client{Transport: transport}).Post("https://"+address, "text/plain", strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Body.Close()
			got, err := io.ReadAll(r.Body)
			if err != nil || string(got) != body+want+" "+address || r.Proto != want || r.Request.URL.Scheme != "https" || r.TLS == nil || unitOf(r.Request.Context()) != "billing.service" {
				t.Errorf("%s: %q, %v, TLS %v", application, strings.TrimLeft(string(got), "x"), err, r.TLS != nil)
			}
		}
		send()
		var all sync.WaitGroup
		for range 20 {
			all.Go(send)
		}
		all.Wait()
		if n := agent.asked.Load(); application == ApplicationHTTP2 && n != 1 {
			t.Errorf("%d connections for requests that one could carry", n)
		}
		transport.CloseIdleConnections()
	}
	// A client that does not speak it gets no answer, and neither does one of HTTP/2 from a server that
	// does not: names are compared before.
	address := serve(t, &Server{Attester: attests(t, nil), Application: ApplicationHTTP2}, says)
	_, err := (&http.Client{Transport: (&Client{AnyCertificate: true, Verifier: usual(t)}).Transport()}).Get("https://" + address)
	has(t, err, CodeApplication, true)
	conn, err := (&Client{AnyCertificate: true, Verifier: usual(t), Application: ApplicationHTTP2}).Dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	conn.SetReadDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(conn); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(string(b), "200 OK") {
		t.Errorf("a request of HTTP/1.1: %q, %v", b, err)
	}
}

// TestServeKeepsContext: what a server of net/http has for its connections is kept, and gets those of
// this package.
func TestServeKeepsContext(t *testing.T) {
	type key struct{}
	for _, application := range []string{"", ApplicationHTTP2} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, key{}, c) }}
		server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c, is := r.Context().Value(key{}).(*Conn); !is || c != From(r.Context()) {
				http.Error(w, "another connection", http.StatusInternalServerError)
			}
		})
		done := make(chan error, 1)
		go func() { done <- (&Server{Attester: attests(t, nil), Application: application}).Serve(server, l) }()
		transport := (&Client{AnyCertificate: true, Verifier: usual(t), Application: application}).Transport()
		answer, err := (&http.Client{Transport: transport}).Get("https://" + l.Addr().String())
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Errorf("%q: %v, %v", application, answer, err)
		} else {
			answer.Body.Close()
		}
		transport.CloseIdleConnections()
		server.Close()
		waitFor(t, done)
	}
}

// closes is a body that says whether it was closed.
type closes struct {
	io.Reader
	closed bool
}

func (c *closes) Close() error {
	c.closed = true
	return nil
}

// TestRefusedRequest: a request that is refused has its body closed, as net/http wants it.
func TestRefusedRequest(t *testing.T) {
	for _, transport := range []*Transport{{}, (&Client{AnyCertificate: true, Verifier: usual(t)}).Transport()} {
		body := &closes{Reader: strings.NewReader("x")}
		r, err := http.NewRequest("POST", "http://server.example", body)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := transport.RoundTrip(r); err == nil || !body.closed {
			t.Errorf("%v, and the body is closed: %v", err, body.closed)
		}
	}
}

// TestHTTP2AlsoPlain: a server that names HTTP/2 and also serves browsers speaks it over attested
// connections alone, and HTTP/1.1 over the others alone.
func TestHTTP2AlsoPlain(t *testing.T) {
	roots, leaf := authority(t)
	s := &Server{TLS: &tls.Config{Certificates: []tls.Certificate{leaf}}, Attester: attests(t, nil), AlsoPlain: true, Application: ApplicationHTTP2}
	address := serve(t, s, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s over %q", r.Proto, r.TLS.NegotiatedProtocol)
	}))
	client := &Client{TLS: &tls.Config{RootCAs: roots, ServerName: "server.example"}, Verifier: usual(t), Application: ApplicationHTTP2}
	attested := func(ctx context.Context, network, address string) (net.Conn, error) {
		return client.Dial(ctx, network, address)
	}
	browser := func(protocols ...string) func(context.Context, string, string) (net.Conn, error) {
		config := &tls.Config{RootCAs: roots, ServerName: "server.example", NextProtos: protocols}
		return (&tls.Dialer{Config: config}).DialContext
	}
	for _, c := range []struct {
		dial   func(context.Context, string, string) (net.Conn, error)
		http2  bool
		status int
		says   string
	}{
		{attested, true, 200, `HTTP/2.0 over "agentd/1"`}, {browser(), false, 200, `HTTP/1.1 over ""`}, {browser("h2", "http/1.1"), false, 200, `HTTP/1.1 over "http/1.1"`},
		{attested, false, 505, "want HTTP/2"}, {browser(), true, 505, "want HTTP/2"},
	} {
		transport := &http.Transport{DialContext: c.dial, Protocols: new(http.Protocols)}
		transport.Protocols.SetHTTP1(!c.http2)
		transport.Protocols.SetUnencryptedHTTP2(c.http2)
		answer, err := (&http.Client{Transport: transport}).Get("http://" + address)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(answer.Body)
		if answer.Body.Close(); err != nil || answer.StatusCode != c.status || !strings.HasPrefix(string(b), c.says) {
			t.Errorf("HTTP/2 %v: %d %q, %v, want %d %q", c.http2, answer.StatusCode, b, err, c.status, c.says)
		}
		transport.CloseIdleConnections()
	}
}

// TestHTTP2Hosts: the host that a server hears is that of the URL, and a URL without a port means 443.
func TestHTTP2Hosts(t *testing.T) {
	for url, want := range map[string]string{"https://a.example/x": "a.example:443", "https://a.example:8443": "a.example:8443", "https://[2001:db8::1]/": "[2001:db8::1]:443"} {
		r, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		host := r.URL.Host
		out := (&Transport{client: &Client{Application: ApplicationHTTP2}}).onward(t.Context(), r)
		if out.URL.Host != want || out.Host != host || out.URL.Scheme != "http" || r.URL.Scheme != "https" || r.URL.Host != host {
			t.Errorf("%s: to %s, host %s; the request is for %s", url, out.URL.Host, out.Host, r.URL)
		}
	}
}

// TestReplace: requests after a replacement have connections that were judged under the new policy;
// open connections are closed only if that is asked for.
func TestReplace(t *testing.T) {
	for _, judgeOpen := range []bool{false, true} {
		v := verifierOf(t, policy(t, anchored, rules), func(o *VerifierOptions) { o.JudgeOpen = judgeOpen })
		c := &Client{AnyCertificate: true, Verifier: v}
		s := &Server{Attester: attests(t, nil)}
		url := "https://" + serve(t, s, saysUnit)
		transport := c.Transport()
		web := &http.Client{Transport: transport}
		if _, _, err := get(t, web, url); err != nil {
			t.Fatal(err)
		}
		open, peer, _, _ := meet(t, c, &Server{Attester: attests(t, nil)})
		if open.Verdict() == nil || peer == nil {
			t.Fatal("no verdict")
		}
		// The same policy again closes none.
		if n, err := v.Replace(policy(t, anchored, rules), trust(t)); n != 0 || err != nil {
			t.Errorf("replaced by itself: closed %d, %v", n, err)
		}
		if _, err := v.Replace(policy(t, anchored, ""), trust(t)); !errors.Is(err, ErrMisuse) {
			t.Errorf("replaced by a policy without a caller: %v", err)
		}
		closed, err := v.Replace(policy(t, anchored, otherRules), trust(t))
		if err != nil || (closed > 0) != judgeOpen {
			t.Errorf("JudgeOpen %v: closed %d, %v", judgeOpen, closed, err)
		}
		if _, _, err := get(t, web, url); !errors.Is(err, CodePolicy) {
			t.Errorf("JudgeOpen %v: a request under the new policy: %v", judgeOpen, err)
		}
		_, err = open.Write([]byte{2})
		if judgeOpen {
			has(t, err, CodePolicy, false)
		} else if err != nil {
			t.Errorf("the open connection: %v", err)
		}
		transport.CloseIdleConnections()
		open.Close()
		if n := len(v.open); n != 0 && judgeOpen {
			t.Errorf("%d connections are kept after their end", n)
		}
	}
}

// TestWarn: a hook lets genuine evidence pass that the policy refuses, and nothing else.
func TestWarn(t *testing.T) {
	roots, leaf := authority(t)
	relayed := func(r *evidencetest.Recipe) { r.Statement.UserData[60] ^= 1 }
	from := evidencetest.Time.Add(-2 * time.Hour)
	revokes := func(o *VerifierOptions) {
		o.Config.Revocation.SNP = []*snp.RevocationList{evidencetest.RevocationList(t, snp.Genoa, from, from.Add(4*time.Hour), evidencetest.Serial)}
	}
	expired := func(o *VerifierOptions) {
		o.Config.Revocation.SNP = []*snp.RevocationList{evidencetest.RevocationList(t, snp.Genoa, from, from.Add(time.Hour))}
	}
	invented := func(r *evidencetest.Recipe) { // a report that nothing signed
		r.Document = func(e *evidence.Evidence) { e.Certificates = nil }
	}
	for name, c := range map[string]struct {
		root   string
		rules  string
		change func(*evidencetest.Recipe)
		option func(*VerifierOptions)
		passes Code
		fails  Code
	}{
		"accepted":                   {anchored, rules, nil, nil, "", ""},
		"other caller":               {anchored, otherRules, nil, nil, CodePolicy, ""},
		"revoked":                    {anchored, rules, nil, revokes, CodeRevoked, ""},
		"expired list":               {anchored + "revocation = \"required\"\n", rules, nil, expired, CodeCollateral, ""},
		"no certificate":             {anchored, rules, invented, nil, "", CodeCollateral},
		"no certificate, and caller": {anchored, otherRules, invented, nil, "", CodeCollateral},
		"relayed":                    {anchored, rules, relayed, nil, "", CodeExporter},
		"relayed, and other caller":  {anchored, otherRules, relayed, nil, "", CodeExporter},
		"relayed, and revoked":       {anchored, rules, relayed, revokes, "", CodeExporter},
	} {
		var warned atomic.Pointer[Verdict]
		client := &Client{TLS: &tls.Config{RootCAs: roots}, Verifier: verifierOf(t, policy(t, c.root, c.rules), c.option), Hook: Warn(func(v *Verdict) { warned.Store(v) })}
		conn, _, err, _ := meet(t, client, &Server{TLS: &tls.Config{Certificates: []tls.Certificate{leaf}}, Attester: attests(t, c.change)})
		if c.fails != "" {
			has(t, err, c.fails, false)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		v := conn.Verdict()
		switch w := warned.Load(); {
		case c.passes == "" && (w != nil || v.Claims == nil || conn.Claims() == nil):
			t.Errorf("%s: warned of %+v, verdict %+v", name, w, v)
		case c.passes != "" && (w == nil || v.Claims != nil || v.Refusal == nil || v.Refusal.Code != c.passes):
			t.Errorf("%s: warned of %+v, verdict %+v", name, w, v)
		case w != nil && v.Evidence != sha256.Sum256(w.Document):
			t.Errorf("%s: evidence %v", name, v.Evidence)
		case c.passes != "" && (v.Document != nil || v.Refusal.Verdict != v):
			t.Errorf("%s: the connection keeps the document", name)
		}
	}
}

// TestHooksPassNothingForged: a hook that passes everything does not make an end use a connection
// whose evidence is not of that connection. Case 129.
func TestHooksPassNothingForged(t *testing.T) {
	roots, leaf := authority(t)
	for code, change := range map[Code]func(*evidencetest.Recipe){
		CodeExporter: func(r *evidencetest.Recipe) { r.Statement.UserData[60] ^= 1 },
		CodeKey:      func(r *evidencetest.Recipe) { r.Statement.PublicKey = []byte("another key") },
		CodeNonce:    func(r *evidencetest.Recipe) { r.Statement.Nonce = evidencetest.Nonce },
		CodeForged: func(r *evidencetest.Recipe) {
			r.Document = func(e *evidence.Evidence) { e.AgentSignature[0] ^= 1 }
		},
		CodeCollateral: func(r *evidencetest.Recipe) { // the report may be invented
			r.Document = func(e *evidence.Evidence) { e.Certificates = nil }
		},
	} {
		client := &Client{TLS: &tls.Config{RootCAs: roots}, Verifier: usual(t), Hook: func(context.Context, *Verdict) error { return nil }}
		refusedByClient(t, code, client, &Server{TLS: &tls.Config{Certificates: []tls.Certificate{leaf}}, Attester: attests(t, change)})
	}
}

// TestConfigurations: what makes no sense, or would protect less than it seems, is refused before
// anything is sent.
func TestConfigurations(t *testing.T) {
	v := usual(t)
	for name, c := range map[string]*Client{
		"nothing":                    {},
		"any certificate alone":      {AnyCertificate: true, Attester: attests(t, nil)},
		"any certificate and a hook": {AnyCertificate: true, Verifier: v, Hook: Warn(func(*Verdict) {})},
		"insecure":                   {TLS: &tls.Config{InsecureSkipVerify: true}, Verifier: v},
		"hook without a verifier":    {Attester: attests(t, nil), Hook: Block},
		"verifier without a policy":  {Verifier: new(Verifier)},
		"application":                {Verifier: v, Application: "a\nb"},
	} {
		a, _ := wire(t)
		if err := c.Check(); !errors.Is(err, ErrMisuse) {
			t.Errorf("checked: %v", err)
		}
		if err := c.Conn(a, "server.example").Handshake(t.Context()); !errors.Is(err, ErrMisuse) {
			t.Errorf("client, %s: %v", name, err)
		}
		if _, err := c.Dial(t.Context(), "tcp", "127.0.0.1:1"); !errors.Is(err, ErrMisuse) {
			t.Errorf("client, %s: dial: %v", name, err)
		}
	}
	for name, s := range map[string]*Server{
		"plain and a verifier":          {AlsoPlain: true, Verifier: v},
		"hook without a verifier":       {Hook: Block},
		"verifier without a policy":     {Verifier: new(Verifier)},
		"configuration for each client": {TLS: &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, nil }}},
	} {
		_, b := wire(t)
		if err := s.Check(); !errors.Is(err, ErrMisuse) {
			t.Errorf("checked: %v", err)
		}
		if err := s.Conn(b).Handshake(t.Context()); !errors.Is(err, ErrMisuse) {
			t.Errorf("server, %s: %v", name, err)
		}
	}
	for name, o := range map[string]VerifierOptions{
		"little evidence": {MaxEvidence: leastLargest - 1}, "too much evidence": {MaxEvidence: evidence.MaxEvidence + 1},
		"long audience": {Audience: strings.Repeat("a", evidence.MaxAudience+1)},
	} {
		if _, err := NewVerifier(policy(t, anchored, rules), o); !errors.Is(err, ErrMisuse) {
			t.Errorf("verifier, %s: %v", name, err)
		}
	}
	if _, err := NewVerifier(policy(t, anchored, ""), VerifierOptions{}); !errors.Is(err, ErrMisuse) || !strings.Contains(err.Error(), "caller") {
		t.Errorf("a policy that names no caller: %v", err)
	}
	if _, err := NewVerifier(policy(t, anchored, ""), VerifierOptions{AcceptAnyCaller: true}); err != nil {
		t.Errorf("a policy that names no caller, accepted: %v", err)
	}
	for root, asks := range map[string]string{anchored + "continuation = \"required\"\n": "", anchored: "[ima]\nunlisted = \"allow\"\n"} {
		if _, err := NewVerifier(policy(t, root, asks+rules), VerifierOptions{}); !errors.Is(err, ErrMisuse) || !strings.Contains(err.Error(), "continuation") {
			t.Errorf("a policy that asks for what no connection has, %q %q: %v", root, asks, err)
		}
	}
	if _, err := NewVerifier(policy(t, anchored, "[ima]\nlist = \"optional\"\nunlisted = \"allow\"\n"+rules), VerifierOptions{}); err != nil {
		t.Errorf("a policy that takes a list of IMA: %v", err)
	}
	if _, err := new(Transport).RoundTrip(new(http.Request)); !errors.Is(err, ErrMisuse) {
		t.Errorf("a transport without a client: %v", err)
	}
	if _, err := NewVerifier(nil, VerifierOptions{}); !errors.Is(err, verify.ErrMisuse) {
		t.Errorf("no policy: %v", err)
	}
}

// TestFreshness: the verifier asks for what its policy accepts.
func TestFreshness(t *testing.T) {
	for root, want := range map[string]evidence.Freshness{"": evidence.Fresh, anchored: evidence.Anchored, "freshness = \"any\"\n": evidence.Anchored} {
		var asked atomic.Pointer[evidence.Freshness]
		s := &Server{Attester: attests(t, func(r *evidencetest.Recipe) { asked.Store(&r.Statement.Freshness) })}
		c := &Client{AnyCertificate: true, Verifier: verifierOf(t, policy(t, root, rules), nil)}
		if _, _, ours, theirs := meet(t, c, s); ours != nil || theirs != nil || *asked.Load() != want {
			t.Errorf("%q: %v, %v, asked for %q, want %q", root, ours, theirs, *asked.Load(), want)
		}
	}
}

// TestEvidenceHandler: evidence over HTTPS names the server's key and the nonce, and does not pass
// for evidence of a connection of this package.
func TestEvidenceHandler(t *testing.T) {
	roots, leaf := authority(t)
	agent := &machine{tb: t}
	s := &Server{TLS: &tls.Config{Certificates: []tls.Certificate{leaf}}, Attester: &Attester{Agent: agent}, AlsoPlain: true}
	h := &EvidenceHandler{Attester: s.Attester, PerSecond: 1e6}
	mux := http.NewServeMux()
	mux.Handle(EvidencePath, h)
	url := "https://" + serve(t, s, mux) + EvidencePath
	browser := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "server.example"}}}
	defer browser.CloseIdleConnections()
	ask := func(method, query string) (status int, kind string, body []byte) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, url+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := browser.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err = io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, answer.Header.Get("Content-Type"), body
	}
	nonce := strings.Repeat("4e", 32)
	status, kind, document := ask("GET", "?nonce="+nonce)
	if status != 200 || kind != "application/json" {
		t.Fatalf("%d %s: %s", status, kind, document)
	}
	v, err := verify.New(policy(t, anchored, rules), trust(t))
	if err != nil {
		t.Fatal(err)
	}
	expect := verify.Expect{Nonce: evidencetest.Nonce, PublicKey: leaf.Leaf.RawSubjectPublicKeyInfo, UserData: []byte(EvidenceUserData)}
	if _, err := v.Verify(document, expect, evidencetest.Time); err != nil {
		t.Error(err)
	}
	if code := misboundIn(document, bound{role: roleServer}); code != CodeUserData {
		t.Errorf("as evidence of a connection it would be %q", code)
	}
	for _, c := range []struct {
		method, query string
		want          int
	}{
		{"POST", "?nonce=" + nonce, 405}, {"HEAD", "?nonce=" + nonce, 405}, {"GET", "", 400}, {"GET", "?nonce=4e", 400}, {"GET", "?nonce=" + nonce + nonce + "4e", 400},
		{"GET", "?nonce=" + nonce + "&nonce=" + nonce, 400}, {"GET", "?nonce=" + nonce + "&more=1", 400}, {"GET", "?nonce=%zz", 400}, {"GET", "?nonce=" + strings.Repeat("z", 64), 400},
	} {
		if status, kind, _ := ask(c.method, c.query); status != c.want || kind != api.ProblemType {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.query, status, kind, c.want)
		}
	}
	before := agent.asked.Load()
	h.mu.Lock()
	h.tokens = -1e12 // more than what comes in while this test runs
	h.mu.Unlock()
	if status, kind, _ := ask("GET", "?nonce="+nonce); status != 429 || kind != api.ProblemType || agent.asked.Load() != before {
		t.Errorf("a request too many: %d %s, and the agent was asked %d times", status, kind, agent.asked.Load()-before)
	}
	h.mu.Lock()
	h.tokens = 1
	h.mu.Unlock()
	agent.err = &api.Problem{Code: api.CodeTPM, Detail: "what strangers need not know"}
	if status, _, body := ask("GET", "?nonce="+nonce); status != 503 || strings.Contains(string(body), "strangers") {
		t.Errorf("without evidence: %d %s", status, body)
	}
}

// TestEvidenceHandlerAlone: what a handler says if its server is not one of this package, is asked in
// a long way, or has an agent that is busy. No answer is kept by a cache.
func TestEvidenceHandlerAlone(t *testing.T) {
	own := &certificates(t)[0]
	busy := &Attester{Agent: &machine{tb: t, err: &api.Problem{Code: api.CodeBusy}}}
	query := "?nonce=" + strings.Repeat("4e", 32)
	for name, c := range map[string]struct {
		h      *EvidenceHandler
		query  string
		status int
		retry  string
	}{
		"its certificate": {&EvidenceHandler{Attester: attests(t, nil), Certificate: own}, query, 200, ""},
		"no certificate":  {&EvidenceHandler{Attester: attests(t, nil)}, query, 503, ""},
		"long query":      {&EvidenceHandler{Attester: attests(t, nil), Certificate: own}, query + strings.Repeat("&", maxQuery), 400, ""},
		"busy":            {&EvidenceHandler{Attester: busy, Certificate: own}, query, 429, "1"},
	} {
		w := httptest.NewRecorder()
		c.h.ServeHTTP(w, httptest.NewRequest("GET", EvidencePath+c.query, nil))
		if h := w.Header(); w.Code != c.status || h.Get("Retry-After") != c.retry || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v %s", name, w.Code, h, w.Body)
		}
	}
}

// TestEvidenceHandlerAsks: strangers make the agent use an anchored report, and a handler with a
// certificate names that one, also on a connection of this package that has another.
func TestEvidenceHandlerAsks(t *testing.T) {
	own := certificates(t)[0]
	var asked evidencetest.Recipe
	h := &EvidenceHandler{Attester: attests(t, func(r *evidencetest.Recipe) { asked = *r }), Certificate: &own}
	r := httptest.NewRequest("GET", EvidencePath+"?nonce="+strings.Repeat("4e", 32), nil)
	h.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithValue(r.Context(), contextKey{}, &Conn{local: &certificates(t)[0]})))
	if s := &asked.Statement; s.Freshness != evidence.Anchored || !bytes.Equal(s.PublicKey, own.Leaf.RawSubjectPublicKeyInfo) {
		t.Errorf("asked for a %q report, and for the key %x", s.Freshness, s.PublicKey)
	}
}

// TestRate: an evidence handler lets as many requests through as it says, at once and each second.
func TestRate(t *testing.T) {
	for perSecond, want := range map[int][3]int{0: {10, 5, 10}, 4: {4, 2, 4}} {
		h := &EvidenceHandler{PerSecond: perSecond}
		now := evidencetest.Time
		for i, pause := range []time.Duration{0, time.Second / 2, time.Hour} {
			now = now.Add(pause)
			through := 0
			for range 50 {
				if h.allow(now) {
					through++
				}
			}
			if through != want[i] {
				t.Errorf("%d for each second: after %v %d were let through, want %d", perSecond, pause, through, want[i])
			}
		}
	}
}
