// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/attestedtls"
)

// silent is the log of servers whose clients are strangers: what these do wrong is not worth a line.
var silent = log.New(io.Discard, "", 0)

// few is a listener of which so many connections are open at once. Others wait in the kernel.
type few struct {
	net.Listener
	places chan struct{}
}

func (f *few) Accept() (net.Conn, error) {
	f.places <- struct{}{}
	c, err := f.Listener.Accept()
	if err != nil {
		<-f.places
		return nil, err
	}
	return &place{Conn: c, give: sync.OnceFunc(func() { <-f.places })}, nil
}

// place is a connection that gives its place back.
type place struct {
	net.Conn
	give func()
}

func (p *place) Close() error {
	p.give()
	return p.Conn.Close()
}

// one is a listener of one connection that exists already.
type one struct {
	net.Conn
	given bool
	ended chan struct{} // closed when that connection is
	once  sync.Once
}

func (o *one) Accept() (net.Conn, error) {
	if !o.given {
		o.given = true
		return o, nil
	}
	<-o.ended
	return nil, net.ErrClosed
}

func (o *one) Addr() net.Addr { return o.LocalAddr() }

func (o *one) Close() error {
	o.once.Do(func() { close(o.ended) })
	return o.Conn.Close()
}

// Limits of a client that does not speak the protocol: it asks for evidence, and goes.
const (
	webTime   = 30 * time.Second // for a request, which may wait for the agent
	webHeader = 8 << 10          // bytes
)

// answerWeb answers a client that does not speak the protocol, over a connection of TLS: with evidence
// that it asks for, and nothing else. Nothing of it reaches the service.
func (s *setup) answerWeb(ctx context.Context, c *attestedtls.Conn) {
	l := &one{Conn: c, ended: make(chan struct{})}
	server := &http.Server{
		Handler:           http.HandlerFunc(s.web),
		ReadHeaderTimeout: s.Limits.Exchange, ReadTimeout: webTime, WriteTimeout: 2 * webTime, IdleTimeout: webTime,
		MaxHeaderBytes: webHeader, ErrorLog: silent,
	}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	server.Serve(l)
}

// web answers a request.
func (s *setup) web(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != attestedtls.EvidencePath {
		http.Error(w, "This port is for attested connections (agentd/1). Over plain TLS it answers GET "+attestedtls.EvidencePath+" alone.", http.StatusMisdirectedRequest)
		return
	}
	s.evidence.ServeHTTP(w, r)
}
