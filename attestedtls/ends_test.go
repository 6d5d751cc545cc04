// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
)

// another returns another certificate of the same key.
func another(t *testing.T, of tls.Certificate, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	template, key := *of.Leaf, of.PrivateKey.(crypto.Signer)
	change(&template)
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// TestCertificateInUse: an end with several certificates chooses as crypto/tls does, and its evidence
// names the key of the one that this connection has.
func TestCertificateInUse(t *testing.T) {
	roots, leaf := authority(t)
	other := another(t, certificates(t)[0], func(x *x509.Certificate) { x.RawSubject, x.Subject.CommonName = nil, "another authority" })
	gives := func(c *tls.Certificate) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c, nil }
	}
	for name, config := range map[string]*tls.Config{
		"by the name":            {Certificates: []tls.Certificate{other, leaf}},
		"of a function":          {GetCertificate: gives(&leaf)},
		"of a function, and one": {Certificates: []tls.Certificate{other}, GetCertificate: gives(&leaf)},
		"none of a function":     {Certificates: []tls.Certificate{other, leaf}, GetCertificate: gives(nil)},
	} {
		c := &Client{TLS: &tls.Config{RootCAs: roots}, Verifier: usual(t)}
		if _, _, ours, theirs := meet(t, c, &Server{TLS: config, Attester: attests(t, nil)}); ours != nil || theirs != nil {
			t.Errorf("server, %s: %v, %v", name, ours, theirs)
		}
	}
	first := certificates(t)[0]
	c, s := &Client{AnyCertificate: true, Verifier: usual(t)}, &Server{TLS: &tls.Config{Certificates: []tls.Certificate{first, other}}, Attester: attests(t, nil)}
	conn, _, ours, theirs := meet(t, c, s)
	if ours != nil || theirs != nil || !bytes.Equal(conn.Claims().Statement.PublicKey, first.Leaf.RawSubjectPublicKeyInfo) {
		t.Errorf("server, none for the name: %v, %v", ours, theirs)
	}
	for name, config := range map[string]*tls.Config{
		"by its authority": {RootCAs: roots, Certificates: []tls.Certificate{other, leaf}},
		"of a function": {RootCAs: roots, Certificates: []tls.Certificate{other}, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &leaf, nil
		}},
	} {
		s := &Server{TLS: &tls.Config{Certificates: []tls.Certificate{leaf}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert}, Verifier: usual(t)}
		if _, _, ours, theirs := meet(t, &Client{TLS: config, Attester: attests(t, nil)}, s); ours != nil || theirs != nil {
			t.Errorf("client, %s: %v, %v", name, ours, theirs)
		}
	}
}

// TestDialName: the certificate of a server is verified for the name that was dialled.
func TestDialName(t *testing.T) {
	_, named := authority(t)
	numbered := another(t, named, func(x *x509.Certificate) { x.DNSNames, x.IPAddresses = nil, []net.IP{net.IPv4(127, 0, 0, 1)} })
	roots := x509.NewCertPool()
	roots.AddCert(named.Leaf)
	roots.AddCert(numbered.Leaf)
	for _, c := range []struct {
		leaf tls.Certificate
		want error
	}{{numbered, nil}, {named, CodeTLS}} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		attested := (&Server{TLS: &tls.Config{Certificates: []tls.Certificate{c.leaf}}, Attester: attests(t, nil)}).Listener(l)
		go func() {
			if conn, err := attested.Accept(); err == nil {
				speak(conn)
				conn.Close()
			}
		}()
		conn, err := (&Client{TLS: &tls.Config{RootCAs: roots}, Verifier: usual(t)}).Dial(t.Context(), "tcp", l.Addr().String())
		if !errors.Is(err, c.want) {
			t.Errorf("%v, want %v", err, c.want)
		}
		if err == nil {
			conn.Close()
		}
		l.Close()
	}
}

// TestMisbound: user data that are not those of the connection have the code that section 7 of the
// document says.
func TestMisbound(t *testing.T) {
	value := make([]byte, exporterSize)
	want := userData(roleServer, value)
	for i, c := range []struct {
		got  []byte
		code Code
	}{
		{want, ""}, {append(bytes.Clone(want), 0), CodeUserData}, {want[:len(want)-1], CodeUserData}, {nil, CodeUserData},
		{bytes.Replace(want, []byte("tls/1"), []byte("tls/2"), 1), CodeUserData}, {userData(roleClient, value), CodeRole},
		{userData(roleClient, value[1:]), CodeRole}, {userData(roleServer, value[1:]), CodeExporter},
	} {
		if got := misbound(c.got, roleServer, value); got != c.code {
			t.Errorf("case %d: %q, want %q", i, got, c.code)
		}
	}
}

// TestFirmwareLogIsAsked: a verifier asks for the log of the firmware if its policy requires that.
func TestFirmwareLogIsAsked(t *testing.T) {
	for root, want := range map[string]bool{anchored: false, anchored + "firmware_log = \"optional\"\n": false, anchored + "firmware_log = \"required\"\n": true} {
		c := &Client{AnyCertificate: true, Verifier: verifierOf(t, policy(t, root, rules), nil)}
		toClient(t, c, func(p *puppet) {
			var h hello
			if err := p.shake().receive(&h); err != nil || bool(h.Verify.FirmwareLog) != want {
				t.Errorf("%q: %v, asked %v", root, err, h.Verify)
			}
			p.Close()
		})
	}
}

// TestInterrupted: an exchange whose caller gives up ends with the caller's reason, and one whose time
// is over with a code.
func TestInterrupted(t *testing.T) {
	reason := errors.New("changed my mind")
	for cause, want := range map[error]error{reason: reason, context.DeadlineExceeded: CodeTimeout, errSlow: CodeTimeout} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if err := interrupted(ctx); !errors.Is(err, want) || errors.Is(err, CodeTimeout) != (want == CodeTimeout) {
			t.Errorf("%v: %v", cause, err)
		}
	}
}
