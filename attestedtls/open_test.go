// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// verified returns a client that verified a puppet, which has not sent its start, and the confirm
// that this must contain.
func verified(t *testing.T) (*Conn, *puppet, []byte) {
	t.Helper()
	c, _ := honest(t, nil)
	c.Timeout = patience
	a, b := wire(t)
	conn := c.Conn(a, "server.example")
	done := make(chan error, 1)
	go func() { done <- conn.Handshake(t.Context()) }()
	p := puppetServer(t, b).shake()
	p.attest(&machine{tb: t})
	var v verdict
	if err := errors.Join(p.receive(&v), p.receive(new(start)), waitFor(t, done)); err != nil {
		t.Fatal(err)
	}
	return conn, p, v.Confirm
}

// TestStartInPieces: the other end's start may arrive in pieces, with deadlines between them that
// interrupt the reading.
func TestStartInPieces(t *testing.T) {
	conn, p, confirm := verified(t)
	begin, err := encode(&start{Type: kindStart, Confirm: confirm})
	if err != nil {
		t.Fatal(err)
	}
	for sent, piece := 0, 1; sent < len(begin)-1; piece += 3 {
		next := min(sent+piece, len(begin)-1)
		p.send(begin[sent:next])
		sent = next
		for late := time.Now().Add(patience); conn.first.have < sent; {
			conn.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(late) {
				t.Fatalf("after %d bytes: %v, and %d were read", sent, err, conn.first.have)
			}
		}
	}
	p.send(begin[len(begin)-1:], []byte("x"))
	conn.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 1)
	if _, err := io.ReadFull(conn, b); err != nil || b[0] != 'x' {
		t.Errorf("%q, %v", b, err)
	}
}

