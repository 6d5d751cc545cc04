// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// listener gives net/http only connections whose peer is identified and permitted.
//
// The kernel hands connections over in the order in which they came, and identifying a process takes
// longest. So one goroutine accepts them as fast as it can, and they are identified in the order of
// package turn: users who open many delay another one by one connection each, and not by all of theirs.
type listener struct {
	*Listener
	server  *Server
	socket  Socket
	drained atomic.Bool // it will return no further connection

	begin    sync.Once
	accepted chan acceptance // closed when there will be no more
	places   chan struct{}   // taken by connections that are not identified yet
	open     context.Context // ends with Close
	close    func()
}

// An acceptance is what Accept returns.
type acceptance struct {
	conn net.Conn
	err  error
}

func newListener(l *Listener, s *Server, socket Socket) *listener {
	open, end := context.WithCancel(context.Background())
	return &listener{
		Listener: l, server: s, socket: socket,
		accepted: make(chan acceptance), places: make(chan struct{}, unidentified()),
		open: open, close: end,
	}
}

// Accept returns the next connection. Only one goroutine calls it.
func (l *listener) Accept() (net.Conn, error) {
	l.begin.Do(func() { go l.run() })
	x, more := <-l.accepted
	if !more {
		return nil, net.ErrClosed
	}
	return x.conn, x.err
}

// Close stops accepting at once.
func (l *listener) Close() error {
	l.close()
	return l.Listener.Close()
}

// run accepts connections until the listener is closed, or drained.
func (l *listener) run() {
	var all sync.WaitGroup
	defer close(l.accepted)
	defer func() {
		all.Wait() // the last connection of the queue is counted before the listener is drained
		l.drained.Store(true)
	}()
	for {
		c, err := l.AcceptUnix()
		switch {
		case err == nil:
			l.identify(c, &all)
		case !l.server.draining.Load():
			if !l.give(acceptance{err: err}) {
				return
			}
		case errors.Is(err, os.ErrDeadlineExceeded) && !l.inherited && l.waiting():
			l.SetDeadline(time.Now().Add(drainStep))
		default:
			return
		}
	}
}

// give hands x to Accept, and reports whether it was taken.
func (l *listener) give(x acceptance) bool {
	select {
	case l.accepted <- x:
		return true
	case <-l.open.Done():
		return false
	}
}

// identify has the peer of c identified in its turn, unless its user opens too many connections.
func (l *listener) identify(c *net.UnixConn, all *sync.WaitGroup) {
	shares := l.server.shares[l.socket]
	uid, err := l.server.Identifier.UID(c)
	if err == nil && l.server.shed(c, uid, shares) {
		return
	}
	party := strconv.FormatUint(uint64(uid), 10)
	if err != nil {
		party = "" // of whom admit says why
	}
	select {
	case l.places <- struct{}{}:
	case <-l.open.Done():
		c.Close()
		return
	}
	all.Go(func() {
		leave, err := shares.identifying.Enter(turn.With(l.open, turn.Who{Party: party}), 1)
		<-l.places
		if err != nil {
			c.Close()
			return
		}
		accepted := l.server.admit(c, l.socket)
		leave()
		if accepted != nil && !l.give(acceptance{conn: accepted}) {
			accepted.Close()
		}
	})
}

// drainStep is how long one step of emptying the queue of a socket may take. A deadline in
// the past would fail before the queue is checked.
const drainStep = 50 * time.Millisecond

// drain stops accepting, see Shutdown.
func (l *listener) drain() error {
	if l.inherited {
		return l.SetDeadline(time.Unix(1, 0))
	}
	return errors.Join(l.unlink(), l.SetDeadline(time.Now().Add(drainStep)))
}

// shed ends the connection of a user who opens them faster than allowed, and reports
// whether it did. It costs next to nothing, so that a flood does not fill the queue of the
// socket: to identify a process takes a hundred times as long.
func (s *Server) shed(c *net.UnixConn, uid uint32, shares *shares) bool {
	wait, ok := shares.opens.take(uid, time.Now())
	if ok {
		return false
	}
	shares.counts.shed.Add(1)
	p := problem.After(problem.New(api.CodeConnections, fmt.Sprintf("uid %d may open %g connections a second: keep them for several requests", uid, s.Limits.OpenEach)), wait)
	if !take(shares.shed) {
		unread(c, rawProblem(p))
		return true
	}
	go func() {
		slow(context.Background(), shares.shed)
		unread(c, rawProblem(p))
	}()
	return true
}
