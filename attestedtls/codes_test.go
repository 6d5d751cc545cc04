// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// toServer has a puppet do something to a server, and returns what the server says.
func toServer(t *testing.T, s *Server, do func(*puppet)) error {
	t.Helper()
	s.Timeout = patience
	a, b := wire(t)
	conn := s.Conn(b)
	done := make(chan error, 1)
	go func() { done <- speak(conn) }()
	do(puppetClient(t, a))
	return waitFor(t, done)
}

// toClient has a puppet do something to a client, and returns what the client says.
func toClient(t *testing.T, c *Client, do func(*puppet)) error {
	t.Helper()
	c.Timeout = patience
	a, b := wire(t)
	conn := c.Conn(a, "server.example")
	done := make(chan error, 1)
	go func() { done <- speak(conn) }()
	do(puppetServer(t, b))
	return waitFor(t, done)
}

// told checks that the other end sends this code.
func (p *puppet) told(code Code) {
	p.tb.Helper()
	err := p.receive(new(refused))
	has(p.tb, err, code, true)
}

// honest returns the ends of a connection on which the client verifies what change makes of the
// server's evidence.
func honest(t *testing.T, change func(*evidencetest.Recipe)) (*Client, *Server) {
	return &Client{AnyCertificate: true, Verifier: usual(t)}, &Server{Attester: attests(t, change)}
}

// refusedByClient checks that a client refuses what change makes of the server's evidence, and that
// the server hears of it.
func refusedByClient(t *testing.T, code Code, c *Client, s *Server) {
	t.Helper()
	_, _, ours, theirs := meet(t, c, s)
	has(t, ours, code, false)
	has(t, theirs, code, true)
}

// changed is a case in which the server's evidence is changed.
func changed(code Code, change func(*evidencetest.Recipe)) func(*testing.T) {
	return func(t *testing.T) {
		c, s := honest(t, change)
		refusedByClient(t, code, c, s)
	}
}

