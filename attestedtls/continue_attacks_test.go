// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
)

// TestContinueRelay: an attacker with a copy of the leaf's key passes on what the real end, which
// both know from before, says on another connection. Case 129.
func TestContinueRelay(t *testing.T) {
	for _, of := range []role{roleServer, roleClient} {
		p := newPair(t, of == roleServer, of == roleClient, MaxContinue)
		p.connects(t, false, false)
		p.connects(t, true, true)
		leaf := p.Server.TLS.Certificates
		if of == roleClient {
			leaf = p.Client.TLS.Certificates
		}
		a, b := wire(t) // from the client to the thief
		c, d := wire(t) // from the thief to the server
		ours, theirs := make(chan error, 1), make(chan error, 1)
		go func() { ours <- speak(p.Client.Conn(a, "server.example")) }()
		go func() { theirs <- speak(p.Server.Conn(d)) }()
		server := &tls.Config{Certificates: p.Server.TLS.Certificates, NextProtos: []string{Protocol}, ClientAuth: tls.RequestClientCert}
		client := &tls.Config{Certificates: leaf, InsecureSkipVerify: true, NextProtos: []string{Protocol}}
		go (&thief{}).between(tls.Server(b, server), tls.Client(c, client))
		before := p.ofServer.asked.Load() + p.ofClient.asked.Load()
		has(t, waitFor(t, ours), CodeContinued, of == roleClient)
		has(t, waitFor(t, theirs), CodeContinued, of == roleServer)
		if p.ofServer.asked.Load()+p.ofClient.asked.Load() != before {
			t.Error("the agent was asked: the attack was not what it was meant to be")
		}
		p.connects(t, false, false) // what the proof was wrong for is forgotten
	}
}

// puppetOf connects a puppet, with the server's own certificate, to the client of a pair.
func (p *pair) puppetOf(t *testing.T, do func(*puppet, *hello)) error {
	t.Helper()
	a, b := wire(t)
	done := make(chan error, 1)
	go func() { done <- speak(p.Client.Conn(a, "server.example")) }()
	x := newPuppet(t, tls.Server(b, &tls.Config{Certificates: p.Server.TLS.Certificates, NextProtos: []string{Protocol}, ClientAuth: tls.RequestClientCert})).shake()
	x.key = p.Server.TLS.Certificates[0].Leaf.RawSubjectPublicKeyInfo
	var theirs hello
	if err := x.receive(&theirs); err != nil {
		t.Fatal(err)
	}
	do(x, &theirs)
	return waitFor(t, done)
}

// proves returns what continues an offer, as the real end would say it, and what its proof is over.
func (p *pair) proves(x *puppet, theirs *hello) (*continued, *continuation, []byte) {
	o := theirs.Verify.Continue[0]
	_, secret := p.Server.Attester.offered(theirs.Verify, x.key)
	c := &continuation{role: roleServer, exporter: x.exporter, nonce: theirs.Verify.Nonce, publicKey: x.key, session: o.Session, evidence: o.Evidence, salt: random()}
	return &continued{Type: kindContinued, Session: o.Session, Evidence: o.Evidence, Salt: c.salt, Proof: c.proof(secret)}, c, secret
}

