// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify"
)

// thief is an attacker with a copy of a leaf's private key. It stands between an end and the real
// machine, and passes all on.
type thief struct {
	leaf tls.Certificate
}

// between relays between the victim, which connects to the thief, and the real server.
func (th *thief) between(victim, real *tls.Conn) {
	pass := func(from, to *tls.Conn) {
		defer to.CloseWrite()
		io.Copy(to, from)
	}
	go pass(victim, real)
	pass(real, victim)
}

// keyOnly reports whether a verifier that binds the key alone accepts a document, as many did: the
// evidence is over its nonce and over the key that the connection shows.
func keyOnly(t *testing.T, document []byte, nonce, key []byte) bool {
	t.Helper()
	v, err := verify.New(policy(t, anchored, rules), trust(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Verify(document, verify.Expect{Nonce: nonce, PublicKey: key}, evidencetest.Time)
	return err == nil
}

// TestRelay: an attacker that owns a copy of the leaf's private key passes on what the real machine
// says. A verifier that binds the key alone accepts that. This one refuses, if the server's key was
// copied and if the client's was. Case 129.
func TestRelay(t *testing.T) {
	for _, of := range []role{roleServer, roleClient} {
		t.Run(string(of), func(t *testing.T) {
			roots, leaf := authority(t)
			th := &thief{leaf}
			var seen []*Verdict
			note := func(c *Conn, err error) {
				if e, is := err.(*Error); is && e.Verdict != nil {
					seen = append(seen, e.Verdict)
				}
			}
			server := &Server{TLS: &tls.Config{Certificates: []tls.Certificate{leaf}}}
			client := &Client{TLS: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{leaf}}}
			if of == roleServer {
				server.Attester, client.Verifier, client.Ended = attests(t, nil), usual(t), note
			} else {
				server.Verifier, client.Attester, server.Ended = usual(t), attests(t, nil), note
			}
			a, b := wire(t) // from the client to the thief
			c, d := wire(t) // from the thief to the server
			ours := make(chan error, 1)
			theirs := make(chan error, 1)
			go func() { ours <- speak(client.Conn(a, "server.example")) }()
			go func() { theirs <- speak(server.Conn(d)) }()
			config := &tls.Config{Certificates: []tls.Certificate{th.leaf}, RootCAs: roots, ServerName: "server.example", NextProtos: []string{Protocol}, ClientAuth: tls.RequestClientCert}
			go th.between(tls.Server(b, config), tls.Client(c, config))
			clientErr, serverErr := waitFor(t, ours), waitFor(t, theirs)
			has(t, clientErr, CodeExporter, of == roleClient)
			has(t, serverErr, CodeExporter, of == roleServer)
			if len(seen) != 1 {
				t.Fatalf("the verifier judged %d documents", len(seen))
			}
			if !keyOnly(t, without(t, seen[0]), seen[0].expect.Nonce, leaf.Leaf.RawSubjectPublicKeyInfo) {
				t.Error("a verifier that binds the key alone would refuse this evidence: the attack was not what it was meant to be")
			}
		})
	}
}

// without returns the evidence of a verdict.
func without(t *testing.T, v *Verdict) []byte {
	t.Helper()
	if len(v.Document) == 0 {
		t.Fatal("the verdict of a refusal has no document")
	}
	return v.Document
}

// TestAccomplice: a program of the machine that is not the service, but may ask the agent, has
// evidence made for the connection of an attacker with a copy of the leaf's key. A policy that names
// the caller refuses it. One that does not, and says so in words, accepts it: that is why it must
// say so.
func TestAccomplice(t *testing.T) {
	accomplice := func(r *evidencetest.Recipe) {
		c := &r.Statement.Caller
		c.Unit, c.App, c.Executable = "shell.service", "", nil
	}
	c, s := honest(t, accomplice)
	refusedByClient(t, CodePolicy, c, s)
	c, s = honest(t, accomplice)
	c.Verifier = verifierOf(t, policy(t, anchored, ""), func(o *VerifierOptions) { o.AcceptAnyCaller = true })
	if _, _, ours, theirs := meet(t, c, s); ours != nil || theirs != nil {
		t.Errorf("accepted by any caller: %v, %v", ours, theirs)
	}
}

// TestReflection: an attacker sends a client its own evidence back, on the same connection, so that
// the exporter fits. Case 129.
func TestReflection(t *testing.T) {
	roots, leaf := authority(t)
	client := &Client{TLS: &tls.Config{RootCAs: roots, Certificates: certificates(t)}, Attester: attests(t, nil), Verifier: usual(t)}
	a, b := wire(t)
	done := make(chan error, 1)
	go func() { done <- speak(client.Conn(a, "server.example")) }()
	p := newPuppet(t, tls.Server(b, &tls.Config{Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequestClientCert, NextProtos: []string{Protocol}})).shake()
	var theirs hello
	if err := p.receive(&theirs); err != nil {
		t.Fatal(err)
	}
	// The attacker also has a way to the agent of the client's machine that gives it the client's
	// own evidence for the nonce that the client chose.
	document, err := client.Attester.Agent.(*machine).make(api.EvidenceRequest{
		Nonce: theirs.Verify.Nonce, Freshness: evidence.Anchored, UserData: userData(roleClient, p.exporter), PublicKey: leaf.Leaf.RawSubjectPublicKeyInfo,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.send(wants(roleClient), &shown{Type: kindEvidence, Document: document})
	p.told(CodeRole)
	has(t, waitFor(t, done), CodeRole, false)

	// Its own hello, as it was.
	a, b = wire(t)
	go func() { done <- speak(client.Conn(a, "server.example")) }()
	p = newPuppet(t, tls.Server(b, &tls.Config{Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequestClientCert, NextProtos: []string{Protocol}})).shake()
	if err := p.receive(&theirs); err != nil {
		t.Fatal(err)
	}
	theirs.Attests = false // a server's has no such member
	p.send(&theirs)
	p.told(CodeRole)
	has(t, waitFor(t, done), CodeRole, false)
}

// noTickets is a cache of sessions that none may come to.
type noTickets struct{ t *testing.T }

func (noTickets) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

func (c noTickets) Put(string, *tls.ClientSessionState) {
	c.t.Error("the server gave a ticket, with which a session could be resumed")
}

// TestNoTickets: a server gives no ticket, so that no session can be resumed. Case 129.
func TestNoTickets(t *testing.T) {
	s := &Server{Attester: attests(t, nil), Timeout: patience}
	a, b := wire(t)
	done := make(chan error, 1)
	go func() { done <- speak(s.Conn(b)) }()
	p := newPuppet(t, tls.Client(a, &tls.Config{InsecureSkipVerify: true, ServerName: "server.example", NextProtos: []string{Protocol}, ClientSessionCache: noTickets{t}})).shake()
	p.send(wants(roleServer))
	if err := errors.Join(p.receive(new(hello)), p.receive(new(shown))); err != nil { // a ticket would have come before
		t.Fatal(err)
	}
	p.Close()
	waitFor(t, done)
}

// TestSlowFrames: a frame that announces much and brings little takes little memory. Case 129.
func TestSlowFrames(t *testing.T) {
	var f frame
	r := bytes.NewReader(append([]byte{0x02, 0x00, 0x00, 0x00}, make([]byte, 10)...)) // 32 MiB
	if _, err := f.read(r, 64<<20, nil); err == nil || len(f.body) > 2*firstPart {
		t.Errorf("%v, with %d bytes allocated", err, len(f.body))
	}
}

// TestLargeFrames: a frame above the usual size takes a turn before it is read that far, and gives it
// back. Case 129.
func TestLargeFrames(t *testing.T) {
	full := errors.New("no turn")
	for _, size := range []int{maxMessage, maxMessage + 1, 10 * maxMessage} {
		asked := 0
		var f frame
		_, err := f.read(bytes.NewReader(append(binary.BigEndian.AppendUint32(nil, uint32(size)), make([]byte, size)...)), 20*maxMessage, func(announced int) error {
			if announced != size {
				t.Errorf("%d bytes are announced as %d", size, announced)
			}
			if asked++; len(f.body) > maxMessage {
				t.Errorf("%d bytes were allocated before the turn", len(f.body))
			}
			return full
		})
		if large := size > maxMessage; large != errors.Is(err, full) || large != (asked == 1) {
			t.Errorf("%d bytes: asked %d times, %v", size, asked, err)
		}
	}
	for _, refuses := range []error{nil, errors.New("no")} {
		_, s := honest(t, func(r *evidencetest.Recipe) { r.FirmwareLog = make([]byte, 100<<10) })
		roots, leaf := authority(t)
		s.TLS = &tls.Config{Certificates: []tls.Certificate{leaf}}
		c := &Client{TLS: &tls.Config{RootCAs: roots}, Verifier: usual(t)}
		judged := 0
		c.Hook = func(_ context.Context, v *Verdict) error {
			if judged = c.Verifier.large.taken; len(v.Document) <= maxMessage {
				t.Errorf("a document of %d bytes", len(v.Document))
			}
			return refuses
		}
		if _, _, ours, theirs := meet(t, c, s); (ours != nil) != (refuses != nil) || (theirs != nil) != (refuses != nil) {
			t.Errorf("%v, %v", ours, theirs)
		}
		if n := c.Verifier.large.taken; judged != 1 || n != 0 {
			t.Errorf("%d turns while it was judged, and %d were not given back", judged, n)
		}
	}
}
