// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// machine is an agent that makes evidence by hand.
type machine struct {
	tb     testing.TB
	change func(*evidencetest.Recipe) // before what commits to it is made; may be nil
	err    error                      // in place of evidence
	asked  atomic.Int64
}

func (m *machine) Evidence(_ context.Context, r api.EvidenceRequest) ([]byte, error) {
	return m.make(r, nil)
}

func (m *machine) EvidenceWithKey(_ context.Context, r api.EvidenceRequest, key crypto.Signer) ([]byte, error) {
	return m.make(r, key)
}

func (m *machine) make(r api.EvidenceRequest, key crypto.Signer) ([]byte, error) {
	m.asked.Add(1)
	if m.err != nil {
		return nil, m.err
	}
	e := evidencetest.New()
	s := &e.Statement
	s.Nonce, s.Audience, s.UserData, s.PublicKey, s.Freshness = r.Nonce, r.Audience, r.UserData, r.PublicKey, r.Freshness
	if m.change != nil {
		m.change(e)
	}
	if key != nil && bytes.Equal(s.PublicKey, r.PublicKey) {
		e.Prove(m.tb, key, nil)
	}
	return e.Encode(m.tb), nil
}

// rules is the part of a policy that names the caller.
const rules = "[caller]\nunit = \"billing.service\"\n"

// otherRules names another caller than a machine does.
const otherRules = "[caller]\nunit = \"shell.service\"\n"

// policy accepts what a machine makes, under these tables and root keys.
func policy(tb testing.TB, root, tables string) *verify.Policy {
	tb.Helper()
	text := fmt.Sprintf("version = 1\n%s\n[[launch]]\nmeasurement = %q\nkind = \"plain\"\ncovers = \"firmware+kernel+cmdline\"\n%s\n", root, hex.EncodeToString(evidencetest.Measurement), tables)
	p, err := verify.ParsePolicy([]byte(text))
	if err != nil {
		tb.Fatalf("%v\n%s", err, text)
	}
	return p
}

const anchored = "freshness = \"anchored\"\nmax_anchor_age = \"10m\"\n"

// trust is the configuration of verifiers of a machine's evidence.
func trust(tb testing.TB) verify.Config {
	return verify.Config{Roots: verify.Roots{SNP: evidencetest.Roots(tb)}}
}

// verifierOf returns a verifier of a machine's evidence, under a policy.
func verifierOf(tb testing.TB, p *verify.Policy, change func(*VerifierOptions)) *Verifier {
	tb.Helper()
	o := VerifierOptions{Config: trust(tb), Now: func() time.Time { return evidencetest.Time }}
	if change != nil {
		change(&o)
	}
	v, err := NewVerifier(p, o)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// usual returns a verifier under the usual policy.
func usual(tb testing.TB) *Verifier { return verifierOf(tb, policy(tb, anchored, rules), nil) }

// attests returns an attester of a machine.
func attests(tb testing.TB, change func(*evidencetest.Recipe)) *Attester {
	return &Attester{Agent: &machine{tb: tb, change: change}}
}

// wire returns the two ends of a connection over TCP.
func wire(tb testing.TB) (client, server net.Conn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		tb.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// meet has both ends meet, send each other a byte, and returns what that came to.
func meet(tb testing.TB, c *Client, s *Server) (client, server *Conn, clientErr, serverErr error) {
	tb.Helper()
	c.Timeout, s.Timeout = patience, patience
	a, b := wire(tb)
	client, server = c.Conn(a, "server.example"), s.Conn(b)
	done := make(chan error, 1)
	go func() { done <- speak(server) }()
	clientErr = speak(client)
	serverErr = waitFor(tb, done)
	return client, server, clientErr, serverErr
}

// speak uses a connection as an application does.
func speak(c net.Conn) error {
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1))
	return err
}

// waitFor returns what comes from a channel.
func waitFor[T any](tb testing.TB, c <-chan T) T {
	tb.Helper()
	select {
	case x := <-c:
		return x
	case <-time.After(patience):
		tb.Fatal("waited in vain")
		panic("unreachable")
	}
}

// has fails the test if err is not a refusal with this code, by this end or the other.
func has(tb testing.TB, err error, code Code, remote bool) {
	tb.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code || e.Remote != remote || !errors.Is(err, code) {
		tb.Errorf("got %v, want %s, by the other end: %v", err, code, remote)
	}
}

// puppet is an end that does what a test says.
type puppet struct {
	*tls.Conn
	tb       testing.TB
	exporter []byte
	key      []byte // SubjectPublicKeyInfo of its certificate, if it is a server
}

// puppetClient connects to an end of this package.
func puppetClient(tb testing.TB, inner net.Conn) *puppet {
	return newPuppet(tb, tls.Client(inner, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{Protocol}, MinVersion: tls.VersionTLS13}))
}

// puppetServer is connected to by an end of this package.
func puppetServer(tb testing.TB, inner net.Conn) *puppet {
	made, err := SelfSigned()
	if err != nil {
		tb.Fatal(err)
	}
	p := newPuppet(tb, tls.Server(inner, &tls.Config{Certificates: []tls.Certificate{*made}, NextProtos: []string{Protocol}, MinVersion: tls.VersionTLS13}))
	p.key = made.Leaf.RawSubjectPublicKeyInfo
	return p
}

// authority returns the roots that vouch for a certificate of server.example.
func authority(tb testing.TB) (*x509.CertPool, tls.Certificate) {
	tb.Helper()
	made, err := SelfSigned()
	if err != nil {
		tb.Fatal(err)
	}
	template := *made.Leaf
	template.DNSNames, template.IsCA, template.BasicConstraintsValid = []string{"server.example"}, true, true
	key := made.PrivateKey.(crypto.Signer)
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return roots, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func newPuppet(tb testing.TB, c *tls.Conn) *puppet { return &puppet{Conn: c, tb: tb} }

func (p *puppet) shake() *puppet {
	p.tb.Helper()
	if err := p.Handshake(); err != nil {
		p.tb.Error(err)
		return p
	}
	s := p.ConnectionState()
	var err error
	if p.exporter, err = exporter(&s); err != nil {
		p.tb.Error(err)
	}
	return p
}

// send sends messages, or bytes as they are.
func (p *puppet) send(messages ...any) {
	p.tb.Helper()
	var out []byte
	for _, m := range messages {
		b, raw := m.([]byte)
		if !raw {
			var err error
			if b, err = encode(m); err != nil {
				p.tb.Error(err)
			}
		}
		out = append(out, b...)
	}
	if _, err := p.Write(out); err != nil {
		p.tb.Error(err)
	}
}

// receive reads the message that is due.
func (p *puppet) receive(into message) error {
	var f frame
	p.SetReadDeadline(time.Now().Add(patience))
	b, err := f.read(p.Conn, maxMessage, nil)
	if err != nil {
		return err
	}
	_, err = decode(b, into)
	return err
}

// wants returns a hello that asks for evidence of the other end.
func wants(of role) *hello {
	return &hello{Type: kindHello, Verify: &wish{Role: of, Nonce: bytes.Repeat([]byte{7}, nonceSize), Freshness: evidence.Anchored}}
}

// continues returns one that may go on with this evidence.
func continues(of role, offers ...offer) *hello {
	h := wants(of)
	h.Verify.Continue = append([]offer{}, offers...)
	return h
}
