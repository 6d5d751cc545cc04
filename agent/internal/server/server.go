// SPDX-License-Identifier: Apache-2.0

// Package server answers the agent's HTTP API over two unix sockets. It translates:
// who may ask what stands in one table (routes.go), which failure becomes which code
// in another (problems.go), and the work is done by the interfaces of interfaces.go.
//
// # Limits
//
// Everything a caller can make the agent hold is capped, in all and for one uid:
// connections, requests at work and waiting, bytes of answers, requests a second. A
// uid that asks for more than its share waits, or is told to, and leaves the others
// theirs. A connection without a complete request gives way to a newer one of the same
// uid, so that half-open connections lock nobody out, not even their own user.
package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cvm-agentd/agentd/internal/caller"
)

// Socket says on which of the two sockets a connection came in.
type Socket string

const (
	Client Socket = "client" // programs on the VM
	Admin  Socket = "admin"  // who has it, administrates
)

// Config is what a server needs. All interfaces are required.
type Config struct {
	Identifier caller.Identifier
	Attester   Attester
	Log        Log
	Apps       Apps
	Status     StatusSource
	Enroller   Enroller
	Keys       Keys
	Store      Store

	// AdminUIDs may use the admin socket, which its mode and its absence from
	// containers protect besides. Default: 0 alone.
	AdminUIDs []uint32
	// Errors comes before the built-in table from error to code, for errors of
	// packages that this one does not know.
	Errors []ErrorCode
	Limits Limits       // zero members are defaults
	Logger *slog.Logger // default: slog.Default()
}

// Server serves both sockets.
type Server struct {
	Config
	http   *http.Server
	conns  *connections
	gate   *gate
	bodies *gate
	rates  *rates

	mu        sync.Mutex
	listeners []*listener
	draining  atomic.Bool
}

// New makes a server that listens nowhere yet.
func New(c Config) *Server {
	c.Limits = c.Limits.withDefaults()
	if c.AdminUIDs == nil {
		c.AdminUIDs = []uint32{0}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &Server{Config: c, conns: newConnections(c.Limits), gate: newGate(c.Limits), bodies: newBodies(c.Limits), rates: newRates(c.Limits)}
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout: c.Limits.HeaderTimeout,
		IdleTimeout:       c.Limits.IdleTimeout,
		MaxHeaderBytes:    c.Limits.HeaderBytes,
		// "OPTIONS *" goes the way of every request, with its limits.
		DisableGeneralOptionsHandler: true,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		ConnState: func(c net.Conn, state http.ConnState) { c.(*conn).state.Store(int32(state)) },
		ErrorLog:  slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
	}
	return s
}

// Serve accepts connections of l until Shutdown; then it returns nil. It takes l over.
func (s *Server) Serve(l *Listener, socket Socket) error {
	wrapped := &listener{Listener: l, server: s, socket: socket}
	s.mu.Lock()
	if s.draining.Load() {
		s.mu.Unlock()
		return l.Close()
	}
	s.listeners = append(s.listeners, wrapped)
	s.mu.Unlock()
	err := s.http.Serve(wrapped)
	if s.draining.Load() && (errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed)) {
		return nil
	}
	return err
}

// listener hands net/http only connections whose peer is established and permitted.
type listener struct {
	*Listener
	server  *Server
	socket  Socket
	drained atomic.Bool // no connection will come out of it any more
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			if !l.server.draining.Load() {
				return nil, err
			}
			if errors.Is(err, os.ErrDeadlineExceeded) && !l.inherited && l.waiting() {
				l.SetDeadline(time.Now().Add(drainStep))
				continue
			}
			l.drained.Store(true)
			return nil, net.ErrClosed
		}
		if accepted := l.server.admit(c, l.socket); accepted != nil {
			return accepted, nil
		}
	}
}

// drainStep is how long one step of emptying the queue of an own socket may take. A
// deadline in the past would fail before looking at the queue.
const drainStep = 50 * time.Millisecond

// drain stops accepting, see Shutdown.
func (l *listener) drain() error {
	if l.inherited {
		return l.SetDeadline(time.Unix(1, 0))
	}
	return errors.Join(l.unlink(), l.SetDeadline(time.Now().Add(drainStep)))
}

// admit establishes who connected, once, and counts the connection. It answers nil
// where the connection was turned away.
func (s *Server) admit(c *net.UnixConn, socket Socket) net.Conn {
	peer, err := s.Identifier.Identify(c)
	if err != nil {
		s.Logger.Debug("connection refused", "socket", socket, "error", err)
		s.conns.turnAway(c, s.problem(err))
		return nil
	}
	if socket == Admin && !slices.Contains(s.AdminUIDs, peer.UID) {
		s.Logger.Debug("admin connection refused", "uid", peer.UID, "pid", peer.PID)
		peer.Process.Close()
		s.conns.turnAway(c, notAdmin(peer.UID))
		return nil
	}
	accepted := &conn{UnixConn: c, peer: peer, socket: socket, table: s.conns}
	if !s.conns.add(accepted) {
		s.Logger.Debug("connection refused: too many", "uid", peer.UID)
		peer.Process.Close()
		s.conns.turnAway(c, tooManyConnections())
		return nil
	}
	return accepted
}
