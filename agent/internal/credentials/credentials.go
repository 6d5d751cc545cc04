// SPDX-License-Identifier: Apache-2.0

// Package credentials answers systemd itself: LoadCredential= of a unit, and key files of
// crypttab, which name a socket instead of a file (systemd.exec(5), crypttab(5)). systemd
// connects, writes nothing, and reads to the end. What it wants is in the address of its end of
// the connection. docs/credentials.md says why this is safe, and what is left.
//
// # Who asks
//
// The address is a claim. A caller gets an answer only if it has uid 0, if its unit by cgroup is
// the unit of the address, and if it runs systemd's own program: then the program of the unit
// was not executed yet. All of it is checked at accept, and again when the answer is ready.
//
// # A refusal is an answer
//
// systemd has no message for "no". If the agent just closed the connection, systemd would take
// that for a credential of no bytes, and start the unit. So a refusal is more bytes than systemd
// reads, all zero: the unit fails with 243/CREDENTIALS.
//
// # Limits
//
// A connection that is not accepted waits in the queue of the socket, which outlives the agent.
// So the agent accepts only as many as it answers. One unit, or the instances of one template,
// get a quarter of them.
package credentials

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/durable"
)

// A Source has the bytes. It is asked only for what passed the checks of this package. The caller
// overwrites what it gets. An empty answer is refused.
type Source interface {
	// Credential returns the credential of that name for the app of a.Unit.
	Credential(ctx context.Context, a Asked) ([]byte, error)
	// VolumeKey returns the key of a volume for its systemd-cryptsetup@.service.
	VolumeKey(ctx context.Context, a Asked) ([]byte, error)
}

// Hold has another process keep a connection open until release is called. systemd takes an end
// without bytes for an empty credential, and the kernel makes one when the agent is killed.
type Hold func(c *net.UnixConn) (release func(), err error)

// Config is what a Server needs. Open, Patience and Log have defaults.
type Config struct {
	Identifier caller.Identifier
	Own        func(pid int, k Kind) error // why a process is not systemd's own program for k: [System.Own]
	Source     Source
	Explain    func(error) *api.Problem // nil for an error without a code
	Hold       Hold                     // nil: a kill of the agent ends its connections
	Open       int                      // connections at once; 128
	Patience   time.Duration            // for an answer to be ready; 20 minutes, as for a measurement
	Log        *slog.Logger
}

// Server serves one socket.
type Server struct {
	Config
	places chan struct{} // one for each connection
	work   context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup

	counts *counts

	mu       sync.Mutex // guards what follows
	listener *net.UnixListener
	parties  map[string]int // connections by party
	stopping bool
}

// New returns a server that does not listen yet.
func New(c Config) *Server {
	c.Open = cmp.Or(max(c.Open, 0), 128)
	c.Patience = cmp.Or(max(c.Patience, 0), 20*time.Minute)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	s := &Server{Config: c, places: make(chan struct{}, c.Open), parties: make(map[string]int), counts: newCounts()}
	s.work, s.cancel = context.WithCancel(context.Background())
	return s
}

// Openable returns how many connections a server may have at once in this process: each takes
// three descriptors, which are few beside those of the other sockets.
func Openable() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 8
	}
	return int(min(128, max(8, r.Cur/128)))
}

// Interrupted refuses what an earlier agent accepted and did not answer to its end, since it was
// killed: how much of an answer was sent is not known. It closes the connections.
func (s *Server) Interrupted(open []*net.UnixConn) {
	var all sync.WaitGroup
	for _, c := range open {
		all.Go(func() {
			address, err := addressOf(c)
			asked, _ := parse(address)
			if err == nil {
				err = problem.New(api.CodeShuttingDown, "the agent ended before it had answered")
			}
			s.refuse(c, asked, err)
			c.CloseWrite()
			c.Close()
		})
	}
	all.Wait()
}

// Serve accepts connections of l until Shutdown, then returns nil. It does not close l.
func (s *Server) Serve(l *net.UnixListener) error {
	s.mu.Lock()
	s.listener = l
	stopping := s.stopping
	s.mu.Unlock()
	if stopping {
		return nil
	}
	for {
		select {
		case s.places <- struct{}{}:
		case <-s.work.Done():
			return nil
		}
		c, err := l.AcceptUnix()
		if err != nil {
			<-s.places
			if s.isStopping() && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed)) {
				return nil
			}
			if durable.Short(err) && s.pause() {
				continue
			}
			return err
		}
		s.all.Go(func() {
			defer func() { <-s.places }()
			defer c.Close()
			defer s.hold(c)()
			s.answer(c)
		})
	}
}

// hold keeps c open beyond this process, until the function that it returns is called. That ends
// the answer: the other end then sees its end, and nothing can be sent any more.
func (s *Server) hold(c *net.UnixConn) (release func()) {
	var forget func()
	if s.Hold != nil {
		var err error
		if forget, err = s.Hold(c); err != nil {
			s.Log.Debug("a connection is not held for the next agent", "error", err)
		}
	}
	return func() {
		c.CloseWrite()
		if forget != nil {
			forget()
		}
	}
}

// pause waits until there may be descriptors again, and reports whether the server goes on.
func (s *Server) pause() bool {
	select {
	case <-time.After(100 * time.Millisecond):
		return true
	case <-s.work.Done():
		return false
	}
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// Shutdown stops accepting. What waits in the queue of an inherited socket is for the next agent.
// Connections that were accepted are answered until ctx ends, and refused after that: none is
// closed without an answer.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	l := s.listener
	s.mu.Unlock()
	var err error
	if l != nil {
		err = l.SetDeadline(time.Unix(1, 0))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.all.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	s.cancel()
	select {
	case <-done:
	case <-time.After(refusalTime):
		err = errors.Join(err, errors.New("stop serving credentials: some connections were cut off"))
	}
	return err
}

// enter counts a connection of a party, unless that has its share already.
func (s *Server) enter(party string) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parties[party] >= max(1, s.Open/4) {
		return nil, false
	}
	s.parties[party]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.parties[party]--; s.parties[party] == 0 {
			delete(s.parties, party)
		}
	}, true
}