// TestCutIsNotAnEnd: an attacker in the network who ends the connection below TLS does not make an
// application believe that it has read all. The end that TLS has is one.
func TestCutIsNotAnEnd(t *testing.T) {
	for _, inOrder := range []bool{true, false} {
		c, s := honest(t, nil)
		client, server, err, serverErr := meet(t, c, s)
		if err := errors.Join(err, serverErr); err != nil {
			t.Fatal(err)
		}
		for _, ends := range [][2]*Conn{{client, server}, {server, client}} {
			if _, err := ends[0].Write([]byte("half")); err != nil {
				t.Fatal(err)
			}
			ends[1].SetReadDeadline(time.Now().Add(patience))
			if _, err := io.ReadFull(ends[1], make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			if inOrder {
				ends[0].CloseWrite()
			} else {
				ends[0].inner.(*net.TCPConn).CloseWrite()
			}
			for range 2 {
				if _, err := ends[1].Read(make([]byte, 1)); (err == io.EOF) != inOrder || err == nil {
					t.Errorf("in order: %v: %v", inOrder, err)
				}
			}
		}
	}
}

// TestReadAfterRefusal: an application that reads again after what came in place of a start was
// refused is told the same again.
func TestReadAfterRefusal(t *testing.T) {
	for _, c := range []struct {
		sent   any
		code   Code
		remote bool
	}{
		{&start{Type: kindStart}, CodeEarlyData, false},
		{framed(`{"type":"hello"}`), CodeUnexpected, false},
		{framed("{}x"), CodeMessage, false},
		{[]byte{0, 0, 0, 1}, CodeFrame, false},
		{&refused{Type: kindRefused, Code: CodePolicy}, CodePolicy, true},
	} {
		conn, p, _ := verified(t)
		p.send(c.sent, []byte("GET / HTTP/1.1"))
		for range 3 {
			_, err := conn.Read(make([]byte, 1))
			has(t, err, c.code, c.remote)
		}
		if _, err := conn.Write([]byte{1}); err == nil {
			t.Errorf("%s: the connection is written to after that", c.code)
		}
		if e := (*Error)(nil); errors.As(p.receive(new(start)), &e) {
			t.Errorf("%s: the other end gets a message in place of application data: %v", c.code, e)
		}
	}
}

// TestNoVerdictOfFailures: a connection has a verdict only if its handshake succeeded, also if this
// end accepted what the other end showed.
func TestNoVerdictOfFailures(t *testing.T) {
	accepted := make(chan bool, 1)
	roots, leaf := authority(t)
	client := &Client{TLS: &tls.Config{RootCAs: roots, Certificates: certificates(t)}, Verifier: usual(t), Attester: attests(t, nil)}
	client.Hook = func(ctx context.Context, v *Verdict) error {
		accepted <- v.Claims != nil
		return Block(ctx, v)
	}
	server := &Server{TLS: &tls.Config{Certificates: []tls.Certificate{leaf}}, Attester: attests(t, nil), Verifier: verifierOf(t, policy(t, anchored, otherRules), nil)}
	conn, _, ours, theirs := meet(t, client, server)
	has(t, ours, CodePolicy, true)
	has(t, theirs, CodePolicy, false)
	if !waitFor(t, accepted) {
		t.Error("the client did not accept the server")
	}
	if conn.Verdict() != nil || conn.Claims() != nil || conn.verdict.Load() == nil {
		t.Errorf("the verdict of a connection that failed is %+v", conn.Verdict())
	}
}

// TestHookReturnsRefusal: a hook may return the refusal of a verdict, which is nil if there is none.
func TestHookReturnsRefusal(t *testing.T) {
	roots, leaf := authority(t)
	hook := func(_ context.Context, v *Verdict) error { return v.Refusal }
	for tables, want := range map[string]Code{rules: "", otherRules: CodePolicy} {
		client := &Client{TLS: &tls.Config{RootCAs: roots}, Verifier: verifierOf(t, policy(t, anchored, tables), nil), Hook: hook}
		_, _, err, _ := meet(t, client, &Server{TLS: &tls.Config{Certificates: []tls.Certificate{leaf}}, Attester: attests(t, nil)})
		if want != "" {
			has(t, err, want, false)
		} else if err != nil {
			t.Error(err)
		}
	}
}

// judgesOpen returns a verifier that judges open connections again.
func judgesOpen(t *testing.T) *Verifier {
	return verifierOf(t, policy(t, anchored, rules), func(o *VerifierOptions) { o.JudgeOpen = true })
}

// TestClosedIsForgotten: a connection that is closed at the end of its handshake is not kept to be
// judged again.
func TestClosedIsForgotten(t *testing.T) {
	v := judgesOpen(t)
	conn, _, err, _ := meet(t, &Client{AnyCertificate: true, Verifier: v}, &Server{Attester: attests(t, nil)})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	v.keep(conn, v.current()) // as if it came later
	if n := len(v.open); n != 0 {
		t.Errorf("%d connections are kept", n)
	}
}

// stuck is a connection whose other end does not read any more.
type stuck struct {
	net.Conn
	full   atomic.Bool
	once   sync.Once
	closed chan struct{}
}

func (s *stuck) Write(b []byte) (int, error) {
	if s.full.Load() {
		<-s.closed
		return 0, net.ErrClosed
	}
	return s.Conn.Write(b)
}

func (s *stuck) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.Conn.Close()
}

// TestReplaceDoesNotWait: an end that does not read does not hold up the replacement of a policy,
// which closes other connections too.
func TestReplaceDoesNotWait(t *testing.T) {
	v := judgesOpen(t)
	c, s := &Client{AnyCertificate: true, Verifier: v, Timeout: patience}, &Server{Attester: attests(t, nil), Timeout: patience}
	a, b := wire(t)
	inner := &stuck{Conn: a, closed: make(chan struct{})}
	t.Cleanup(func() { inner.Close() })
	conn := c.Conn(inner, "server.example")
	done := make(chan error, 1)
	go func() { done <- speak(s.Conn(b)) }()
	if err := errors.Join(speak(conn), waitFor(t, done)); err != nil {
		t.Fatal(err)
	}
	inner.full.Store(true)
	replaced := make(chan int, 1)
	go func() {
		n, err := v.Replace(policy(t, anchored, otherRules), trust(t))
		if err != nil {
			t.Error(err)
		}
		replaced <- n
	}()
	if n := waitFor(t, replaced); n != 1 {
		t.Errorf("closed %d", n)
	}
	_, err := conn.Read(make([]byte, 1))
	has(t, err, CodePolicy, false)
	if got := conn.Verdict(); got == nil || got.Refusal == nil || got.Refusal.Code != CodePolicy || conn.Claims() != nil {
		t.Errorf("the verdict after that is %+v", got)
	}
}

