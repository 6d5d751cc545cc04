// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// clock is a clock that a test sets.
type clock struct{ ahead, looks atomic.Int64 }

func (c *clock) now() time.Time {
	c.looks.Add(1)
	return evidencetest.Time.Add(time.Duration(c.ahead.Load()))
}

func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

// goesOn returns a verifier that lets connections rest on evidence for so long.
func goesOn(t *testing.T, c *clock, most time.Duration) *Verifier {
	return verifierOf(t, policy(t, anchored, rules), func(o *VerifierOptions) { o.Continue, o.Now = most, c.now })
}

// pair is a client and a server that know each other by certificates, and the agents of both.
type pair struct {
	*Client
	*Server
	ofClient, ofServer *machine
	here, there        *clock
}

// newPair returns ends that both attest if both verify. An anchored report of one minute is shown.
func newPair(t *testing.T, clientVerifies, serverVerifies bool, most time.Duration) *pair {
	t.Helper()
	roots, leaf := authority(t)
	change := func(r *evidencetest.Recipe) { r.Anchored = r.Statement.Freshness == evidence.Anchored }
	p := &pair{ofClient: &machine{tb: t, change: change}, ofServer: &machine{tb: t, change: change}, here: new(clock), there: new(clock)}
	p.Client = &Client{TLS: &tls.Config{RootCAs: roots, Certificates: certificates(t)}}
	p.Server = &Server{TLS: &tls.Config{Certificates: []tls.Certificate{leaf}}}
	if clientVerifies {
		p.Client.Verifier, p.Server.Attester = goesOn(t, p.here, most), &Attester{Agent: p.ofServer}
	}
	if serverVerifies {
		p.Server.Verifier, p.Client.Attester = goesOn(t, p.there, most), &Attester{Agent: p.ofClient}
	}
	return p
}

// connects has the ends meet, and compares what their connections rest on: evidence of their own, or
// that of an earlier one.
func (p *pair) connects(t *testing.T, client, server bool) (*Conn, *Conn) {
	t.Helper()
	asked := func() [2]int64 { return [2]int64{p.ofServer.asked.Load(), p.ofClient.asked.Load()} }
	before := asked()
	a, b, ours, theirs := meet(t, p.Client, p.Server)
	if ours != nil || theirs != nil {
		t.Fatalf("%v, %v", ours, theirs)
	}
	after := asked()
	for i, end := range []struct {
		conn      *Conn
		verifier  *Verifier
		continued bool
	}{{a, p.Client.Verifier, client}, {b, p.Server.Verifier, server}} {
		v := end.conn.Verdict()
		if end.verifier == nil {
			if v != nil {
				t.Errorf("an end that does not verify has %+v", v)
			}
			continue
		}
		if v.Continued != end.continued || (after[i] == before[i]) != end.continued || v.Claims == nil || v.Refusal != nil || (v.Age != 0) && !end.continued {
			t.Errorf("the %v: continued %v after %v, want %v; the agent was asked %d times; %v", end.conn.end.role, v.Continued, v.Age, end.continued, after[i]-before[i], v.Refusal)
		}
	}
	return a, b
}

// TestContinue: later connections rest on the evidence of the first one until it is too old, in both
// roles. Case 129.
func TestContinue(t *testing.T) {
	for _, who := range [][2]bool{{true, false}, {false, true}, {true, true}} {
		p := newPair(t, who[0], who[1], time.Minute)
		p.connects(t, false, false)
		for range 3 {
			p.here.forward(19 * time.Second)
			p.there.forward(19 * time.Second)
			a, b := p.connects(t, true, true)
			for _, v := range []*Verdict{a.Verdict(), b.Verdict()} {
				if v != nil && v.Claims.Statement.Caller.Unit != "billing.service" {
					t.Errorf("claims %+v", v.Claims)
				}
			}
		}
		p.here.forward(3 * time.Second)
		p.there.forward(3 * time.Second)
		p.connects(t, false, false) // the connections between did not make it younger
		p.connects(t, true, true)
	}
}