// provoked has for each code what makes an end refuse with it. Case 129.
var provoked = map[Code]func(*testing.T){
	CodeTLS: func(t *testing.T) {
		old := func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }
		has(t, withTLS(t, true, old), CodeTLS, false)
		has(t, withTLS(t, false, old), CodeTLS, false)
	},
	CodeALPN: func(t *testing.T) {
		none := func(c *tls.Config) { c.NextProtos = nil }
		has(t, withTLS(t, true, none), CodeALPN, false)
		has(t, withTLS(t, false, none), CodeALPN, false)
	},
	CodeResumed: func(t *testing.T) { has(t, resume(t), CodeResumed, false) },
	CodeCertificate: func(t *testing.T) {
		none := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return new(tls.Certificate), nil }
		c := &Client{AnyCertificate: true, Verifier: usual(t), Attester: attests(t, nil), TLS: &tls.Config{GetClientCertificate: none}}
		_, _, ours, theirs := meet(t, c, &Server{Attester: attests(t, nil), Verifier: usual(t)})
		has(t, ours, CodeCertificate, true)
		has(t, theirs, CodeCertificate, false)
	},
	CodeFrame: func(t *testing.T) {
		for _, size := range []uint32{0, 1, maxMessage + 1, 1 << 31, 1<<32 - 1} {
			has(t, toServer(t, &Server{Attester: attests(t, nil)}, func(p *puppet) {
				p.shake().send(binary.BigEndian.AppendUint32(nil, size))
				p.told(CodeFrame)
			}), CodeFrame, false)
		}
	},
	CodeMessage: func(t *testing.T) {
		for _, text := range []string{
			"xx", "[]", `{"type":"hello"`, `{"type":"hello","more":1}`, `{"type":"hello","type":"hello"}`, `{"type":"hello","Attests":true}`, `{"type":"hello"} x`,
			`{"type":"hello","attests":null}`, `{"type":"hello","attests":false}`, `{"type":"hello","attests":"true"}`, `{"type":"hello","application":""}`, `{"type":"hello","verify":null}`,
			wished(`"audience":""`), wished(`"audience":"` + strings.Repeat("a", 257) + `"`), wished(`"firmwareLog":false`), wished(`"continue":null`), wished(`"continue":{}`), wished(`"continue":[{}]`), wished(`"continue":[{"session":""}]`),
			`{"type":"hello","application":"` + strings.Repeat("a", 65) + `"}`, `{"type":"hello","verify":{"role":"server","nonce":"AAAA","freshness":"fresh"}}`,
			`{"type":"hello","application":"a\u0000b"}`, `{"type":"hello","verify":{"role":"server","freshness":"fresh"}}`,
		} {
			has(t, toServer(t, &Server{Attester: attests(t, nil)}, func(p *puppet) {
				p.shake().send(framed(text))
				p.told(CodeMessage)
			}), CodeMessage, false)
		}
		c, _ := honest(t, nil)
		has(t, toClient(t, c, func(p *puppet) {
			if err := p.shake().receive(new(hello)); err != nil {
				t.Error(err)
			}
			p.send(&hello{Type: kindHello, Attests: true})
			p.told(CodeMessage)
		}), CodeMessage, false)
		// As long as it may be, and all that may be absent.
		toServer(t, &Server{Attester: attests(t, nil), Application: strings.Repeat("a", 64)}, func(p *puppet) {
			p.shake().send(framed(strings.Replace(wished(`"audience":"`+strings.Repeat("a", 256)+`","continue":[],"firmwareLog":true`), `"hello"`, `"hello","attests":true,"application":"`+strings.Repeat("a", 64)+`"`, 1)))
			if err := p.receive(new(hello)); err != nil {
				t.Error(err)
			}
			p.Close()
		})
	},
	CodeUnexpected: func(t *testing.T) {
		for _, m := range []any{&start{Type: kindStart}, &verdict{Type: kindVerdict, Confirm: make([]byte, nonceSize)}, &shown{Type: kindEvidence}, framed(`{}`), framed(`{"type":"later"}`)} {
			has(t, toServer(t, &Server{Attester: attests(t, nil)}, func(p *puppet) {
				p.shake().send(m)
				p.told(CodeUnexpected)
			}), CodeUnexpected, false)
		}
	},
	CodeApplication: func(t *testing.T) {
		c, s := honest(t, nil)
		c.Application, s.Application = "http/1.1", "postgresql"
		_, _, ours, theirs := meet(t, c, s)
		has(t, ours, CodeApplication, true)
		has(t, theirs, CodeApplication, false)
	},
	CodeNothingVerified: func(t *testing.T) {
		has(t, toServer(t, &Server{Attester: attests(t, nil)}, func(p *puppet) {
			p.shake().send(&hello{Type: kindHello, Attests: true})
			p.told(CodeNothingVerified)
		}), CodeNothingVerified, false)
		roots, certificate := authority(t)
		c := &Client{TLS: &tls.Config{RootCAs: roots}, Attester: attests(t, nil)}
		_, _, ours, _ := meet(t, c, &Server{TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}, Attester: attests(t, nil)})
		has(t, ours, CodeNothingVerified, true)
	},
	CodeNotAttested: func(t *testing.T) {
		// The server does not attest; the client does not.
		for _, c := range []*Client{
			{AnyCertificate: true, Verifier: usual(t), Attester: attests(t, nil)},
			{AnyCertificate: true, Verifier: usual(t), TLS: &tls.Config{Certificates: certificates(t)}},
		} {
			s := &Server{Verifier: usual(t)}
			if c.Attester == nil {
				s.Attester = attests(t, nil)
			}
			_, _, ours, theirs := meet(t, c, s)
			has(t, ours, CodeNotAttested, true)
			has(t, theirs, CodeNotAttested, false)
		}
	},
	CodeRole: func(t *testing.T) {
		has(t, toServer(t, &Server{Attester: attests(t, nil)}, func(p *puppet) {
			p.shake().send(wants(roleClient))
			p.told(CodeRole)
		}), CodeRole, false)
		changed(CodeRole, func(r *evidencetest.Recipe) {
			r.Statement.UserData = bytes.Replace(r.Statement.UserData, []byte(roleServer), []byte(roleClient), 1)
		})(t)
	},
	CodeNonce: func(t *testing.T) {
		roots, certificate := authority(t)
		c := &Client{TLS: &tls.Config{RootCAs: roots}, Verifier: usual(t), Attester: attests(t, nil)}
		a, b := wire(t)
		done := make(chan error, 1)
		go func() { done <- speak(c.Conn(a, "server.example")) }()
		p := newPuppet(t, tls.Server(b, &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequestClientCert, NextProtos: []string{Protocol}})).shake()
		var theirs hello
		if err := p.receive(&theirs); err != nil {
			t.Fatal(err)
		}
		back := wants(roleClient)
		back.Verify.Nonce = theirs.Verify.Nonce
		p.send(back)
		p.told(CodeNonce)
		has(t, waitFor(t, done), CodeNonce, false)
		changed(CodeNonce, func(r *evidencetest.Recipe) { r.Statement.Nonce = evidencetest.Nonce })(t)
	},
	CodeAudience: func(t *testing.T) {
		for _, own := range []string{"", "accounting"} { // a verifier without a name wants evidence without one
			for audience, refuses := range map[string]bool{own: false, "somewhere else": true} {
				c, s := honest(t, func(r *evidencetest.Recipe) { r.Statement.Audience = audience })
				c.Verifier = verifierOf(t, policy(t, anchored, rules), func(o *VerifierOptions) { o.Audience = own })
				if refuses {
					refusedByClient(t, CodeAudience, c, s)
				} else if _, _, ours, theirs := meet(t, c, s); ours != nil || theirs != nil {
					t.Errorf("audience %q: %v, %v", own, ours, theirs)
				}
			}
		}
		c, s := honest(t, nil)
		s.Attester.Audiences = []string{"accounting"}
		_, _, ours, theirs := meet(t, c, s)
		has(t, ours, CodeAudience, true)
		has(t, theirs, CodeAudience, false)
	},
	CodeFreshness: func(t *testing.T) {
		c, s := honest(t, nil)
		c.Fresh, s.Attester.AnchoredOnly = true, true
		_, _, ours, theirs := meet(t, c, s)
		has(t, ours, CodeFreshness, true)
		has(t, theirs, CodeFreshness, false)
		c, s = honest(t, func(r *evidencetest.Recipe) { r.Anchored, r.Statement.Freshness = true, evidence.Anchored })
		c.Fresh = true
		refusedByClient(t, CodeFreshness, c, s)
	},
	CodeKey:      changed(CodeKey, func(r *evidencetest.Recipe) { r.Statement.PublicKey = []byte("another key") }),
	CodeUserData: changed(CodeUserData, func(r *evidencetest.Recipe) { r.Statement.UserData = []byte("invoice 7") }),
	CodeExporter: changed(CodeExporter, func(r *evidencetest.Recipe) {
		r.Statement.UserData[len(r.Statement.UserData)-1] ^= 1
	}),
	CodeContinued: TestContinueReplay,
	CodeForged: changed(CodeForged, func(r *evidencetest.Recipe) {
		r.Document = func(e *evidence.Evidence) { e.AgentSignature[0] ^= 1 }
	}),
	CodeCollateral: changed(CodeCollateral, func(r *evidencetest.Recipe) {
		r.Document = func(e *evidence.Evidence) { e.Certificates = nil }
	}),
	CodeRevoked: func(t *testing.T) {
		c, s := honest(t, nil)
		from := evidencetest.Time.Add(-time.Hour)
		c.Verifier = verifierOf(t, policy(t, anchored, rules), func(o *VerifierOptions) {
			o.Config.Revocation.SNP = []*snp.RevocationList{evidencetest.RevocationList(t, snp.Genoa, from, from.Add(2*time.Hour), evidencetest.Serial)}
		})
		refusedByClient(t, CodeRevoked, c, s)
	},
	CodePolicy: func(t *testing.T) {
		c, s := honest(t, nil)
		c.Verifier = verifierOf(t, policy(t, anchored, otherRules), nil)
		refusedByClient(t, CodePolicy, c, s)
	},
	CodeBlocked: func(t *testing.T) {
		_, s := honest(t, nil)
		s.Verifier = usual(t)
		s.Hook = func(_ context.Context, v *Verdict) error {
			if v.Claims == nil || v.Refusal != nil {
				t.Errorf("the hook got %+v", v)
			}
			return errors.New("not today")
		}
		c := &Client{AnyCertificate: true, Verifier: usual(t), Attester: attests(t, nil)}
		_, _, ours, theirs := meet(t, c, s)
		has(t, ours, CodeBlocked, true)
		has(t, theirs, CodeBlocked, false)
	},
	CodeEarlyData: func(t *testing.T) { earlyData(t) },
	CodeTruncated: func(t *testing.T) { truncated(t) },
	CodeTimeout: func(t *testing.T) {
		a, b := wire(t)
		conn := (&Server{Attester: attests(t, nil)}).Conn(b)
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- conn.Handshake(ctx) }()
		p := puppetClient(t, a).shake()
		p.send(wants(roleServer))
		if err := errors.Join(p.receive(new(hello)), p.receive(new(shown))); err != nil {
			t.Error(err)
		}
		cancel(context.DeadlineExceeded) // as the timer would
		p.told(CodeTimeout)
		has(t, waitFor(t, done), CodeTimeout, false)

		conn = (&Server{Attester: attests(t, nil), Timeout: 1}).Conn(b)
		has(t, conn.Handshake(t.Context()), CodeTimeout, false)
	},
	CodeBusy: func(t *testing.T) {
		s := &Server{Attester: attests(t, nil), MaxExchanges: 1}
		a, b := wire(t)
		s.Timeout = patience
		first := s.Conn(b)
		done := make(chan error, 1)
		go func() { done <- first.Handshake(t.Context()) }()
		p := puppetClient(t, a).shake() // TLS is done, so that the turn is taken
		has(t, toServer(t, s, func(*puppet) {}), CodeBusy, false)
		p.Close()
		waitFor(t, done)
		if _, _, ours, theirs := meet(t, &Client{AnyCertificate: true, Verifier: usual(t)}, s); ours != nil || theirs != nil {
			t.Errorf("when the turn is free again: %v, %v", ours, theirs)
		}

		s = &Server{Attester: &Attester{Agent: &machine{tb: t, err: &api.Problem{Code: api.CodeBusy}}}}
		_, _, ours, theirs := meet(t, &Client{AnyCertificate: true, Verifier: usual(t)}, s)
		has(t, ours, CodeBusy, true)
		has(t, theirs, CodeBusy, false)
	},
	CodeAgent: func(t *testing.T) {
		s := &Server{Attester: &Attester{Agent: &machine{tb: t, err: &api.Problem{Code: api.CodeTPM}}}}
		_, _, ours, theirs := meet(t, &Client{AnyCertificate: true, Verifier: usual(t)}, s)
		has(t, ours, CodeAgent, true)
		has(t, theirs, CodeAgent, false)
	},
}

