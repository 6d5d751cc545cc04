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

// Serve serves HTTP/1.1 over attested connections, as h.Serve does. It adds to h.ConnContext, so
// that [From] and [VerdictFrom] work in handlers. Request.TLS is set.
func (s *Server) Serve(h *http.Server, l net.Listener) error {
	before := h.ConnContext
	h.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if before != nil {
			ctx = before(ctx, c)
		}
		return context.WithValue(ctx, contextKey{}, c)
	}
	return h.Serve(s.Listener(l))
}

// Times of a Transport.
const (
	idleConnTimeout = 90 * time.Second
	idlePerHost     = 16
)

// A Transport sends HTTP/1.1 requests over attested connections, and keeps these for later
// requests. The context of a response's request has the connection: see [From] and [VerdictFrom].
// Only https URLs are accepted. It uses no proxy. After [Verifier.Replace] requests have new
// connections.
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
		t.under, t.current = in, &http.Transport{
			DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				return t.client.Dial(ctx, network, address)
			},
			MaxIdleConnsPerHost: idlePerHost, IdleConnTimeout: idleConnTimeout, ExpectContinueTimeout: time.Second,
		}
	}
	return t.current
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
	answer, err := t.pool().RoundTrip(r.WithContext(ctx))
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