// TestContinueEnds: what a connection may not rest on.
func TestContinueEnds(t *testing.T) {
	for name, c := range map[string]struct {
		most   time.Duration // VerifierOptions.Continue
		change func(*pair)
		may    bool
	}{
		"nothing changed":           {most: MaxContinue, change: func(*pair) {}, may: true},
		"not asked for":             {most: 0, change: func(*pair) {}},
		"at the limit":              {most: time.Minute, change: func(p *pair) { p.here.forward(time.Minute) }},
		"before the limit":          {most: time.Minute, change: func(p *pair) { p.here.forward(time.Minute - 1) }, may: true},
		"the clock was set back":    {most: MaxContinue, change: func(p *pair) { p.here.forward(-1) }},
		"max_anchor_age":            {most: MaxContinue, change: func(p *pair) { p.here.forward(10*time.Minute - 60500*time.Millisecond) }},
		"before max_anchor_age":     {most: MaxContinue, change: func(p *pair) { p.here.forward(10*time.Minute - 60501*time.Millisecond) }, may: true},
		"a certificate ends":        {most: MaxContinue, change: func(p *pair) { each(p, func(k *known) { k.supported = p.here.now() }) }},
		"fresh is asked for":        {most: MaxContinue, change: func(p *pair) { e, _ := p.Client.ready(); e.fresh = true }},
		"the policy asks for fresh": {most: MaxContinue, change: func(p *pair) { p.Client.Verifier.current().freshness = evidence.Fresh }},
		"another certificate": {most: MaxContinue, change: func(p *pair) {
			e, _ := p.Server.ready()
			e.tls.RootCAs, e.tls.Certificates = nil, p.Client.TLS.Certificates
			p.trustAll()
		}},
		"a restart of the other end":   {most: MaxContinue, change: func(p *pair) { p.Server.Attester.sessions.known = nil }},
		"the key is not used any more": {most: MaxContinue, may: true, change: func(p *pair) { p.Server.Attester.sessions.known[0].made = time.Now().Add(-sessionUse) }},
		"the key is too old":           {most: MaxContinue, change: func(p *pair) { p.Server.Attester.sessions.known[0].made = time.Now().Add(-sessionLife) }},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, true, false, c.most)
			p.connects(t, false, false)
			c.change(p)
			p.connects(t, c.may, false)
		})
	}
}

// trustAll has the client accept any certificate.
func (p *pair) trustAll() { e, _ := p.Client.ready(); e.tls.InsecureSkipVerify = true }

// each does something with all that the client remembers.
func each(p *pair, do func(*known)) {
	m := p.Client.Verifier.memory
	for e := m.order.Front(); e != nil; {
		next := e.Next()
		for _, k := range e.Value.(*peer).known {
			do(k)
		}
		e = next
	}
}

// TestContinueUnderAnotherPolicy: evidence of before is judged again under the policy in force. If
// that refuses it, the other end shows evidence, on which the refusal rests.
func TestContinueUnderAnotherPolicy(t *testing.T) {
	p := newPair(t, true, false, MaxContinue)
	v := p.Client.Verifier
	replace := func(root, tables string) {
		t.Helper()
		if _, err := v.Replace(policy(t, root, tables), trust(t)); err != nil {
			t.Fatal(err)
		}
	}
	p.connects(t, false, false)
	replace(strings.Replace(anchored, "10m", "2m", 1), rules)
	p.connects(t, true, false)
	p.here.forward(time.Minute) // and the report had one when it was shown
	p.connects(t, false, false)

	replace(anchored, otherRules)
	before := p.ofServer.asked.Load()
	_, _, err, _ := meet(t, p.Client, p.Server)
	has(t, err, CodePolicy, false)
	if p.ofServer.asked.Load() != before+1 {
		t.Error("the refusal is of old evidence")
	}
	replace(anchored, rules)
	p.connects(t, false, false) // what was refused is forgotten
	p.connects(t, true, false)
}

// TestContinueIsAsked: a hook decides on each connection, and what it refuses is not remembered, nor
// what the policy refused and a hook let pass.
func TestContinueIsAsked(t *testing.T) {
	p := newPair(t, true, false, MaxContinue)
	var seen []bool
	var refusal error
	p.Client.Hook = func(_ context.Context, v *Verdict) error {
		seen = append(seen, v.Continued)
		return refusal
	}
	refusal = errors.New("not today")
	_, _, err, _ := meet(t, p.Client, p.Server)
	has(t, err, CodeBlocked, false)
	refusal = nil
	p.connects(t, false, false)
	p.connects(t, true, false)
	refusal = errors.New("not today")
	_, _, err, _ = meet(t, p.Client, p.Server)
	has(t, err, CodeBlocked, false)
	if len(seen) != 4 || seen[0] || seen[1] || !seen[2] || !seen[3] {
		t.Errorf("the hook saw %v", seen)
	}
	refusal = nil
	if _, err := p.Client.Verifier.Replace(policy(t, anchored, otherRules), trust(t)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // passed, and refused by the policy
		conn, _, err, _ := meet(t, p.Client, p.Server)
		if err != nil || conn.Verdict().Continued || conn.Verdict().Refusal == nil {
			t.Errorf("%v, %+v", err, conn.Verdict())
		}
	}
}

