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

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/gatewire"
	"github.com/cvm-agentd/agentd/pcr"
)

// Times of a connection.
const (
	helloTime = 10 * time.Second
	writeTime = 10 * time.Second
)

// session is the connection of one gate.
type session struct {
	s     *Server
	conn  *net.UnixConn
	parts Parts
	gate  evidence.Digest // of its executable
	held  map[string]gatewire.Held
	asks  chan struct{} // one for each question, until a moment after its answer: so twice as many
	done  chan struct{} // closed at the end

	write sync.Mutex // held for a message

	mu         sync.Mutex // guards all below
	generation uint64
	rules      []apps.Guarded // of that generation
	recorded   uint64         // last generation of which the log says what the gate guards
	pings      map[uint64]chan struct{}
	lastPing   uint64
	failed     map[string]string // apps that the gate could not guard, and why not
	retry      time.Duration     // until they are tried again
	later      *time.Timer       // that has them tried again; nil before the first
}

// serve speaks with a gate until its connection ends.
func (s *Server) serve(c *net.UnixConn) error {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { c.Close() })
	digest, err := s.identify(ctx, c)
	if err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(helloTime))
	var m gatewire.ToAgent
	if err := gatewire.Read(c, &m); err != nil {
		return err
	}
	c.SetReadDeadline(time.Time{})
	if m.Hello == nil || m.Hello.Version != gatewire.Version {
		return errors.New("the gate speaks another version: start agentd-gate.service again")
	}
	parts, err := s.c.Parts(ctx)
	if err != nil {
		return err
	}
	x := &session{
		s: s, conn: c, parts: parts, gate: digest, held: make(map[string]gatewire.Held),
		asks: make(chan struct{}, 2*gatewire.MaxAsked), done: make(chan struct{}), pings: make(map[uint64]chan struct{}),
	}
	for _, h := range m.Hello.Held {
		x.held[h.App] = h
	}
	if err := s.enter(x); err != nil {
		return err
	}
	err = x.run(ctx, m.Hello.Gaps)
	close(x.done)
	x.tryNoMore()
	s.left(ctx, x)
	return err
}

// enter makes x the session, unless there is another.
func (s *Server) enter(x *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ends {
		return errors.New("the agent stops")
	}
	if s.session != nil {
		return errors.New("another gate is connected")
	}
	s.session = x
	return nil
}

// left records that the gate is gone, unless the agent ends its connection.
func (s *Server) left(ctx context.Context, x *session) {
	s.mu.Lock()
	s.session = nil
	ends := s.ends
	s.mu.Unlock()
	if ends {
		return
	}
	if err := s.owe(ctx, x.parts.Recorder, "", "the connection to the gate ended"); err != nil {
		s.c.Log.Warn("a gap of the gate is not recorded yet: no evidence is made before it is", "error", err)
	}
}

func (x *session) send(m *gatewire.ToGate) error {
	x.write.Lock()
	defer x.write.Unlock()
	x.conn.SetWriteDeadline(time.Now().Add(writeTime))
	err := gatewire.Write(x.conn, m)
	if err != nil {
		x.conn.Close()
	}
	return err
}

// run serves the messages of a gate.
func (x *session) run(ctx context.Context, gaps []gatewire.Gap) error {
	for _, g := range gaps {
		if err := x.gap(ctx, g); err != nil {
			return err
		}
	}
	x.settle()
	if err := x.sendRules(); err != nil {
		return err
	}
	go x.follow()
	for {
		var m gatewire.ToAgent
		if err := gatewire.Read(x.conn, &m); err != nil {
			return err
		}
		var err error
		switch {
		case m.Hello != nil:
			err = errors.New("the gate greets twice")
		case m.Ready != nil:
			err = x.ready(ctx, m.Ready)
		case m.Gap != nil:
			err = x.gap(ctx, *m.Gap)
		case m.Pong != nil:
			x.pong(m.Pong.ID)
		case m.Ask != nil:
			select {
			case x.asks <- struct{}{}:
			default:
				return fmt.Errorf("more than %d questions at once", gatewire.MaxAsked)
			}
			go func() {
				defer func() { <-x.asks }()
				start, gap := x.s.may(ctx, x, m.Ask)
				if ctx.Err() != nil { // the gate asks the next agent
					return
				}
				x.send(&gatewire.ToGate{Answer: &gatewire.Answer{ID: m.Ask.ID, Start: start, Gap: gap}})
			}()
		}
		if err != nil {
			return err
		}
	}
}

