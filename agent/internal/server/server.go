// SPDX-License-Identifier: Apache-2.0

// Package server answers the agent's HTTP API over two unix sockets. One table says which
// socket serves what (api/endpoints.go), another which failure has which code (problems.go).
// The interfaces in handlers.go, keys.go and store.go do the work, and package caller names processes.
//
// # Limits
//
// Everything a caller can make the agent use is capped, for each socket in all and for one
// uid: connections, requests in progress and waiting, bytes of answers, requests a second. A
// uid that asks for more than its share waits, or is told to wait. Package turn decides
// which of the waiting requests is next. A connection without a complete request gives way to
// a newer one of the same uid, so that half-open connections lock out no user, not even their
// own.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/metrics"
	"github.com/cvm-agentd/agentd/internal/text"
)

// Socket is one of the two sockets.
type Socket string

const (
	Client Socket = "client" // programs on the VM
	Admin  Socket = "admin"  // administration
)

// Config is what a server needs. All interfaces are required.
type Config struct {
	Identifier caller.Identifier
	Processes  caller.Finder
	Attester   Attester
	Log        Log
	Apps       Apps
	Status     StatusSource
	Enroller   Enroller
	Keys       Keys
	Events     Events
	Store      Store
	Disks      Disks
	Containers Containers
	Upgrades   Upgrades
	Deliveries Deliveries
	Shared     metrics.Source // what the other parts count, and each user may know
	Metrics    metrics.Source // what else they count, for the administrator
	AgentKey   []byte         // Ed25519 public key of this process, 32 bytes; Self shows it

	// Askers are the units whose processes may ask on the client socket who another process is.
	Askers []string

	// AdminUIDs may use the admin socket. Its mode and its absence from containers
	// protect it as well. Default: only 0.
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
	shares map[Socket]*shares

	mu        sync.Mutex
	listeners []*listener
	draining  atomic.Bool
}

// New returns a server that does not listen yet.
func New(c Config) *Server {
	c.Limits = c.Limits.withDefaults()
	if c.AdminUIDs == nil {
		c.AdminUIDs = []uint32{0}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &Server{Config: c, shares: map[Socket]*shares{Client: newShares(c.Limits), Admin: newShares(c.Limits.admin())}}
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout: c.Limits.HeaderTimeout,
		IdleTimeout:       c.Limits.IdleTimeout,
		MaxHeaderBytes:    c.Limits.HeaderBytes,
		// "OPTIONS *" is handled like every request, with the same limits.
		DisableGeneralOptionsHandler: true,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		ConnState: func(c net.Conn, state http.ConnState) { c.(*conn).state.Store(int32(state)) },
		ErrorLog:  slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
	}
	return s
}

// Serve accepts connections of l until Shutdown, then returns nil. It owns l from then on.
func (s *Server) Serve(l *Listener, socket Socket) error {
	wrapped := newListener(l, s, socket)
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

// admit identifies the peer, once, and counts the connection. It returns nil if it turned
// the connection away.
func (s *Server) admit(c *net.UnixConn, socket Socket) net.Conn {
	shares := s.shares[socket]
	peer, err := s.Identifier.Identify(c)
	if err != nil {
		s.Logger.Debug("connection refused", "socket", socket, "error", err)
		shares.turnAway(c, s.problem(err))
		return nil
	}
	if socket == Admin && !slices.Contains(s.AdminUIDs, peer.UID) {
		s.Logger.Debug("admin connection refused", "uid", peer.UID, "pid", peer.PID)
		peer.Process.Close()
		shares.turnAway(c, problem.New(api.CodeNotPermitted, fmt.Sprintf("uid %d may not use the admin socket", peer.UID)))
		return nil
	}
	if socket == Admin {
		if refused := s.outside(peer); refused != nil {
			peer.Process.Close()
			shares.turnAway(c, refused)
			return nil
		}
	}
	accepted := &conn{UnixConn: c, peer: peer, socket: socket, shares: shares}
	if !shares.conns.add(accepted) {
		s.Logger.Debug("connection refused: too many", "uid", peer.UID)
		peer.Process.Close()
		shares.turnAway(c, problem.After(problem.New(api.CodeConnections, "all connections of this user are answering requests: reuse them, or open fewer"), time.Second))
		return nil
	}
	return accepted
}

// Shutdown stops the server. Every request that reached the agent is answered:
//
//  1. Sockets that the agent made lose their name, and their queue is accepted. Inherited
//     sockets are not accepted from any more: their queue is for the next agent.
//  2. Connections without a request are told that none will be read. One in the middle of
//     a request is answered first, and ends with that answer.
//  3. When ctx ends, the remaining connections are cut off. The error has their number.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining.Store(true)
	listeners := s.listeners
	s.mu.Unlock()
	var errs []error
	for _, l := range listeners {
		errs = append(errs, l.drain())
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		// In this order: the last connection of a queue is counted before its listener
		// is drained.
		queues := !slices.ContainsFunc(listeners, func(l *listener) bool { return !l.drained.Load() })
		left := s.shares[Client].conns.drain() + s.shares[Admin].conns.drain()
		if left == 0 && queues {
			break
		}
		select {
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("stop serving: %s cut off: %w", text.Count(left, "connection"), ctx.Err()))
			return errors.Join(append(errs, s.http.Close())...)
		case <-tick.C:
		}
	}
	return errors.Join(append(errs, s.http.Close())...)
}
