// SPDX-License-Identifier: Apache-2.0

// Package gate answers the gate (docs/gate.md): which apps it guards, and whether a program may
// start. It records what the gate guards, what it missed, and which programs started that no
// manifest lists.
//
// The log is the state: after each record the server follows it as a verifier does, so that both
// agree on what is guarded. A gap that could not be recorded is owed, and no evidence is made before
// it is in the log ([Server.Confirm]).
package gate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/gatewire"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/pcr"
)

// Apps are the declared applications. See [apps.Apps].
type Apps interface {
	Covers(app string, d evidence.Digest) bool
	Pinned(app string, d evidence.Digest) bool
	Settle(ctx context.Context, app string)
	Manifest(app string) evidence.Digest
	Declaration(app string) evidence.Digest
	AskGate() map[string]bool
	Guarded() []apps.Guarded
	GateChanged() <-chan struct{}
}

// Recorder is the measurement log.
type Recorder interface {
	Append(ctx context.Context, e pcr.Event) (pcr.Record, error)
}

// Parts are what the server asks, once they are up.
type Parts struct {
	Apps     Apps
	Recorder Recorder
}

// Config is what a server works with. Fields without a default are required.
type Config struct {
	Identifier caller.Identifier
	Parts      func(ctx context.Context) (Parts, error)
	Patience   time.Duration // with a gate that is asked for a sign of life, or is to begin; default 5 s
	Retry      time.Duration // until an app is tried again that the gate could not guard; default 10 s
	Log        *slog.Logger  // default: none
}

// Limits.
const (
	settlePatience = 5 * time.Second // for a reading of an app before a program is recorded
	look           = 10 * time.Millisecond
	ticks          = 20 * time.Millisecond // two ticks of the clock by which processes start
	recordTimeout  = 30 * time.Second
	burst          = 30 // records of programs of one app at once, and of gaps
	every          = 10 * time.Minute
	retryFirst     = 10 * time.Second // after which an app is tried again that the gate could not guard
	retryLast      = 10 * time.Minute // the times in between double up to this
)

// A Server serves one gate at a time. Its methods may be called by many goroutines.
type Server struct {
	c    Config
	ctx  context.Context // until Shutdown
	stop context.CancelFunc

	record sync.Mutex // held while the log and what follows it change together

	mu      sync.Mutex // guards all below
	log     history
	owed    map[string]string // reasons of gaps that are to be recorded, by app
	session *session          // nil if no gate is there
	started bool              // this process has recorded what a gate guards
	begun   time.Time         // of the last such record
	ends    bool              // the agent stops
	seen    map[string]*programs
	paused  map[string]time.Time // apps that are not guarded until then, since they had too many gaps
	gaps    map[string]*bucket
	counts  Counts
	l       *net.UnixListener
	again   chan struct{} // of one: the rules are to be sent again
	all     sync.WaitGroup
}

// Counts are what became of questions since the agent started.
type Counts struct {
	Guarded  int // apps, now
	Present  bool
	Asked    uint64
	Recorded uint64
	Refused  uint64
	Gaps     uint64
}

// programs are the programs of an app that were recorded while one manifest was in force.
type programs struct {
	manifest evidence.Digest
	recorded map[evidence.Digest]bool // whether they were refused
	bucket   *bucket
}

// New returns a server.
func New(c Config) *Server {
	c.Patience, c.Retry = cmp.Or(c.Patience, 5*time.Second), cmp.Or(c.Retry, retryFirst)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	return &Server{
		c: c, ctx: ctx, stop: stop, log: newHistory(), owed: make(map[string]string), seen: make(map[string]*programs),
		paused: make(map[string]time.Time), gaps: make(map[string]*bucket), again: make(chan struct{}, 1),
	}
}

// Restore takes an event that was recorded in this boot before this process, in the order of the log.
func (s *Server) Restore(e *pcr.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.follow(e)
}

// Restored says that all of them were taken: what the agent before guarded is suspended.
func (s *Server) Restored() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.suspend()
}

// Counts returns what the server counts.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.counts
	out.Guarded, out.Present = len(s.log.guarded), s.session != nil
	return out
}