// TestCodes provokes each code of the table, at the end that refuses and at the other. Case 129.
func TestCodes(t *testing.T) {
	for _, i := range Codes() {
		provoke := provoked[i.Code]
		if provoke == nil {
			t.Errorf("no test provokes %s", i.Code)
			continue
		}
		t.Run(string(i.Code), func(t *testing.T) {
			t.Parallel()
			provoke(t)
		})
	}
}

// wished returns a hello that wants evidence of a server, with more members.
func wished(more string) string {
	return `{"type":"hello","verify":{"role":"server","nonce":"` + strings.Repeat("A", 43) + `=","freshness":"anchored",` + more + "}}"
}

// framed returns the frame of a text.
func framed(text string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
}

// withTLS has an end of this package, the client or the server, meet one whose TLS is another.
func withTLS(t *testing.T, client bool, change func(*tls.Config)) error {
	a, b := wire(t)
	done := make(chan error, 1)
	config := &tls.Config{InsecureSkipVerify: true, Certificates: certificates(t), NextProtos: []string{Protocol}}
	change(config)
	if client {
		c, _ := honest(t, nil)
		conn := c.Conn(a, "server.example")
		go func() { done <- speak(conn) }()
		tls.Server(b, config).Handshake()
	} else {
		conn := (&Server{Attester: attests(t, nil)}).Conn(b)
		go func() { done <- speak(conn) }()
		tls.Client(a, config).Handshake()
	}
	return waitFor(t, done)
}