// TestContinueForged: a proof is over all that the connection is. An attacker has the leaf's key, and
// in these cases even the secret, or one of another connection: each part alone makes the proof
// another one. Case 129.
func TestContinueForged(t *testing.T) {
	flip := func(b []byte) []byte { b = bytes.Clone(b); b[0] ^= 1; return b }
	for name, change := range map[string]func(m *continued, c *continuation, secret []byte){
		"":         func(*continued, *continuation, []byte) {}, // accepted
		"role":     func(m *continued, c *continuation, s []byte) { c.role = roleClient; m.Proof = c.proof(s) },
		"exporter": func(m *continued, c *continuation, s []byte) { c.exporter = flip(c.exporter); m.Proof = c.proof(s) },
		"nonce":    func(m *continued, c *continuation, s []byte) { c.nonce = flip(c.nonce); m.Proof = c.proof(s) },
		"audience": func(m *continued, c *continuation, s []byte) { c.audience = "elsewhere"; m.Proof = c.proof(s) },
		"key":      func(m *continued, c *continuation, s []byte) { c.publicKey = flip(c.publicKey); m.Proof = c.proof(s) },
		"session":  func(m *continued, c *continuation, s []byte) { c.session = flip(c.session); m.Proof = c.proof(s) },
		"evidence": func(m *continued, c *continuation, s []byte) { c.evidence[0] ^= 1; m.Proof = c.proof(s) },
		"salt":     func(m *continued, c *continuation, s []byte) { c.salt = flip(c.salt); m.Proof = c.proof(s) },
		"secret":   func(m *continued, c *continuation, s []byte) { m.Proof = c.proof(flip(s)) },
		"proof":    func(m *continued, _ *continuation, _ []byte) { m.Proof = flip(m.Proof) },
		"evidence that was not named": func(m *continued, c *continuation, s []byte) {
			c.evidence[0] ^= 1
			m.Evidence, m.Proof = c.evidence, c.proof(s)
		},
		"session that was not named": func(m *continued, c *continuation, s []byte) {
			c.session = flip(c.session)
			m.Session, m.Proof = c.session, c.proof(s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, true, false, MaxContinue)
			p.connects(t, false, false)
			p.connects(t, true, false)
			err := p.puppetOf(t, func(x *puppet, theirs *hello) {
				m, c, secret := p.proves(x, theirs)
				change(m, c, secret)
				x.send(&hello{Type: kindHello}, m)
				if name != "" {
					x.told(CodeContinued)
					return
				}
				var v verdict
				if err := errors.Join(x.receive(&v), x.receive(new(start))); err != nil || v.Evidence != sha256.Sum256(m.Proof) {
					t.Errorf("%v, %+v", err, v)
				}
				x.send(&start{Type: kindStart, Confirm: v.Confirm}, []byte("x"))
			})
			if name == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			has(t, err, CodeContinued, false)
		})
	}
}

// TestContinueReplay: the message that continued one connection continues no other one.
func TestContinueReplay(t *testing.T) {
	p := newPair(t, true, false, MaxContinue)
	p.connects(t, false, false)
	var old *continued
	if err := p.puppetOf(t, func(x *puppet, theirs *hello) {
		old, _, _ = p.proves(x, theirs)
		x.Close()
	}); err == nil {
		t.Error("accepted nothing")
	}
	has(t, p.puppetOf(t, func(x *puppet, _ *hello) {
		x.send(&hello{Type: kindHello}, old)
		x.told(CodeContinued)
	}), CodeContinued, false)
}

