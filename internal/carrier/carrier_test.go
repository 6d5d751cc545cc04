// SPDX-License-Identifier: Apache-2.0

package carrier

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/internal/delivery"
	"github.com/cvm-agentd/agentd/sealing"
	"github.com/cvm-agentd/agentd/verify"
)

// TestCarried: case 130. A listed sender gets a ticket that names its key, and a receipt, over one connection,
// whose evidence costs no report of its own.
func TestCarried(t *testing.T) {
	m := serve(t, nil)
	s := dial(t, m.address, sender)
	a := ask("billing", "certificate")
	a.Replace = true
	ticket, err := s.Ticket(t.Context(), a)
	if err != nil || string(ticket) != "the ticket" {
		t.Fatalf("%q, %v\n%s", ticket, err, m.log)
	}
	receipt, err := client(t, m.address, sender).Deliver(t.Context(), s, sealed, time.Now().Add(patience))
	if err != nil || string(receipt) != "the receipt" {
		t.Fatalf("%q, %v\n%s", receipt, err, m.log)
	}
	if m.counts() != [3]int{1, 1, 1} || !bytes.Equal(m.received[0], sealed) {
		t.Errorf("%v, received %q", m.counts(), m.received)
	}
	q := m.asked[0]
	if q.App != "billing" || q.Name != "certificate" || !q.Replace || q.AnySender || q.ValidFor != 90 || !bytes.Equal(q.Sender, public(sender)) || !bytes.Equal(q.Challenge, a.Challenge[:]) {
		t.Errorf("asked for %+v", q)
	}
	m.stop()
	if !strings.Contains(m.log.String(), "a delivered secret is stored") {
		t.Errorf("the log is\n%s", m.log)
	}
}

// TestStrangers: case 130. A client whose key no rule lists, or which shows none that it has, costs no quote
// and no ticket.
func TestStrangers(t *testing.T) {
	m := serve(t, nil)
	if _, err := client(t, m.address, stranger).Dial(t.Context()); err == nil {
		t.Error("a stranger is let in")
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, ec.Public(), ec)
	must(t, err)
	theirs, err := certificateOf(sender)
	must(t, err)
	for what, certificates := range map[string][]tls.Certificate{
		"no certificate": nil, "a key of another kind": {{Certificate: [][]byte{der}, PrivateKey: ec}},
		"a sender's certificate without its key": {{Certificate: theirs.Certificate, PrivateKey: stranger}},
	} {
		c := client(t, m.address, sender)
		c.tls.TLS.Certificates = certificates
		if _, err := c.Dial(t.Context()); err == nil {
			t.Errorf("%s: let in", what)
		}
	}
	m.stop()
	if m.counts() != [3]int{} {
		t.Errorf("strangers cost %v", m.counts())
	}
}

// TestNoFreshReports: a sender cannot have a report made for each connection.
func TestNoFreshReports(t *testing.T) {
	m := serve(t, nil)
	p := policy(t, "[caller]\nunit = \"agentd-secrets.service\"\n")
	v, err := attestedtls.NewVerifier(p, attestedtls.VerifierOptions{Config: verify.Config{Roots: trusted(t)}, Now: now})
	must(t, err)
	c, err := NewClient(m.address, v, sender)
	must(t, err)
	_, err = c.Dial(t.Context())
	if e, ok := errors.AsType[*attestedtls.Error](err); !ok || e.Code != attestedtls.CodeFreshness || m.counts()[0] != 0 {
		t.Errorf("%v, %v", err, m.counts())
	}
}