// TestContinueAfterRefusal: what this end accepted on a connection that the other end refused is not
// remembered.
func TestContinueAfterRefusal(t *testing.T) {
	p := newPair(t, true, true, MaxContinue)
	p.Server.Hook = func(context.Context, *Verdict) error { return errors.New("not today") }
	_, _, err, _ := meet(t, p.Client, p.Server)
	has(t, err, CodeBlocked, true)
	if n := len(p.Client.Verifier.memory.peers) + len(p.Server.Verifier.memory.peers); n != 0 {
		t.Errorf("%d are remembered", n)
	}
}

// TestContinueJudgesOpen: a connection that rests on earlier evidence is judged again by it.
func TestContinueJudgesOpen(t *testing.T) {
	p := newPair(t, true, false, MaxContinue)
	p.Client.Verifier = verifierOf(t, policy(t, anchored, rules), func(o *VerifierOptions) { o.Continue, o.Now, o.JudgeOpen = MaxContinue, p.here.now, true })
	p.connects(t, false, false)
	p.here.forward(time.Second)
	a, _ := p.connects(t, true, false)
	if n, err := p.Client.Verifier.Replace(policy(t, anchored, rules), trust(t)); n != 0 || err != nil || !a.Verdict().Continued || a.Verdict().Age != time.Second {
		t.Errorf("replaced by itself: closed %d, %v, %+v", n, err, a.Verdict())
	}
	if n, err := p.Client.Verifier.Replace(policy(t, anchored, otherRules), trust(t)); n != 2 || err != nil {
		t.Errorf("closed %d, %v", n, err)
	}
	_, err := a.Write([]byte{1})
	has(t, err, CodePolicy, false)
}

// TestContinueSharedCertificate: processes that share a certificate have keys of their own. Each is
// known again, and none for another.
func TestContinueSharedCertificate(t *testing.T) {
	p := newPair(t, true, false, MaxContinue)
	first := p.Server
	p.connects(t, false, false)
	second := &Server{TLS: first.TLS, Attester: &Attester{Agent: p.ofServer}}
	p.Server = second
	p.connects(t, false, false)
	for range 2 {
		p.Server = first
		p.connects(t, true, false)
		p.Server = second
		p.connects(t, true, false)
	}
	for range maxOffers { // displaces both
		p.Server = &Server{TLS: first.TLS, Attester: &Attester{Agent: p.ofServer}}
		p.connects(t, false, false)
	}
	p.Server = first
	p.connects(t, false, false)
}

// TestContinueForgets: what became too old is forgotten when other evidence is remembered, and when the
// policy is replaced, also if its end never connects again.
func TestContinueForgets(t *testing.T) {
	p := newPair(t, true, false, time.Minute)
	v, old, young := p.Client.Verifier, keyOfPeer(roleServer, []byte{1}), keyOfPeer(roleServer, []byte{2})
	for name, forgets := range map[string]func(){
		"other evidence": func() { p.connects(t, false, false) },
		"another policy": func() {
			if _, err := v.Replace(policy(t, anchored, rules), trust(t)); err != nil {
				t.Error(err)
			}
		},
	} {
		v.memory.add(old, &known{size: 1, shown: p.here.now()})
		p.here.forward(time.Minute - 1)
		v.memory.add(young, &known{size: 1, shown: p.here.now()})
		p.here.forward(1)
		if forgets(); v.memory.of(old) != nil || len(v.memory.of(young)) != 1 {
			t.Errorf("%s: %d of the old are known, %d of the young", name, len(v.memory.of(old)), len(v.memory.of(young)))
		}
	}
	p.here.forward(time.Minute)
	v.forgetOld()
	if m := v.memory; len(m.peers) != 0 || m.order.Len() != 0 || m.bytes != 0 {
		t.Errorf("%d peers, %d bytes are left", len(m.peers), m.bytes)
	}
}