func certificates(t *testing.T) []tls.Certificate {
	made, err := SelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	return []tls.Certificate{*made}
}

// resume has a client of this package resume a session, as it never would by itself.
func resume(t *testing.T) error {
	c, _ := honest(t, nil)
	e, err := c.ready()
	if err != nil {
		t.Fatal(err)
	}
	e.tls.ClientSessionCache, e.tls.SessionTicketsDisabled = tls.NewLRUClientSessionCache(1), false
	server := &tls.Config{Certificates: certificates(t), NextProtos: []string{Protocol}}
	a, b := wire(t)
	go func() {
		s := tls.Server(b, server)
		s.Write([]byte("the ticket comes before this"))
	}()
	config := e.tls.Clone()
	config.ServerName = "server.example"
	first := tls.Client(a, config)
	if _, err := first.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	a, b = wire(t)
	done := make(chan error, 1)
	go func() { done <- speak(c.Conn(a, "server.example")) }()
	p := newPuppet(t, tls.Server(b, server)).shake()
	p.told(CodeResumed)
	return waitFor(t, done)
}

// earlyData has ends send what only the other end's answer allows.
func earlyData(t *testing.T) {
	request := []byte("GET / HTTP/1.1\r\n\r\n")
	zeros := make([]byte, nonceSize)
	for name, sent := range map[string][]any{
		"a verdict on other evidence": {&verdict{Type: kindVerdict, Evidence: sha256.Sum256(nil), Confirm: zeros}, &start{Type: kindStart}, request},
	} {
		has(t, toServer(t, &Server{Attester: attests(t, nil)}, func(p *puppet) {
			p.shake().send(append([]any{wants(roleServer)}, sent...)...) // all at once, without waiting
			if err := errors.Join(p.receive(new(hello)), p.receive(new(shown))); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			p.told(CodeEarlyData)
		}), CodeEarlyData, false)
	}
	// A server whose start does not contain what the verdict did.
	for _, begin := range []*start{{Type: kindStart}, {Type: kindStart, Confirm: zeros}} {
		a, b := wire(t)
		c, _ := honest(t, nil)
		done := make(chan error, 1)
		go func() { done <- speak(c.Conn(a, "server.example")) }()
		p := puppetServer(t, b).shake()
		p.attest(&machine{tb: t})
		p.send(begin, request)
		if err := p.receive(new(verdict)); err != nil {
			t.Error(err)
		}
		if err := p.receive(new(start)); err != nil {
			t.Error(err)
		}
		has(t, waitFor(t, done), CodeEarlyData, false)
	}
}