// Serve accepts the connections of gates until Shutdown, then returns nil.
func (s *Server) Serve(l *net.UnixListener) error {
	s.mu.Lock()
	s.l = l
	ends := s.ends
	s.mu.Unlock()
	for !ends {
		c, err := l.AcceptUnix()
		s.mu.Lock()
		ends = s.ends
		s.mu.Unlock()
		if err != nil {
			if ends {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			s.c.Log.Warn("a connection of the gate cannot be accepted", "error", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		s.all.Go(func() {
			defer c.Close()
			if err := s.serve(c); err != nil {
				s.c.Log.Info("a connection of the gate ended", "reason", err)
			}
		})
	}
	return nil
}

// Shutdown ends the connection. It records nothing: the gate goes on, and says so to the next
// agent.
func (s *Server) Shutdown() {
	s.mu.Lock()
	s.ends = true
	if s.l != nil {
		s.l.SetDeadline(time.Unix(1, 0))
	}
	s.mu.Unlock()
	s.stop() // also what waits for the start of the agent, which may never end
	s.all.Wait()
}

// identify establishes that the gate is at the other end, and returns the digest of its executable.
func (s *Server) identify(ctx context.Context, c *net.UnixConn) (evidence.Digest, error) {
	peer, err := s.c.Identifier.Identify(c)
	if err != nil {
		return evidence.Digest{}, err
	}
	defer peer.Process.Close()
	if peer.UID != 0 || peer.Unit != gatewire.Unit {
		return evidence.Digest{}, fmt.Errorf("process %d has uid %d in unit %q, and only root in %s is the gate", peer.PID, peer.UID, peer.Unit, gatewire.Unit)
	}
	x := peer.Process.Executable(ctx)
	if x == nil || x.Digest == nil {
		return evidence.Digest{}, fmt.Errorf("the executable of process %d cannot be read", peer.PID)
	}
	return *x.Digest, peer.Process.Running()
}

// append records an event, and follows it. The caller holds record.
func (s *Server) append(ctx context.Context, r Recorder, e pcr.Event) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	_, err := r.Append(ctx, e)
	if err == nil {
		s.mu.Lock()
		s.log.follow(&e)
		s.mu.Unlock()
	}
	return err
}

// owe notes a gap, unless nothing is guarded that it could concern, and records it. After an error
// it is still owed.
func (s *Server) owe(ctx context.Context, r Recorder, app, reason string) error {
	s.mu.Lock()
	if s.log.concerns(app) && s.owed[app] == "" {
		s.owed[app] = text.Fit(reason, pcr.MaxReason)
	}
	s.mu.Unlock()
	return s.pay(ctx, r)
}

// pay records the gaps that are owed.
func (s *Server) pay(ctx context.Context, r Recorder) error {
	s.record.Lock()
	defer s.record.Unlock()
	s.mu.Lock()
	owed := maps.Clone(s.owed)
	s.mu.Unlock()
	for _, app := range slices.Sorted(maps.Keys(owed)) {
		reason := owed[app]
		err := s.append(ctx, r, pcr.Event{Type: pcr.EventGateGap, GateGap: &pcr.GateGapEvent{App: app, Reason: reason}})
		if errors.Is(err, ledger.ErrFull) { // its last record says that nothing is guarded any more
			s.mu.Lock()
			s.log.follow(&pcr.Event{Type: pcr.EventFull})
			clear(s.owed)
			s.mu.Unlock()
			return nil
		}
		if err != nil {
			return fmt.Errorf("record that programs may have started without the gate: %w", err)
		}
		s.c.Log.Warn("programs may have started without the gate", "app", app, "reason", reason)
		s.mu.Lock()
		delete(s.owed, app)
		s.counts.Gaps++
		s.pause(app)
		s.mu.Unlock()
	}
	return nil
}

// pause keeps an app with many gaps from filling the log: each begins anew with a record. The caller
// holds mu.
func (s *Server) pause(app string) {
	b := s.gaps[app]
	if b == nil {
		b = newBucket()
		s.gaps[app] = b
	}
	wait := time.Second
	if !b.take(time.Now()) {
		wait = every
	}
	s.paused[app] = time.Now().Add(wait)
	time.AfterFunc(wait, s.resend)
}

// resend has the rules sent again.
func (s *Server) resend() {
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// Await waits until the log says that the gate guards an app that asks for it, with the folders and
// names of now, if a gate is there: what starts of the app before is not known. It gives up after a
// short time.
func (s *Server) Await(ctx context.Context, app string) {
	end := time.Now().Add(s.c.Patience)
	s.mu.Lock()
	x := s.session
	s.mu.Unlock()
	var next uint64
	if x != nil {
		next = x.next()
	}
	for {
		s.mu.Lock()
		_, guarded := s.log.guarded[app]
		begun, here := s.begun, x != nil && s.session == x
		soon := here && !s.paused[app].After(end) && !s.paused[""].After(end)
		s.mu.Unlock()
		guarded = guarded && (!here || x.knows(next))
		late := time.Since(begun) > ticks // a process that starts next starts after the record
		if guarded && late || !guarded && !soon || time.Now().After(end) {
			return
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return
		}
	}
}

// Confirm makes the log say what the gate missed before now. It is called before each quote. After
// an error nothing may be vouched for.
func (s *Server) Confirm(ctx context.Context) error {
	s.record.Lock() // a record that is under way may be in the log already
	s.mu.Lock()
	x, guards, owes := s.session, len(s.log.guarded) > 0, len(s.owed) > 0
	s.mu.Unlock()
	s.record.Unlock()
	if !guards && !owes {
		return nil
	}
	p, err := s.c.Parts(ctx)
	if err != nil {
		return err
	}
	switch {
	case x == nil && guards:
		return s.owe(ctx, p.Recorder, "", "the gate ended")
	case guards:
		patience := s.c.Patience
		if end, limited := ctx.Deadline(); limited { // the gap must be recorded in this time too
			patience = min(patience, time.Until(end)/2)
		}
		if err := x.alive(ctx, patience); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			x.conn.Close()
			return s.owe(ctx, p.Recorder, "", "the gate does not answer")
		}
	}
	return s.pay(ctx, p.Recorder)
}

// bucket limits records.
type bucket struct {
	left int
	last time.Time
}

func newBucket() *bucket { return &bucket{left: burst} }

// take reports whether one more may be recorded now.
func (b *bucket) take(now time.Time) bool {
	if b.last.IsZero() {
		b.last = now
	}
	if n := int(now.Sub(b.last) / every); n > 0 {
		b.left, b.last = min(burst, b.left+n), b.last.Add(time.Duration(n)*every)
	}
	if b.left == 0 {
		return false
	}
	b.left--
	return true
}
