// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/internal/text"
)

// DefaultTimeout is how long handshake and exchange may take. A fresh report can take more than a
// minute on a host that throttles.
const DefaultTimeout = 30 * time.Second

// Client is the end that connects. It verifies the server, attests to it, or both. It may be used
// by many goroutines, and must not be copied or changed after its first use.
type Client struct {
	// TLS has roots, certificates and the server's name. nil: the roots of the system. The
	// version, ALPN and session cache in it are not used. A client that attests without a
	// certificate in it makes one for itself.
	TLS *tls.Config

	// AnyCertificate accepts each certificate of the server. Its evidence alone then says who it
	// is: one of the machines that the policy accepts, and an attacker may choose which. It takes
	// a Verifier, and no Hook that would let other machines pass.
	AnyCertificate bool

	Verifier *Verifier // of the server's evidence; nil: this end does not verify
	Attester *Attester // of this end, if the server asks; nil: this end does not attest

	Application string        // name of the application's protocol, if both ends name it, as "http/1.1"
	Fresh       bool          // ask for a report of its own for each connection, whatever the policy accepts
	Hook        Hook          // nil: Block
	Timeout     time.Duration // of handshake and exchange; 0: DefaultTimeout

	// Ended is called when an exchange ended, with nil or the error. May be nil.
	Ended func(*Conn, error)

	state state
}

// Server is the end that is connected to. The zero value attests with a key that it makes. It may
// be used by many goroutines, and must not be copied or changed after its first use.
type Server struct {
	// TLS has the certificates. Without one, the server makes one for itself, which only clients
	// with AnyCertificate accept. If ClientAuth is not set, and this end verifies, it asks for any
	// certificate of the client. The version, ALPN and session tickets in it are not used, and
	// GetConfigForClient must be nil.
	TLS *tls.Config

	Verifier *Verifier // of clients' evidence; nil: this end does not verify
	Attester *Attester // of this end; nil: a server without a Verifier uses the zero Attester, one with a Verifier does not attest

	Application string        // name of the application's protocol, if both ends name it, as "http/1.1"
	Fresh       bool          // ask for a report of its own for each connection, whatever the policy accepts
	Hook        Hook          // nil: Block
	Timeout     time.Duration // of handshake and exchange; 0: DefaultTimeout

	// MaxExchanges is how many exchanges are under way at once; a further connection is closed
	// (code "busy"). 0: 1024.
	MaxExchanges int

	// AlsoPlain also serves clients that do not speak the protocol, over TLS 1.3 without an
	// exchange: browsers, which ask for [EvidenceHandler]. It cannot be combined with a Verifier.
	AlsoPlain bool

	// Ended is called when an exchange ended, with nil or the error. May be nil.
	Ended func(*Conn, error)

	state state
}

// state is what an end makes of its configuration when it is first used.
type state struct {
	once sync.Once
	end  *end
	err  error // of the configuration
}

// end is one end of connections, ready for use.
type end struct {
	role        role
	tls         *tls.Config // of TLS 1.3, without sessions
	verifier    *Verifier
	attester    *Attester
	application string
	fresh       bool
	hook        Hook
	timeout     time.Duration
	turns       chan struct{} // of exchanges; nil: no limit
	plain       bool
	ended       func(*Conn, error)
}

const defaultExchanges = 1024

func (c *Client) ready() (*end, error) {
	c.state.once.Do(func() { c.state.end, c.state.err = c.prepare() })
	return c.state.end, c.state.err
}

func (c *Client) prepare() (*end, error) {
	switch {
	case c.Verifier == nil && c.Attester == nil:
		return nil, misuse("a client that neither verifies nor attests")
	case c.Verifier == nil && c.Hook != nil:
		return nil, misuse("a Hook without a Verifier, which would never be asked")
	case c.AnyCertificate && c.Verifier == nil:
		return nil, misuse("AnyCertificate without a Verifier: nothing would say who the server is")
	case c.AnyCertificate && c.Hook != nil:
		return nil, misuse("AnyCertificate with a Hook, which may let a server pass that nothing says anything about")
	case c.TLS != nil && c.TLS.InsecureSkipVerify && c.TLS.VerifyConnection == nil && c.TLS.VerifyPeerCertificate == nil:
		return nil, misuse("InsecureSkipVerify in TLS: set AnyCertificate if the server's evidence alone is to say who it is")
	}
	e := &end{role: roleClient, verifier: c.Verifier, attester: c.Attester, application: c.Application, fresh: c.Fresh, hook: c.Hook, timeout: cmp.Or(c.Timeout, DefaultTimeout), ended: c.Ended}
	if err := e.configure(c.TLS); err != nil {
		return nil, err
	}
	e.tls.InsecureSkipVerify = c.AnyCertificate || e.tls.InsecureSkipVerify
	return e, nil
}