// TestContinueSwapped: what an end knows of a client does not pass for a server, nor what it knows of
// one key for another, nor the other way round. One verifier and one attester serve both.
func TestContinueSwapped(t *testing.T) {
	p := newPair(t, true, true, MaxContinue)
	p.Server.Verifier, p.Client.Attester = p.Client.Verifier, p.Server.Attester
	p.Client.TLS.Certificates = p.Server.TLS.Certificates
	_, _, ours, theirs := meet(t, p.Client, p.Server)
	if ours != nil || theirs != nil {
		t.Fatal(ours, theirs)
	}
	m, key := p.Client.Verifier.memory, p.Server.TLS.Certificates[0].Leaf.RawSubjectPublicKeyInfo
	server, client := m.of(keyOfPeer(roleServer, key)), m.of(keyOfPeer(roleClient, key))
	if len(server) != 1 || len(client) != 1 || server[0].digest == client[0].digest || bytes.Equal(server[0].secret, client[0].secret) {
		t.Fatalf("%d and %d are known", len(server), len(client))
	}
	k := p.Server.Attester.sessions.known[0]
	want := k.secret(roleServer, "", key, server[0].digest)
	if !bytes.Equal(want, server[0].secret) {
		t.Fatal("the secret is another one")
	}
	for name, other := range map[string][]byte{
		"role": k.secret(roleClient, "", key, server[0].digest), "audience": k.secret(roleServer, "x", key, server[0].digest),
		"key": k.secret(roleServer, "", key[1:], server[0].digest), "evidence": k.secret(roleServer, "", key, client[0].digest),
		"session": (&sessionKey{}).secret(roleServer, "", key, server[0].digest),
	} {
		if bytes.Equal(other, want) {
			t.Errorf("the secret does not depend on the %s", name)
		}
	}
	// A client sends back, as a server, what this very program says as a client.
	has(t, p.puppetOf(t, func(x *puppet, theirs *hello) {
		w := *theirs.Verify
		w.Role = roleClient
		o, secret := p.Client.Attester.offered(&w, key)
		c := &continuation{role: roleClient, exporter: x.exporter, nonce: theirs.Verify.Nonce, publicKey: key, session: o.Session, evidence: o.Evidence, salt: random()}
		x.send(&hello{Type: kindHello}, &continued{Type: kindContinued, Session: o.Session, Evidence: o.Evidence, Salt: c.salt, Proof: c.proof(secret)})
		x.told(CodeContinued)
	}), CodeContinued, false)
}

// TestContinueUnasked: an end that did not ask to continue gets evidence, and refuses what else comes.
func TestContinueUnasked(t *testing.T) {
	p := newPair(t, true, false, 0)
	zeros := make([]byte, nonceSize)
	has(t, p.puppetOf(t, func(x *puppet, theirs *hello) {
		if theirs.Verify.Continue != nil {
			t.Error("asks to continue")
		}
		x.send(&hello{Type: kindHello}, &continued{Type: kindContinued, Session: zeros[:sessionSize], Evidence: evidence.Digest{1}, Salt: zeros, Proof: zeros})
		x.told(CodeContinued)
	}), CodeContinued, false)
	has(t, p.puppetOf(t, func(x *puppet, theirs *hello) {
		m := x.evidence(p.ofServer, theirs.Verify)
		m.Session, m.Secret = zeros[:sessionSize], zeros
		x.send(&hello{Type: kindHello}, m)
		x.told(CodeContinued)
	}), CodeContinued, false)
	// An end that attests gives a secret only if it is asked for.
	for _, asks := range []*hello{wants(roleServer), continues(roleServer)} {
		toServer(t, p.Server, func(x *puppet) {
			x.shake().send(asks)
			var m shown
			if err := errors.Join(x.receive(new(hello)), x.receive(&m)); err != nil || (m.Secret != nil) != (asks.Verify.Continue != nil) || (m.Session != nil) != (m.Secret != nil) {
				t.Errorf("%v, session %x", err, m.Session)
			}
			x.Close()
		})
	}
}

// TestContinueLies: a verifier that names evidence of another one gets a proof, for its own
// connection, of a secret that it does not know. One that names a key of another process gets
// evidence.
func TestContinueLies(t *testing.T) {
	p := newPair(t, true, false, MaxContinue)
	p.connects(t, false, false)
	theirs := p.Client.Verifier.memory.of(keyOfPeer(roleServer, p.Server.TLS.Certificates[0].Leaf.RawSubjectPublicKeyInfo))[0]
	toServer(t, p.Server, func(x *puppet) {
		x.shake().send(continues(roleServer, offer{theirs.session, theirs.digest}))
		var m continued
		if err := errors.Join(x.receive(new(hello)), x.receive(&m)); err != nil {
			t.Fatal(err)
		}
		key := x.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo
		c := &continuation{role: roleServer, exporter: x.exporter, nonce: wants(roleServer).Verify.Nonce, publicKey: key, session: m.Session, evidence: m.Evidence, salt: m.Salt}
		if !bytes.Equal(c.proof(theirs.secret), m.Proof) {
			t.Error("the proof is not of this connection alone")
		}
		x.Close()
	})
	toServer(t, p.Server, func(x *puppet) {
		x.shake().send(continues(roleServer, offer{make([]byte, sessionSize), theirs.digest}))
		if err := errors.Join(x.receive(new(hello)), x.receive(new(shown))); err != nil {
			t.Error(err)
		}
		x.Close()
	})
	// Limits of the attester count before it continues anything.
	limited := &Server{TLS: p.Server.TLS, Attester: p.Server.Attester}
	limited.Attester.Audiences = []string{"accounting"}
	has(t, toServer(t, limited, func(x *puppet) {
		x.shake().send(continues(roleServer, offer{theirs.session, theirs.digest}))
		if err := x.receive(new(hello)); err == nil {
			t.Error("a hello came before the refusal")
		}
	}), CodeAudience, false)
}

