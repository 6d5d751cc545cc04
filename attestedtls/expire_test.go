// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"crypto/tls"
	"errors"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify"
)

// lasts is the usual policy, which expires so long after the beginning of a test's clock.
func lasts(t *testing.T, most time.Duration, tables string) *verify.SignedPolicy {
	return &verify.SignedPolicy{Policy: policy(t, anchored, tables), Label: verify.PolicyLabel{Expires: evidencetest.Time.Add(most)}}
}

// expires returns a verifier under a policy that expires.
func expires(t *testing.T, c *clock, p *verify.SignedPolicy, change func(*VerifierOptions)) *Verifier {
	t.Helper()
	o := VerifierOptions{Config: trust(t), Now: c.now}
	if change != nil {
		change(&o)
	}
	v, err := NewSignedVerifier(p, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestPolicyExpires: from the moment at which a signed policy expires, each end that verifies refuses
// new connections, also those that would rest on earlier evidence, until another policy is in force.
// An open connection stays.
func TestPolicyExpires(t *testing.T) {
	const most = time.Minute
	for _, ofClient := range []bool{true, false} {
		p, clock := newPair(t, ofClient, !ofClient, time.Hour), new(clock)
		v := expires(t, clock, lasts(t, most, rules), func(o *VerifierOptions) { o.Continue = time.Hour })
		if ofClient {
			p.Client.Verifier = v
		} else {
			p.Server.Verifier = v
		}
		p.connects(t, false, false)
		clock.forward(most - 1)
		open, other := p.connects(t, ofClient, !ofClient)
		clock.forward(1)
		asked := p.ofClient.asked.Load() + p.ofServer.asked.Load()
		for range 2 {
			_, _, ours, theirs := meet(t, p.Client, p.Server)
			has(t, ours, CodePolicy, !ofClient)
			has(t, theirs, CodePolicy, ofClient)
		}
		if n := p.ofClient.asked.Load() + p.ofServer.asked.Load() - asked; n != 2 {
			t.Errorf("evidence was made %d times for 2 refusals", n)
		}
		done := make(chan error, 1)
		go func() { done <- speak(other) }()
		if err := errors.Join(speak(open), waitFor(t, done)); err != nil {
			t.Errorf("the open connection: %v", err)
		}
		if _, err := v.ReplaceSigned(lasts(t, most, rules), trust(t)); !errors.Is(err, ErrMisuse) {
			t.Errorf("an expired policy is put into force: %v", err)
		}
		if _, err := v.ReplaceSigned(lasts(t, most+1, rules), trust(t)); err != nil {
			t.Fatal(err)
		}
		p.connects(t, false, false)
	}
	if _, err := NewSignedVerifier(lasts(t, 0, rules), VerifierOptions{Config: trust(t), Now: new(clock).now}); !errors.Is(err, ErrMisuse) {
		t.Errorf("a verifier under an expired policy: %v", err)
	}
}

// TestExpiredWhileAnswering: a policy that expires after evidence was offered to be continued, and
// before the answer came, accepts no answer.
func TestExpiredWhileAnswering(t *testing.T) {
	p, clock := newPair(t, true, false, time.Hour), new(clock)
	v := expires(t, clock, lasts(t, time.Minute, rules), func(o *VerifierOptions) { o.Continue = time.Hour })
	p.Client.Verifier = v
	p.connects(t, false, false)
	remembered := v.memory.of(onlyPeer(v))
	if len(remembered) != 1 {
		t.Fatalf("%d documents are remembered", len(remembered))
	}
	for _, known := range remembered {
		if v.verdictOn(known, v.current(), clock.now()) == nil {
			t.Error("a policy in force refuses")
		}
		if v.verdictOn(known, v.current(), clock.now().Add(time.Minute)) != nil {
			t.Error("an expired policy accepts")
		}
	}
}

// onlyPeer returns the key of the one peer that a verifier remembers.
func onlyPeer(v *Verifier) (key peerKey) {
	for key = range v.memory.peers {
	}
	return key
}

// TestWarnOfExpired: a hook that warns lets pass what an expired policy would accept, and is told.
func TestWarnOfExpired(t *testing.T) {
	roots, leaf := authority(t)
	clock := new(clock)
	var told []*Verdict
	c := &Client{TLS: &tls.Config{RootCAs: roots}, Verifier: expires(t, clock, lasts(t, time.Minute, rules), nil), Hook: Warn(func(v *Verdict) { told = append(told, v) })}
	clock.forward(time.Hour)
	conn, _, ours, theirs := meet(t, c, &Server{TLS: &tls.Config{Certificates: []tls.Certificate{leaf}}, Attester: attests(t, nil)})
	if err := errors.Join(ours, theirs); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || told[0].Refusal.Code != CodePolicy || conn.Claims() != nil || conn.Verdict().Refusal == nil {
		t.Errorf("told of %d; %+v", len(told), conn.Verdict())
	}
}

// closedFor waits until an end has closed a connection, and returns why.
func closedFor(t *testing.T, c *Conn) error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		done <- err
	}()
	return waitFor(t, done)
}

