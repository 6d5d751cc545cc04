// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/gatewire"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/pcr"
)

// Times of a connection.
const (
	redial       = 100 * time.Millisecond
	writeTimeout = 5 * time.Second
	maxKnown     = 65536
)

// known is a question that the agent answered with yes.
type known struct {
	app    string
	digest evidence.Digest
}

// link is the connection to the agent, which may come and go.
type link struct {
	g *Gate

	mu      sync.Mutex // guards all below; held for a write, which has a deadline
	conn    net.Conn   // nil if there is none, or its rules are not in force yet
	up      chan struct{}
	last    uint64 // number of the last question
	asked   map[uint64]chan *gatewire.Answer
	known   map[known]bool
	held    map[string]bool // apps that the log lists without a break since; the value is whether they are enforced
	gaps    map[string]gatewire.Gap
	numbers uint64 // of the last gap
	ready   gatewire.Ready
	enforce map[string]bool   // of the apps of the rules
	marks   marks             // of run alone
	failed  map[string]string // apps that could not be guarded, and why not; of run alone
}

func newLink(g *Gate) *link {
	return &link{
		g: g, up: make(chan struct{}), asked: make(map[uint64]chan *gatewire.Answer), known: make(map[known]bool),
		held: make(map[string]bool), gaps: make(map[string]gatewire.Gap), marks: make(marks),
	}
}

// Errors of a question.
var (
	errNoAgent  = errors.New("the agent did not answer")
	errNoRecord = errors.New("the agent could not record it")
)

// may asks the agent whether a program may start. While the agent is away, what it said before
// counts: the log of this boot says it still.
func (l *link) may(ctx context.Context, a owner, path string, d evidence.Digest, pid int) (bool, error) {
	for {
		answer, up := l.ask(a, path, d, pid)
		if answer == nil && up == nil { // the agent is slow: one that no start waits for any more counts too
			if !sleep(ctx, 10*time.Millisecond) {
				return false, fmt.Errorf("%w: %w", errNoAgent, context.Cause(ctx))
			}
			continue
		}
		if answer == nil {
			l.mu.Lock()
			before := l.known[known{a.app, d}]
			l.mu.Unlock()
			if before {
				return true, nil
			}
			select {
			case <-up:
				continue
			case <-ctx.Done():
				return false, fmt.Errorf("%w: %w", errNoAgent, context.Cause(ctx))
			}
		}
		select {
		case x, answered := <-answer:
			if !answered { // the connection ended
				continue
			}
			if x.Start && x.Gap {
				return false, errNoRecord
			}
			if x.Start && !a.loose { // a yes to a program that is recorded is none to one that is refused
				l.learn(known{a.app, d})
			}
			return x.Start, nil
		case <-ctx.Done():
			return false, fmt.Errorf("%w: %w", errNoAgent, context.Cause(ctx))
		}
	}
}

func (l *link) learn(k known) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.known) >= maxKnown {
		clear(l.known)
	}
	l.known[k] = true
}

// ask sends a question. Without a connection it returns a channel that is closed when there is one,
// and nothing at all if the agent has as many questions as it takes.
func (l *link) ask(a owner, path string, d evidence.Digest, pid int) (answer chan *gatewire.Answer, up chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.conn == nil:
		return nil, l.up
	case len(l.asked) >= gatewire.MaxAsked:
		return nil, nil
	}
	l.last++
	answer = make(chan *gatewire.Answer, 1)
	l.asked[l.last] = answer
	l.write(&gatewire.ToAgent{Ask: &gatewire.Ask{ID: l.last, App: a.app, Path: path, Digest: d, Loose: a.loose, PID: pid}})
	return answer, nil
}

// write sends a message. If that fails the reader of the connection sees its end. The caller holds
// mu.
func (l *link) write(m *gatewire.ToAgent) {
	l.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err := gatewire.Write(l.conn, m); err != nil {
		l.conn.Close()
	}
}

// gap notes that programs may have started without a question, and tells the agent before
// it returns, if there is one. The first reason of an app is kept until the agent has noted it; the
// number is a new one each time, since what the agent noted meanwhile came before.
func (l *link) gap(app, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if app == "" {
		clear(l.held)
	} else {
		delete(l.held, app)
	}
	x, waits := l.gaps[app]
	if !waits {
		x = gatewire.Gap{App: app, Reason: text.Fit(reason, pcr.MaxReason)}
	}
	l.numbers++
	x.Number = l.numbers
	l.gaps[app] = x
	if l.conn != nil {
		l.write(&gatewire.ToAgent{Gap: &x})
	}
}