// TestContinueAtOnce: first connections that are made at the same time end in another order than they
// began. Each of them is known again.
func TestContinueAtOnce(t *testing.T) {
	p := newPair(t, true, false, MaxContinue)
	first, second := p.Client, &Client{TLS: p.Client.TLS, Verifier: goesOn(t, p.here, MaxContinue)}
	var asked atomic.Bool
	held, goOn, change := make(chan bool), make(chan bool), p.ofServer.change
	p.ofServer.change = func(r *evidencetest.Recipe) {
		if change(r); asked.CompareAndSwap(false, true) {
			close(held)
			<-goOn
		}
	}
	done := make(chan error, 1)
	go func() {
		_, _, ours, theirs := meet(t, first, p.Server)
		done <- errors.Join(ours, theirs)
	}()
	waitFor(t, held)
	p.Client = second
	p.connects(t, false, false)
	close(goOn)
	if err := waitFor(t, done); err != nil {
		t.Fatal(err)
	}
	for _, p.Client = range []*Client{second, first} {
		p.connects(t, true, false)
	}
	p.Server.Attester.sessions.current(func() time.Time {
		if mu := &p.Server.Attester.sessions.mu; mu.TryLock() {
			t.Error("the time may be one before a key that another connection makes")
			mu.Unlock()
		}
		return time.Now()
	})
}

// TestContinueMisuse: how long connections may rest on evidence is bounded.
func TestContinueMisuse(t *testing.T) {
	for _, most := range []time.Duration{-1, MaxContinue + 1} {
		if _, err := NewVerifier(policy(t, anchored, rules), VerifierOptions{Config: trust(t), Continue: most}); !errors.Is(err, ErrMisuse) {
			t.Errorf("%v: %v", most, err)
		}
	}
}

// TestAge: time is counted by the clock that says more, and a clock that went back makes it too
// long.
func TestAge(t *testing.T) {
	now := time.Now()
	wall := func(t time.Time, d time.Duration) time.Time { return t.Round(0).Add(d) }
	for _, c := range []struct {
		then, now time.Time
		want      time.Duration
	}{
		{now, now, 0}, {now, now.Add(time.Minute), time.Minute}, {now, wall(now, time.Minute), time.Minute},
		{now, wall(now, -1), MaxContinue + sessionLife}, {now, now.Add(-1), MaxContinue + sessionLife},
	} {
		if got := age(c.then, c.now); got != c.want {
			t.Errorf("from %v to %v: %v, want %v", c.then, c.now, got, c.want)
		}
	}
}

// TestMemory: what is remembered has bounds, and what was used longest ago goes first.
func TestMemory(t *testing.T) {
	key := func(i int) peerKey { return keyOfPeer(roleServer, []byte{byte(i), byte(i >> 8)}) }
	entry := func(session, size int) *known { return &known{session: []byte{byte(session)}, size: size} }
	count := func(m *memory) (n int) {
		sum := 0
		for e := m.order.Front(); e != nil; e = e.Next() {
			p := e.Value.(*peer)
			if n += len(p.known); len(p.known) == 0 || m.peers[p.key] != e {
				t.Errorf("a peer of which %d are known", len(p.known))
			}
			for _, k := range p.known {
				sum += k.size
			}
		}
		if sum != m.bytes || m.order.Len() != len(m.peers) {
			t.Errorf("%d bytes, counted %d; %d peers in a list of %d", m.bytes, sum, len(m.peers), m.order.Len())
		}
		return n
	}
	m := newMemory()
	for i := range maxPeers + 10 {
		m.add(key(i), entry(0, 1))
		m.of(key(0)) // stays
	}
	if n := count(m); n != maxPeers || m.of(key(0)) == nil || m.of(key(1)) != nil || m.of(key(maxPeers+9)) == nil {
		t.Errorf("%d are known", n)
	}
	m = newMemory()
	for i := range 3 * maxOffers {
		m.add(key(0), entry(i/2, 1))
	}
	if n, first := count(m), m.of(key(0))[0]; n != maxOffers || first.session[0] != byte(3*maxOffers-1)/2 {
		t.Errorf("%d are known of one, first %v", n, first.session)
	}
	for i := range 20 {
		m.add(key(i), entry(0, maxRemembered/10))
		if count(m); m.bytes > maxRemembered {
			t.Errorf("%d bytes", m.bytes)
		}
	}
	for i := range 20 {
		for _, k := range m.of(key(i)) {
			m.drop(key(i), k)
			m.drop(key(i), k)
		}
	}
	if n := count(m); n != 0 || m.bytes != 0 {
		t.Errorf("%d are known after all were dropped", n)
	}
}