// settle waits until this agent has measured the apps that the gate held for the one before: rules
// without them would end that.
func (x *session) settle() {
	end := time.Now().Add(x.s.c.Patience)
	for time.Now().Before(end) && x.measures() {
		time.Sleep(look)
	}
}

// measures reports whether an app that the gate held is not measured yet.
func (x *session) measures() bool {
	asks := x.parts.Apps.AskGate()
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	for app := range x.held {
		if located, is := asks[app]; is && !located && !x.s.ends {
			return true
		}
	}
	return false
}

// follow sends the rules again when they may have changed.
func (x *session) follow() {
	for {
		select {
		case <-x.done:
			return
		case <-x.parts.Apps.GateChanged():
		case <-x.s.again:
		}
		if x.sendRules() != nil {
			return
		}
	}
}

// sendRules sends what is to be guarded now.
func (x *session) sendRules() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.generation++
	var left []string
	x.rules, left = fit(x.parts.Apps.Guarded())
	for _, app := range left {
		x.s.c.Log.Warn("an app cannot be guarded", "app", app, "reason", fmt.Sprintf("the gate takes %d folders and %d bytes of names, and those with the fewest first", gatewire.MaxFolders, maxRules))
	}
	m := &gatewire.Rules{Generation: x.generation}
	for _, g := range x.rules {
		m.Apps = append(m.Apps, g.App)
	}
	return x.send(&gatewire.ToGate{Rules: m})
}

// next has the rules sent again, and returns the least generation of those that are made after that.
func (x *session) next() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.s.resend()
	return x.generation + 1
}

// knows reports whether the log says what the gate guards of a generation, or of a later one.
func (x *session) knows(generation uint64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.recorded >= generation
}

// gap records what the gate missed, and says that it is recorded.
func (x *session) gap(ctx context.Context, g gatewire.Gap) error {
	if err := x.s.owe(ctx, x.parts.Recorder, g.App, "the gate: "+g.Reason); err != nil {
		x.s.c.Log.Warn("a gap of the gate is not recorded yet: no evidence is made before it is", "error", err)
		return nil // the gate says it again
	}
	return x.send(&gatewire.ToGate{Noted: &gatewire.Noted{Number: g.Number}})
}

// ready records what the gate guards, if that is news.
func (x *session) ready(ctx context.Context, r *gatewire.Ready) error {
	x.mu.Lock()
	current, rules := r.Generation == x.generation, x.rules
	x.mu.Unlock()
	if !current {
		return nil // another answer is on the way
	}
	x.tryAgain(r.Failed)
	want := make(map[string]guard)
	x.s.mu.Lock()
	for _, g := range rules {
		late := time.Now().Before(x.s.paused[g.App.App]) || time.Now().Before(x.s.paused[""])
		if slices.Contains(r.Apps, g.App.App) && !late {
			want[g.App.App] = guard{g.Enforce, x.gate, g.Declaration}
		}
	}
	x.s.mu.Unlock()
	listed, err := x.s.guards(ctx, x, want)
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.recorded = max(x.recorded, r.Generation)
	x.mu.Unlock()
	return x.send(&gatewire.ToGate{Recorded: &gatewire.Recorded{Generation: r.Generation, Apps: listed}})
}

// tryAgain has the rules sent again later if the gate could not guard an app: a folder may have been slow
// to open. Each reason is logged once. Rules are sent for other reasons too, each of which the owner of
// an app can bring about: there is one timer, or each of them would add one that goes on for ever.
func (x *session) tryAgain(failed []gatewire.Failed) {
	x.mu.Lock()
	defer x.mu.Unlock()
	before := x.failed
	x.failed = make(map[string]string)
	for _, f := range failed {
		if x.failed[f.App] = f.Reason; before[f.App] != f.Reason {
			x.s.c.Log.Warn("an app cannot be guarded, and is tried again", "app", f.App, "reason", f.Reason)
		}
	}
	if x.later != nil {
		x.later.Stop()
	}
	if len(failed) == 0 {
		x.retry = 0
		return
	}
	x.retry = min(max(x.retry*2, x.s.c.Retry), retryLast)
	x.later = time.AfterFunc(x.retry, x.s.resend)
}