// Check reports whether the configuration makes sense, before there is a connection. The error is
// [ErrMisuse], or that of making a key.
func (c *Client) Check() error {
	_, err := c.ready()
	return err
}

func (s *Server) ready() (*end, error) {
	s.state.once.Do(func() { s.state.end, s.state.err = s.prepare() })
	return s.state.end, s.state.err
}

// Check reports whether the configuration makes sense, before there is a connection. The error is
// [ErrMisuse], or that of making a key.
func (s *Server) Check() error {
	_, err := s.ready()
	return err
}

func (s *Server) prepare() (*end, error) {
	switch {
	case s.Verifier == nil && s.Hook != nil:
		return nil, misuse("a Hook without a Verifier, which would never be asked")
	case s.AlsoPlain && s.Verifier != nil:
		return nil, misuse("AlsoPlain with a Verifier: a client would pass unverified if it does not speak the protocol")
	case s.TLS != nil && s.TLS.GetConfigForClient != nil:
		return nil, misuse("GetConfigForClient is set: which certificate a connection has would not be known")
	}
	e := &end{role: roleServer, verifier: s.Verifier, attester: s.Attester, application: s.Application, fresh: s.Fresh, hook: s.Hook, timeout: cmp.Or(s.Timeout, DefaultTimeout), plain: s.AlsoPlain, ended: s.Ended}
	if e.attester == nil && e.verifier == nil {
		e.attester = new(Attester)
	}
	e.turns = make(chan struct{}, cmp.Or(max(s.MaxExchanges, 0), defaultExchanges))
	if err := e.configure(s.TLS); err != nil {
		return nil, err
	}
	if e.verifier != nil && e.tls.ClientAuth == tls.NoClientCert {
		e.tls.ClientAuth = tls.RequestClientCert // one without is refused with a code
	}
	return e, nil
}

// configure readies the configuration of TLS, and checks what both kinds of ends have.
func (e *end) configure(c *tls.Config) error {
	if e.verifier != nil && e.verifier.current() == nil {
		return misuse("a Verifier that NewVerifier did not make, and so without a policy")
	}
	if e.application != "" {
		if err := text.Check("application", e.application, 1, maxName); err != nil {
			return misuse("%w", err)
		}
	}
	if c == nil {
		c = new(tls.Config)
	}
	c = c.Clone()
	c.MinVersion, c.MaxVersion = tls.VersionTLS13, tls.VersionTLS13
	c.SessionTicketsDisabled, c.ClientSessionCache = true, nil
	c.NextProtos = []string{Protocol}
	if e.plain {
		c.NextProtos = append(c.NextProtos, "http/1.1")
	}
	if e.own(c) {
		made, err := SelfSigned()
		if err != nil {
			return err
		}
		c.Certificates = []tls.Certificate{*made}
	}
	e.tls = c
	return nil
}

// own reports whether this end needs a certificate that c does not have.
func (e *end) own(c *tls.Config) bool {
	if len(c.Certificates) > 0 {
		return false
	}
	if e.role == roleServer {
		return c.GetCertificate == nil
	}
	return c.GetClientCertificate == nil && e.attester != nil
}

// SelfSigned returns a certificate over a new key, which stays in memory: what an end makes that has
// no other. A program that makes its ends anew, and wants to keep the key, passes it to them. Its
// time is long, since evidence says that it is in use now.
func SelfSigned() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "agentd attested TLS"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// Conn returns the client's end over an open connection. ServerName is the name that the server's
// certificate is verified for, if TLS does not name one. Handshake and exchange take place with
// the first use of the result.
func (c *Client) Conn(inner net.Conn, serverName string) *Conn {
	e, err := c.ready()
	return newConn(inner, e, err, serverName)
}

// Dial connects, and returns when both ends have accepted each other.
func (c *Client) Dial(ctx context.Context, network, address string) (*Conn, error) {
	e, err := c.ready()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	var d net.Dialer
	inner, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	conn := newConn(inner, e, nil, host)
	if err := conn.Handshake(ctx); err != nil {
		return nil, err
	}
	return conn, nil
}

// Conn returns the server's end over an open connection. Handshake and exchange take place with
// the first use of the result.
func (s *Server) Conn(inner net.Conn) *Conn {
	e, err := s.ready()
	return newConn(inner, e, err, "")
}

// Listener returns a listener whose connections are those of [Server.Conn].
func (s *Server) Listener(l net.Listener) net.Listener { return &listener{l, s} }

type listener struct {
	net.Listener
	server *Server
}

func (l *listener) Accept() (net.Conn, error) {
	if _, err := l.server.ready(); err != nil {
		return nil, err
	}
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.server.Conn(inner), nil
}