// attest answers a client as an honest server does, up to its evidence.
func (p *puppet) attest(m *machine) {
	p.tb.Helper()
	var theirs hello
	if err := p.receive(&theirs); err != nil {
		p.tb.Fatal(err)
	}
	p.send(&hello{Type: kindHello}, p.evidence(m, theirs.Verify))
}

// evidence returns what a machine says of this connection and the key of the puppet.
func (p *puppet) evidence(m *machine, w *wish) *shown {
	p.tb.Helper()
	document, err := m.make(api.EvidenceRequest{Nonce: w.Nonce, Audience: string(w.Audience), Freshness: w.Freshness, UserData: userData(w.Role, p.exporter), PublicKey: p.key}, nil)
	if err != nil {
		p.tb.Fatal(err)
	}
	return &shown{Type: kindEvidence, Document: document}
}

// truncated ends connections in the middle of the exchange.
func truncated(t *testing.T) {
	for _, end := range []func(*puppet){
		func(p *puppet) { p.Close() },
		func(p *puppet) { p.NetConn().Close() },
		func(p *puppet) { p.shake().Close() },
		func(p *puppet) { p.shake().NetConn().Close() },
		func(p *puppet) { p.shake().send([]byte{0, 0}); p.Close() },
		func(p *puppet) { p.shake().send(framed(`{"type":"hello"}`)[:9]); p.NetConn().Close() },
		func(p *puppet) {
			p.shake().send(wants(roleServer))
			if err := p.receive(new(hello)); err != nil {
				t.Error(err)
			}
			p.Close()
		},
	} {
		has(t, toServer(t, &Server{Attester: attests(t, nil)}, end), CodeTruncated, false)
	}
	// After the verdict, and before the start of the server.
	c, _ := honest(t, nil)
	has(t, toClient(t, c, func(p *puppet) {
		p.shake().attest(&machine{tb: t})
		if err := p.receive(new(verdict)); err != nil {
			t.Error(err)
		}
		p.Close()
	}), CodeTruncated, false)
}

// TestListenerSurvives: a connection that is refused does not end the listener.
func TestListenerSurvives(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := &Server{Attester: attests(t, nil)}
	attested := s.Listener(l)
	go func() {
		for {
			c, err := attested.Accept()
			if err != nil {
				return
			}
			go func() { speak(c); c.Close() }()
		}
	}()
	bad, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	bad.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	bad.Close()
	c := &Client{AnyCertificate: true, Verifier: usual(t)}
	conn, err := c.Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := speak(conn); err != nil || conn.Verdict().Claims == nil || conn.Verdict().Claims.Statement.Caller.Unit != "billing.service" {
		t.Errorf("%v, %+v", err, conn.Verdict())
	}
}

// TestUserData: the user data of evidence are those of the worked example.
func TestUserData(t *testing.T) {
	b, err := os.ReadFile("../docs/attested-tls.md")
	if err != nil {
		t.Fatal(err)
	}
	value := make([]byte, exporterSize)
	for i := range value {
		value[i] = byte(i)
	}
	for _, r := range []role{roleServer, roleClient} {
		if want := fmt.Sprintf("of the %s\n    %x\n", r, userData(r, value)); !strings.Contains(string(b), want) {
			t.Errorf("docs/attested-tls.md does not have\n%s", want)
		}
	}
	begin, err := encode(&start{Type: kindStart})
	if want := fmt.Sprintf("The frame of `%s` is `%x`.", begin[4:], begin); err != nil || !strings.Contains(string(b), want) {
		t.Errorf("docs/attested-tls.md does not say %s", want)
	}
}