// TestNotListed: case 130. What root did not list for a sender is refused before the agent is asked.
func TestNotListed(t *testing.T) {
	m := serve(t, nil)
	replaces := ask("billing", "token")
	replaces.Replace = true
	for what, c := range map[string]struct {
		by  *delivery.Ask
		key byte
	}{
		"another app": {ask("shop", "token"), 's'}, "another name": {ask("billing", "more"), 's'}, "another sender's app": {ask("ledger", "token"), 's'},
		"another sender's secret": {ask("billing", "certificate"), 'o'}, "a replacement": {replaces, 's'},
	} {
		key := sender
		if c.key == 'o' {
			key = other
		}
		_, err := dial(t, m.address, key).Ticket(t.Context(), c.by)
		if r, ok := errors.AsType[*RefusedError](err); !ok || r.Code != api.CodeNotPermitted {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := m.counts(); n[1] != 0 {
		t.Errorf("%d tickets were asked for", n[1])
	}
}

// TestAgentRefuses: the code of the agent arrives, and of other errors a code that leaves open what happened.
func TestAgentRefuses(t *testing.T) {
	m := serve(t, nil)
	for want, fails := range map[api.Code]error{
		api.CodeAppChanged:    &api.Problem{Code: api.CodeAppChanged},
		api.CodeTicketExpired: &sealing.Error{Code: api.CodeTicketExpired},
		api.CodeInterrupted:   errors.New("the socket is gone"),
	} {
		m.fail(fails)
		_, err := dial(t, m.address, sender).Ticket(t.Context(), ask("billing", "token"))
		if r, ok := errors.AsType[*RefusedError](err); !ok || r.Code != want {
			t.Errorf("a ticket: %v, want %s", err, want)
		}
		_, err = dial(t, m.address, sender).exchange(t.Context(), sealed, delivery.MaxReceipt)
		if r, ok := errors.AsType[*RefusedError](err); !ok || r.Code != want {
			t.Errorf("a message: %v, want %s", err, want)
		}
	}
	m.fail(nil)
	for _, wrong := range [][]byte{[]byte("hello"), ask("billing", "a/b").Encode(), []byte("agentd/delivery/ask/1\n")} {
		_, err := dial(t, m.address, sender).exchange(t.Context(), wrong, delivery.MaxReceipt)
		if r, ok := errors.AsType[*RefusedError](err); !ok || r.Code != api.CodeMalformedMessage {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

// TestTooMany: one sender, and one address, have only so many connections, and each that ends makes room.
func TestTooMany(t *testing.T) {
	m := serve(t, nil)
	var open []*Session
	for range mostOfSender {
		open = append(open, dial(t, m.address, sender))
	}
	_, err := dial(t, m.address, sender).Ticket(t.Context(), ask("billing", "token"))
	if r, ok := errors.AsType[*RefusedError](err); !ok || r.Code != api.CodeBusy {
		t.Errorf("one connection too many of a sender: %v", err)
	}
	if _, err := dial(t, m.address, other).Ticket(t.Context(), ask("billing", "token")); err != nil {
		t.Errorf("another sender: %v", err)
	}
	open[0].Close()
	until(t, "there is room", func() bool {
		s, err := client(t, m.address, sender).Dial(t.Context())
		if err != nil {
			return false
		}
		defer s.Close()
		_, err = s.Ticket(t.Context(), ask("billing", "token"))
		return err == nil
	})
	for range mostOfOrigin {
		c, err := net.Dial("tcp", m.address)
		must(t, err)
		defer c.Close()
	}
	if _, err := client(t, m.address, other).Dial(t.Context()); err == nil {
		t.Error("one connection too many of an address")
	}
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// TestCrowd: what enters is counted for each name and for all, and leaving makes room.
func TestCrowd(t *testing.T) {
	c := crowd{most: 3, mostEach: 2}
	a, ok := c.enter("a")
	_, ok2 := c.enter("a")
	_, third := c.enter("a")
	_, b := c.enter("b")
	_, full := c.enter("c")
	if !ok || !ok2 || third || !b || full {
		t.Error(ok, ok2, third, b, full)
	}
	a()
	if _, ok := c.enter("c"); !ok {
		t.Error("no room after one left")
	}
	for _, same := range [][2]string{{"192.0.2.1:1", "[::ffff:192.0.2.1]:2"}, {"[2001:db8::1]:1", "[2001:db8::ffff:2]:9"}, {"[fe80::1%eth0]:1", "[fe80::2%eth1]:1"}} {
		if x, y := at(t, same[0]), at(t, same[1]); x != y {
			t.Errorf("%s and %s", x, y)
		}
	}
	for _, two := range [][2]string{{"192.0.2.1:1", "192.0.2.2:1"}, {"[2001:db8::1]:1", "[2001:db8:0:1::1]:1"}} {
		if x, y := at(t, two[0]), at(t, two[1]); x == y {
			t.Errorf("%s and %s are one", two[0], two[1])
		}
	}
}

func at(t *testing.T, address string) string {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", address)
	must(t, err)
	return origin(a)
}

// relay passes on what comes, and ends connections when it is told to.
type relay struct {
	net.Listener
	cut  atomic.Bool // ends each connection at its next byte from the server
	made atomic.Int64
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &relay{Listener: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			r.made.Add(1)
			go func() { io.Copy(far, near); far.Close() }()
			go func() {
				defer near.Close()
				defer far.Close()
				b := make([]byte, 4<<10)
				for {
					n, err := far.Read(b)
					if err != nil || r.cut.Load() {
						return
					}
					if _, err := near.Write(b[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return r
}

// TestBroken: case 130. If the connection breaks after the message, the same message goes over another one,
// and the receipt arrives.
func TestBroken(t *testing.T) {
	m := serve(t, nil)
	r := newRelay(t, m.address)
	c := client(t, r.Addr().String(), sender)
	s, err := c.Dial(t.Context())
	must(t, err)
	_, err = s.Ticket(t.Context(), ask("billing", "token"))
	must(t, err)
	r.cut.Store(true)
	go func() { // the second connection is cut in its handshake, the third one gets through
		for r.made.Load() < 2 {
			time.Sleep(time.Millisecond)
		}
		r.cut.Store(false)
	}()
	receipt, err := c.Deliver(t.Context(), s, sealed, time.Now().Add(patience))
	if err != nil || string(receipt) != "the receipt" {
		t.Fatalf("%q, %v\n%s", receipt, err, m.log)
	}
	if n := m.counts(); n[1] != 1 || n[2] != 2 || !bytes.Equal(m.received[0], m.received[1]) {
		t.Errorf("%v, received %q", n, m.received)
	}
}

// TestGivesUp: what the machine refuses for good is not tried again, and says nothing was stored; after a
// connection that broke, and after codes that leave it open, it says that the secret may be stored.
func TestGivesUp(t *testing.T) {
	for code, want := range map[api.Code]struct {
		tries   int
		perhaps bool
	}{
		api.CodeAppChanged:  {1, false},
		api.CodeInterrupted: {3, true},
		api.CodeBusy:        {3, false},
		api.CodeCounterLost: {1, true},
		api.CodeInternal:    {1, true},
	} {
		m := serve(t, nil)
		c := client(t, m.address, sender)
		s, err := c.Dial(t.Context())
		must(t, err)
		m.fail(&api.Problem{Code: code})
		_, err = c.Deliver(t.Context(), s, sealed, time.Now().Add(firstPause+2*firstPause+firstPause))
		n := m.counts()[2]
		if !errors.Is(err, code) || errors.Is(err, ErrNoReceipt) != want.perhaps || n < min(want.tries, 2) || n > want.tries {
			t.Errorf("%s: %v, after %d tries", code, err, n)
		}
	}
	m := serve(t, nil)
	r := newRelay(t, m.address)
	c := client(t, r.Addr().String(), sender)
	s, err := c.Dial(t.Context())
	must(t, err)
	r.cut.Store(true)
	if _, err = c.Deliver(t.Context(), s, sealed, time.Now().Add(2*firstPause)); !errors.Is(err, ErrNoReceipt) {
		t.Errorf("a connection that broke: %v", err)
	}
	r.cut.Store(false)
	s, err = c.Dial(t.Context())
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	m.mu.Lock()
	m.during = cancel
	m.mu.Unlock()
	m.fail(&api.Problem{Code: api.CodeBusy})
	if _, err = c.Deliver(ctx, s, sealed, time.Now().Add(patience)); err == nil {
		t.Error("a caller that left")
	}
}

// TestOtherMachine: a machine that the policy refuses gets neither names nor messages, also if it answers in
// the place of the first one.
func TestOtherMachine(t *testing.T) {
	m := serve(t, nil)
	c := client(t, m.address, sender)
	s, err := c.Dial(t.Context())
	must(t, err)
	s.conn.Close()
	of, over := Policies(policy(t, ""), "another.service")
	if of.Caller.Unit != "another.service" {
		t.Errorf("the policy of the ticket has the caller %q", of.Caller.Unit)
	}
	v, err := attestedtls.NewVerifier(over, attestedtls.VerifierOptions{Config: verify.Config{Roots: trusted(t)}, Now: now})
	must(t, err)
	c.tls = &attestedtls.Client{TLS: c.tls.TLS, AnyCertificate: true, Verifier: v, Application: delivery.Application}
	began := time.Now()
	_, err = c.Deliver(t.Context(), s, sealed, time.Now().Add(patience))
	if e, ok := errors.AsType[*attestedtls.Error](err); !ok || e.Code != attestedtls.CodePolicy || time.Since(began) > patience/2 {
		t.Errorf("%v", err)
	}
	if n := m.counts(); n[1] != 0 || n[2] != 0 {
		t.Errorf("the machine got %v", n)
	}
}

// TestPolicies: the caller is the unit that carries, unless the policy names one; the connection's policy asks
// for no report of its own and for no history.
func TestPolicies(t *testing.T) {
	of, over := Policies(policy(t, ""), delivery.Unit)
	if of.Caller.Unit != delivery.Unit || over.Caller.Unit != delivery.Unit || of.Freshness == verify.AnchoredReport || over.Freshness != verify.AnchoredReport || time.Duration(over.MaxAnchorAge) != connectionAge {
		t.Errorf("%+v %+v", of.Caller, over.FreshnessRules)
	}
	p := policy(t, "continuation = \"required\"\nfreshness = \"anchored\"\nmax_anchor_age = \"10s\"\n[caller]\nunit = \"mine.service\"\n")
	of, over = Policies(p, delivery.Unit)
	if of.Caller.Unit != "mine.service" || over.Caller.Unit != "mine.service" || time.Duration(over.MaxAnchorAge) != 10*time.Second {
		t.Errorf("%+v %+v", of.Caller, over.FreshnessRules)
	}
	if of.Continuation != verify.Required || over.Continuation == verify.Required || p.Caller.Unit != "mine.service" || p.Continuation != verify.Required {
		t.Errorf("continuation %q and %q", of.Continuation, over.Continuation)
	}
	must(t, of.Check())
	must(t, over.Check())
}

// TestSlow: a sender that says nothing is not waited for.
func TestSlow(t *testing.T) {
	m := serve(t, func(s *Server) { s.frameTime = 20 * time.Millisecond })
	s := dial(t, m.address, sender)
	s.conn.SetDeadline(time.Now().Add(patience))
	b, err := read(s.conn, delivery.MaxReceipt)
	if code, refused := delivery.ParseRefusal(b); err != nil || refused != nil || code != api.CodeInterrupted {
		t.Errorf("%q, %v", b, err)
	}
	// A secret that does not come is waited for as long as the ticket is valid.
	m = serve(t, func(s *Server) { s.c.Rules.deliver[0].validFor = 1 })
	s = dial(t, m.address, sender)
	_, err = s.Ticket(t.Context(), ask("billing", "token"))
	must(t, err)
	s.conn.SetDeadline(time.Now().Add(frameTime / 2))
	b, err = read(s.conn, delivery.MaxReceipt)
	if code, refused := delivery.ParseRefusal(b); err != nil || refused != nil || code != api.CodeInterrupted {
		t.Errorf("after a ticket: %q, %v", b, err)
	}
	// A machine that says nothing is not waited for either.
	m = serve(t, nil)
	entered, leave := make(chan struct{}), make(chan struct{})
	m.during = func() { close(entered); <-leave }
	s = dial(t, m.address, sender)
	s.patience = 20 * time.Millisecond
	if _, err := s.exchange(t.Context(), sealed, delivery.MaxReceipt); err == nil {
		t.Error("an answer of a machine that gives none")
	}
	<-entered
	close(leave)
}

// failing is a listener that fails at first, as if out of descriptors.
type failing struct {
	net.Listener
	left atomic.Int64
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left.Add(-1) >= 0 {
		return nil, syscall.EMFILE
	}
	return f.Listener.Accept()
}

// TestAcceptFails: a connection that could not be accepted does not end the service, and a listener that was
// closed does.
func TestAcceptFails(t *testing.T) {
	m := serve(t, nil)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	l := &failing{Listener: inner}
	l.left.Store(3)
	done := make(chan error, 1)
	go func() { done <- m.Serve(t.Context(), l) }()
	dial(t, inner.Addr().String(), sender).Close()
	must(t, inner.Close())
	select {
	case err := <-done:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("a listener that was closed: %v", err)
		}
	case <-time.After(patience):
		t.Error("it does not end")
	}
}

// TestFrames: a message of no length, or of one above the limit, is refused before it is read, and one that
// ends early is not a message.
func TestFrames(t *testing.T) {
	var b bytes.Buffer
	must(t, write(&b, []byte("abc")))
	good := b.Bytes()
	if got, err := read(iotest.OneByteReader(bytes.NewReader(good)), 3); err != nil || string(got) != "abc" {
		t.Errorf("%q, %v", got, err)
	}
	for what, c := range map[string]struct {
		b    string
		want error
	}{
		"too long": {string(good), errLength}, "empty": {"\x00\x00\x00\x00", errLength}, "huge": {"\xff\xff\xff\xff", errLength},
		"cut": {string(good[:5]), io.ErrUnexpectedEOF}, "cut in its length": {string(good[:3]), io.ErrUnexpectedEOF}, "nothing": {"", io.EOF},
	} {
		most := 3
		if what == "too long" {
			most = 2
		}
		if got, err := read(strings.NewReader(c.b), most); !errors.Is(err, c.want) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
}
