// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

// ApplicationHTTP2 is the Application of ends that speak HTTP/2. ALPN names the protocol of this
// package, so that it cannot choose one for the application.
const ApplicationHTTP2 = "h2"

// Serve serves HTTP over attested connections, as h.Serve does: HTTP/2 if Application is
// [ApplicationHTTP2], otherwise HTTP/1.1. It adds to h.ConnContext, so that [From] and [VerdictFrom]
// work in handlers. Request.TLS is set. For HTTP/2 it also sets h.Protocols, and adds to h.Handler.
func (s *Server) Serve(h *http.Server, l net.Listener) error {
	e, err := s.ready()
	if err != nil {
		return err
	}
	before := h.ConnContext
	h.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if b, is := c.(bare); is {
			c = b.Conn
		}
		if before != nil {
			ctx = before(ctx, c)
		}
		return context.WithValue(ctx, contextKey{}, c)
	}
	l = s.Listener(l)
	if e.application == ApplicationHTTP2 {
		h.Protocols = new(http.Protocols)
		h.Protocols.SetUnencryptedHTTP2(true) // net/http asks nothing else of a connection that it does not know to be of TLS
		h.Protocols.SetHTTP1(e.plain)
		h.Handler = overTLS{h.Handler}
		l = bareListener{l}
	}
	return h.Serve(l)
}

// bare is a connection whose state of TLS net/http does not see, which would otherwise serve HTTP/1.1
// on it.
type bare struct{ net.Conn }

type bareListener struct{ net.Listener }

func (l bareListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return bare{c}, nil
}

// overTLS is a handler whose requests have the state of TLS that net/http did not see. It refuses the
// other version of HTTP than that of the connection: a server that is AlsoPlain has net/http take both.
type overTLS struct{ handler http.Handler }

func (o overTLS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c := From(r.Context()); c != nil {
		state := c.ConnectionState()
		r.TLS = &state
		if attested := state.NegotiatedProtocol == Protocol; attested != (r.ProtoMajor == 2) {
			http.Error(w, "want HTTP/2 over attested TLS, and HTTP/1.1 over any other", http.StatusHTTPVersionNotSupported)
			return
		}
	}
	h := o.handler
	if h == nil {
		h = http.DefaultServeMux
	}
	h.ServeHTTP(w, r)
}

// Times of a Transport.
const (
	idleConnTimeout = 90 * time.Second
	idlePerHost     = 16
)

// A Transport sends requests over attested connections, and keeps these for later requests: by HTTP/2
// if the client's Application is [ApplicationHTTP2], otherwise by HTTP/1.1. The context of a response's
// request has the connection: see [From] and [VerdictFrom]. Only https URLs are accepted. It uses no
// proxy. After [Verifier.Replace] requests have new connections.
type Transport struct {
	client *Client

	mu      sync.Mutex // guards the two below
	under   *ruling    // policy that the connections of current were judged under, or later
	current *http.Transport
}

// Transport returns a transport whose connections are those of c.
func (c *Client) Transport() *Transport { return &Transport{client: c} }

// pool returns the connections for new requests.
func (t *Transport) pool() *http.Transport {
	var in *ruling
	if v := t.client.Verifier; v != nil {
		in = v.current()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current == nil || t.under != in {
		if t.current != nil {
			t.current.CloseIdleConnections()
		}
		dial := func(ctx context.Context, network, address string) (net.Conn, error) {
			return t.client.Dial(ctx, network, address)
		}
		t.under, t.current = in, &http.Transport{
			DialTLSContext: dial, DialContext: dial, // the second one for HTTP/2: see onward
			MaxIdleConnsPerHost: idlePerHost, IdleConnTimeout: idleConnTimeout, ExpectContinueTimeout: time.Second,
			Protocols: new(http.Protocols),
		}
		t.current.Protocols.SetHTTP1(!t.http2())
		t.current.Protocols.SetUnencryptedHTTP2(t.http2())
	}
	return t.current
}

func (t *Transport) http2() bool { return t.client.Application == ApplicationHTTP2 }

// onward returns the request that net/http is to send. It speaks HTTP/2 over connections that are not
// of crypto/tls only for URLs of http, of which only this function makes one: each connection is
// attested.
func (t *Transport) onward(ctx context.Context, r *http.Request) *http.Request {
	r = r.WithContext(ctx)
	if !t.http2() {
		return r
	}
	u := *r.URL
	u.Scheme = "http"
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "443")
	}
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	r.URL = &u
	return r
}

// RoundTrip sends a request (http.RoundTripper).
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var err error
	switch {
	case t.client == nil:
		err = misuse("a Transport that Client.Transport did not make")
	case r.URL.Scheme != "https":
		err = fmt.Errorf("attested TLS: a URL of scheme %q, want https", r.URL.Scheme)
	}
	if err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	var used atomic.Pointer[Conn]
	ctx := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if c, is := i.Conn.(*Conn); is {
			used.Store(c)
		}
	}})
	answer, err := t.pool().RoundTrip(t.onward(ctx, r))
	if err != nil {
		return nil, err
	}
	c := used.Load()
	state := c.ConnectionState()
	answer.TLS = &state
	answer.Request = r.WithContext(context.WithValue(r.Context(), contextKey{}, c))
	return answer, nil
}

// CloseIdleConnections closes connections that no request uses.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != nil {
		t.current.CloseIdleConnections()
	}
}