// opened returns a connection that is open under v.
func opened(t *testing.T, v *Verifier) *Conn {
	t.Helper()
	conn, _, ours, theirs := meet(t, &Client{AnyCertificate: true, Verifier: v}, &Server{Attester: attests(t, nil)})
	if err := errors.Join(ours, theirs); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestExpiryClosesOpen: with JudgeOpen, the end of a policy closes open connections, also if the time
// until then was not known when it was put into force: a clock that is set is seen.
func TestExpiryClosesOpen(t *testing.T) {
	const moment = 10 * time.Millisecond // by the clock of the test, which does not go on by itself
	judges := func(o *VerifierOptions) { o.JudgeOpen = true }
	first, replaced := new(clock), new(clock)
	later := expires(t, replaced, lasts(t, time.Hour, rules), judges)
	if _, err := later.ReplaceSigned(lasts(t, moment, rules), trust(t)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		*clock
		v *Verifier
	}{{first, expires(t, first, lasts(t, moment, rules), judges)}, {replaced, later}} {
		conn := opened(t, c.v)
		looks := c.looks.Load() // the timer fires, and looks again
		for end := time.Now().Add(time.Minute); c.looks.Load() < looks+3; time.Sleep(moment) {
			if time.Now().After(end) {
				t.Fatal("the clock is not looked at again")
			}
		}
		if got := conn.Verdict(); got.Refusal != nil {
			t.Fatalf("before the policy expires: %v", got.Refusal)
		}
		c.forward(moment)
		has(t, closedFor(t, conn), CodePolicy, false)
		if got := conn.Verdict(); got.Refusal == nil || got.Claims != nil {
			t.Errorf("the verdict after that is %+v", got)
		}
		c.forward(-moment)
		_, _, err, _ := meet(t, &Client{AnyCertificate: true, Verifier: c.v}, &Server{Attester: attests(t, nil)})
		has(t, err, CodePolicy, false) // also when the clock goes back
	}
}

// TestExpiryMeetsOthers: a connection that was accepted just before its policy ended is closed when it
// is noted. The end of a policy that was replaced changes nothing.
func TestExpiryMeetsOthers(t *testing.T) {
	clock := new(clock)
	v := expires(t, clock, lasts(t, time.Hour, rules), func(o *VerifierOptions) { o.JudgeOpen = true })
	late, before := opened(t, v), v.current()
	v.drop(late)
	if v.expire(before); v.current() != before {
		t.Error("a policy ends before it expires")
	}
	clock.forward(time.Hour)
	v.expire(before)
	v.keep(late, before)
	has(t, closedFor(t, late), CodePolicy, false)

	if _, err := v.Replace(policy(t, anchored, rules), trust(t)); err != nil {
		t.Fatal(err)
	}
	stays, now := opened(t, v), v.current()
	if v.expire(before); v.current() != now {
		t.Error("the end of a policy of before ends that in force")
	}
	if got := stays.Verdict(); got.Refusal != nil {
		t.Errorf("the connection is refused: %v", got.Refusal)
	}
}