// TestContinueEarly: an end that verifies cannot send its verdict before it has read the proof, and
// the digest of the evidence is not one.
func TestContinueEarly(t *testing.T) {
	p := newPair(t, true, false, MaxContinue)
	p.connects(t, false, false)
	theirs := p.Client.Verifier.memory.of(keyOfPeer(roleServer, p.Server.TLS.Certificates[0].Leaf.RawSubjectPublicKeyInfo))[0]
	has(t, toServer(t, p.Server, func(x *puppet) {
		x.shake().send(continues(roleServer, offer{theirs.session, theirs.digest}), &verdict{Type: kindVerdict, Evidence: theirs.digest, Confirm: random()}, &start{Type: kindStart})
		if err := errors.Join(x.receive(new(hello)), x.receive(new(continued))); err != nil {
			t.Error(err)
		}
		x.told(CodeEarlyData)
	}), CodeEarlyData, false)
}

// TestContinueShapes: members and messages that are not as they must be.
func TestContinueShapes(t *testing.T) {
	zeros := make([]byte, nonceSize)
	fresh := continues(roleServer)
	fresh.Verify.Freshness = evidence.Fresh
	many := continues(roleServer)
	for range maxOffers + 1 {
		many.Verify.Continue = append(many.Verify.Continue, offer{zeros[:sessionSize], evidence.Digest{1}})
	}
	for _, m := range []any{fresh, many, continues(roleServer, offer{zeros, evidence.Digest{1}}), continues(roleServer, offer{nil, evidence.Digest{1}})} {
		has(t, toServer(t, &Server{Attester: attests(t, nil)}, func(x *puppet) {
			x.shake().send(m)
			x.told(CodeMessage)
		}), CodeMessage, false)
	}
	for code, messages := range map[Code][]any{
		CodeMessage: {
			&shown{Type: kindEvidence, Document: []byte("{}"), Session: zeros[:sessionSize]}, &shown{Type: kindEvidence, Document: []byte("{}"), Secret: zeros},
			&shown{Type: kindEvidence, Document: []byte("{}"), Session: zeros, Secret: zeros}, &shown{Type: kindEvidence, Document: []byte("{}"), Session: zeros[:sessionSize], Secret: zeros[1:]},
			&continued{Type: kindContinued, Session: zeros, Salt: zeros, Proof: zeros}, &continued{Type: kindContinued, Session: zeros[:sessionSize], Salt: zeros[1:], Proof: zeros},
			&continued{Type: kindContinued, Session: zeros[:sessionSize], Salt: zeros, Proof: zeros[1:]},
		},
		CodeFrame: {framed(`{"type":"continued"` + string(bytes.Repeat([]byte(" "), maxMessage)) + "}"), binary.BigEndian.AppendUint32(nil, 1)},
	} {
		for _, m := range messages {
			p := newPair(t, true, false, MaxContinue)
			has(t, p.puppetOf(t, func(x *puppet, _ *hello) {
				x.send(&hello{Type: kindHello}, m)
				x.told(code)
			}), code, false)
		}
	}
}