// TestHookReplaces: a hook may replace the policy, also while open connections are judged again, and
// the last policy counts for all of them.
func TestHookReplaces(t *testing.T) {
	v := judgesOpen(t)
	var replaced atomic.Bool
	roots, leaf := authority(t)
	c := &Client{TLS: &tls.Config{RootCAs: roots}, Verifier: v}
	c.Hook = func(ctx context.Context, judged *Verdict) error {
		if judged.Refusal != nil && replaced.CompareAndSwap(false, true) {
			if n, err := v.Replace(policy(t, anchored, "[caller]\nunit = \"database.service\"\n"), trust(t)); n != 0 || err != nil {
				t.Errorf("closed %d, %v", n, err)
			}
		}
		return nil // passed
	}
	var conns []*Conn
	for range 2 {
		conn, _, err, _ := meet(t, c, &Server{TLS: &tls.Config{Certificates: []tls.Certificate{leaf}}, Attester: attests(t, nil)})
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	done := make(chan error, 1)
	go func() {
		_, err := v.Replace(policy(t, anchored, otherRules), trust(t))
		done <- err
	}()
	if err := waitFor(t, done); err != nil {
		t.Fatal(err)
	}
	for _, conn := range conns {
		if got := v.open[conn]; got == nil || got.judging || got.ruling != v.current() || conn.Verdict().Refusal == nil {
			t.Errorf("a connection is under %+v, with %+v", got, conn.Verdict())
		}
	}
}

// TestPending: requests beyond the limit wait for their turn at the agent, and give up with the code
// for it.
func TestPending(t *testing.T) {
	a, there := &Attester{MaxPending: 1}, 0
	a.Agent = &machine{tb: t, change: func(*evidencetest.Recipe) { there = len(a.pending) }}
	a.init()
	if cap(a.pending) != 1 {
		t.Fatalf("%d requests at once", cap(a.pending))
	}
	a.pending <- struct{}{} // another request is at the agent
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	own := &certificates(t)[0]
	request := api.EvidenceRequest{Nonce: evidencetest.Nonce, UserData: []byte("x"), Freshness: "anchored"}
	if _, err := a.ask(ctx, request, own); !errors.Is(err, CodeBusy) {
		t.Errorf("while another one is there: %v", err)
	}
	<-a.pending
	if _, err := a.ask(t.Context(), request, own); err != nil || there != 1 || len(a.pending) != 0 {
		t.Errorf("%v, with %d turns at the agent, and %d were not given back", err, there, len(a.pending))
	}
}

// named is a key of which only the public half is known.
type named struct {
	crypto.Signer
	public crypto.PublicKey
}

func (n named) Public() crypto.PublicKey { return n.public }

// TestProver: a proof of possession is made with the kinds of keys that can prove it. With others an
// end shows evidence without one.
func TestProver(t *testing.T) {
	ofRSA := func(bits uint) crypto.PublicKey {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}
	}
	on := func(c elliptic.Curve) crypto.PublicKey {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key.Public()
	}
	for name, c := range map[string]struct {
		key    crypto.PublicKey
		proves bool
	}{
		"RSA 1024": {ofRSA(1024), false}, "RSA 2048": {ofRSA(2048), true}, "RSA 4096": {ofRSA(4096), true}, "RSA 8192": {ofRSA(8192), false},
		"P-224": {on(elliptic.P224()), false}, "P-256": {on(elliptic.P256()), true},
	} {
		key, err := x509.MarshalPKIXPublicKey(c.key)
		if err != nil {
			t.Fatal(err)
		}
		if got := prover(&tls.Certificate{PrivateKey: named{public: c.key}}, key) != nil; got != c.proves {
			t.Errorf("%s: %v", name, got)
		}
	}
	key, err := x509.MarshalPKIXPublicKey(on(elliptic.P256()))
	if err != nil {
		t.Fatal(err)
	}
	if prover(&tls.Certificate{PrivateKey: named{public: on(elliptic.P256())}}, key) != nil {
		t.Error("a key proves that it is another one")
	}
}