// tryNoMore stops the timer of tryAgain: the next gate is sent all rules when it connects.
func (x *session) tryNoMore() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.later != nil {
		x.later.Stop()
	}
}

// alive asks the gate for a sign of life.
func (x *session) alive(ctx context.Context, patience time.Duration) error {
	x.mu.Lock()
	x.lastPing++
	id, c := x.lastPing, make(chan struct{})
	x.pings[id] = c
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		delete(x.pings, id)
		x.mu.Unlock()
	}()
	if err := x.send(&gatewire.ToGate{Ping: &gatewire.Ping{ID: id}}); err != nil {
		return err
	}
	select {
	case <-c:
		return nil
	case <-x.done:
		return errors.New("its connection ended")
	case <-time.After(patience):
		return errors.New("no answer")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (x *session) pong(id uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if c := x.pings[id]; c != nil {
		close(c)
		delete(x.pings, id)
	}
}

// guards makes the log say what is guarded, and returns the apps that it lists.
func (s *Server) guards(ctx context.Context, x *session, want map[string]guard) ([]string, error) {
	s.record.Lock()
	defer s.record.Unlock()
	carried, lost := s.carries(x)
	for _, app := range lost {
		if err := s.append(ctx, x.parts.Recorder, pcr.Event{Type: pcr.EventGateGap, GateGap: &pcr.GateGapEvent{App: app, Reason: "the gate did not guard it when the agent came back"}}); err != nil {
			return nil, err
		}
	}
	for again := true; again; { // if a declaration comes into force meanwhile, its record may be before the one of here
		x.current(want)
		s.mu.Lock()
		same := sameGuards(s.log.guarded, want) && len(s.log.suspended) == 0
		s.mu.Unlock()
		if !same {
			e := &pcr.GateStartEvent{Gate: x.gate, Carried: carried}
			for _, app := range slices.Sorted(maps.Keys(want)) {
				e.Apps = append(e.Apps, pcr.GatedApp{App: app, Enforce: want[app].enforce})
			}
			if err := s.append(ctx, x.parts.Recorder, pcr.Event{Type: pcr.EventGateStart, GateStart: e}); err != nil {
				return nil, fmt.Errorf("record what the gate guards: %w", err)
			}
			s.c.Log.Info("the gate guards applications", "apps", slices.Sorted(maps.Keys(want)), "carried", carried)
		}
		s.mu.Lock()
		if s.started = true; !same {
			s.begun = time.Now()
		}
		s.log.guarded = maps.Clone(want) // with the declarations that are in force now
		s.mu.Unlock()
		carried, again = false, !same && x.current(want)
	}
	return slices.Sorted(maps.Keys(want)), nil
}

// carries reports whether the gate went on since the agent before, and which apps it lost.
func (s *Server) carries(x *session) (carried bool, lost []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	carried = !s.started && len(x.held) > 0
	for app := range s.log.suspended {
		if h, ok := x.held[app]; carried && (!ok || h.Enforce != s.log.suspended[app].enforce) {
			lost = append(lost, app)
		}
	}
	slices.Sort(lost)
	return carried && len(s.log.suspended) > len(lost), lost
}

// current drops the apps whose declaration is not in force any more: the gate knows other folders and
// names than the log would say. It reports whether there were any.
func (x *session) current(want map[string]guard) (dropped bool) {
	maps.DeleteFunc(want, func(app string, g guard) bool {
		old := x.parts.Apps.Declaration(app) != g.declaration
		dropped = dropped || old
		return old
	})
	return dropped
}

func sameGuards(a, b map[string]guard) bool {
	if len(a) != len(b) {
		return false
	}
	for app, g := range a {
		if b[app] != g {
			return false
		}
	}
	return true
}