// run keeps a connection until ctx ends.
func (l *link) run(ctx context.Context) {
	for ctx.Err() == nil {
		if conn, err := l.g.c.Connect(ctx); err == nil {
			err = l.serve(ctx, conn)
			if ctx.Err() == nil {
				l.g.c.Log.Info("the connection to the agent ended", "reason", err)
			}
		} else {
			l.g.c.Log.Debug("the agent cannot be reached", "error", err)
		}
		sleep(ctx, redial)
	}
}

// serve speaks with the agent until the connection ends.
func (l *link) serve(ctx context.Context, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer l.down(conn)
	if err := gatewire.Write(conn, &gatewire.ToAgent{Hello: l.hello()}); err != nil {
		return err
	}
	for {
		var m gatewire.ToGate
		if err := gatewire.Read(conn, &m); err != nil {
			return err
		}
		switch {
		case m.Rules != nil:
			l.take(ctx, conn, m.Rules)
		case m.Recorded != nil:
			l.recorded(m.Recorded)
		case m.Answer != nil:
			l.answer(m.Answer)
		case m.Noted != nil:
			l.noted(m.Noted.Number)
		case m.Ping != nil:
			l.mu.Lock()
			if l.conn == conn { // with rules, what was to be said was said
				l.write(&gatewire.ToAgent{Pong: m.Ping})
			}
			l.mu.Unlock()
		}
	}
}

func (l *link) hello() *gatewire.Hello {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := &gatewire.Hello{Version: gatewire.Version}
	for _, app := range slices.Sorted(maps.Keys(l.held)) {
		h.Held = append(h.Held, gatewire.Held{App: app, Enforce: l.held[app]})
	}
	for _, app := range slices.Sorted(maps.Keys(l.gaps)) {
		h.Gaps = append(h.Gaps, l.gaps[app])
	}
	return h
}

// take puts rules into force, and says so. Gaps that came since the greeting are said first.
func (l *link) take(ctx context.Context, conn net.Conn, in *gatewire.Rules) {
	l.mu.Lock()
	held := maps.Clone(l.held)
	l.mu.Unlock()
	now, ready, late := l.g.guard(ctx, in, l.marks, func(app string) bool { _, is := held[app]; return is })
	l.marks = now
	failed := make(map[string]string)
	for _, f := range ready.Failed {
		if failed[f.App] = f.Reason; l.failed[f.App] != f.Reason { // the agent tries again, and again
			l.g.c.Log.Warn("an app cannot be guarded", "app", f.App, "reason", f.Reason)
		}
	}
	l.failed = failed
	for app, why := range late {
		l.gap(app, why)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready, l.enforce = ready, make(map[string]bool)
	for _, a := range in.Apps {
		l.enforce[a.App] = a.Enforce
	}
	maps.DeleteFunc(l.held, func(app string, enforce bool) bool { // also if the agent ends before it records that
		return !slices.Contains(ready.Apps, app) || l.enforce[app] != enforce
	})
	maps.DeleteFunc(l.known, func(k known, _ bool) bool { return l.enforce[k.app] }) // the manifest may list it no more
	if l.conn == nil {
		l.conn = conn
		for _, app := range slices.Sorted(maps.Keys(l.gaps)) {
			x := l.gaps[app]
			l.write(&gatewire.ToAgent{Gap: &x})
		}
		close(l.up)
	}
	l.write(&gatewire.ToAgent{Ready: &ready})
}

// recorded notes what the log lists.
func (l *link) recorded(r *gatewire.Recorded) {
	l.mu.Lock()
	if r.Generation == l.ready.Generation && len(l.gaps) == 0 {
		clear(l.held)
		for _, app := range r.Apps {
			if slices.Contains(l.ready.Apps, app) {
				l.held[app] = l.enforce[app]
			}
		}
	}
	l.mu.Unlock()
	l.g.c.Log.Info("the agent has recorded what is guarded", "apps", len(r.Apps))
	if l.g.c.Guarding != nil {
		l.g.c.Guarding(len(r.Apps))
	}
}

func (l *link) answer(a *gatewire.Answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.asked[a.ID]; c != nil {
		c <- a
		delete(l.asked, a.ID)
	}
}

func (l *link) noted(number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for app, x := range l.gaps {
		if x.Number == number {
			delete(l.gaps, app)
		}
	}
}

// down ends a connection: the decisions that wait for an answer ask again on the next one.
func (l *link) down(conn net.Conn) {
	conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == conn {
		l.conn, l.up = nil, make(chan struct{})
	}
	for id, c := range l.asked {
		close(c)
		delete(l.asked, id)
	}
}
