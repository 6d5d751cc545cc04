// SPDX-License-Identifier: Apache-2.0

// Package gate holds up the start of each program of an app until the agent knows its digest.
// docs/gate.md says what it promises; this is how it keeps that:
//
//   - A decision ([Gate.decide]) has one goroutine, and a deadline that another one keeps.
//   - The content that runs is the content that was hashed: a read lease is taken before, and
//     given back when the kernel keeps writers away itself ([contents]).
//   - What was not asked about becomes a gap, which is sent before the program starts, and again
//     until the agent has noted it ([link]).
//   - The gate starts no program, and opens no file to execute it: it cannot wait for itself.
//
// Who owns what: the reader of events owns the group; rules replace each other as a whole; contents
// and link have a lock of their own, which none holds while it calls the kernel about a file.
package gate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/fanotify"
)

// Limits. docs/gate.md lists them.
const (
	maxHeld     = 4096    // starts that wait here; the others wait in the kernel
	maxDeciding = 256     // of them that are decided at once
	maxOfApp    = 32      // of them that are of one app: it cannot hold up the others
	maxStuck    = 64      // decisions that outlive their deadline by a second, since a file system does not answer
	maxFile     = 4 << 30 // bytes of a file that is hashed
)

// Config says how a gate works. Connect is required.
type Config struct {
	Connect  func(ctx context.Context) (net.Conn, error) // to the agent
	Alive    func()                                      // called at least each second while events are read
	Guarding func(apps int)                              // called when the agent has recorded what is guarded
	Unit     func(pid int) string                        // the system unit of a process; nil asks /proc
	Deadline time.Duration                               // of a decision; default 10 s
	Patience time.Duration                               // with a program that has a file open for writing; default 3 s
	Log      *slog.Logger                                // default: none
}

// A Gate answers the kernel.
type Gate struct {
	c        Config
	group    *fanotify.Group
	rules    atomic.Pointer[rules]
	contents *contents
	link     *link
	places   chan struct{} // one for each start that waits here
	deciding chan struct{} // one for each that is decided
	turns    turns
	stuck    atomic.Int32  // decisions that outlive their deadline
	grace    time.Duration // that they have to end, before they count
	fail     context.CancelCauseFunc
	all      sync.WaitGroup
}

// Run guards what the agent says until ctx ends. What waits for an answer then starts.
func Run(ctx context.Context, c Config) error {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	c.Deadline, c.Patience = cmp.Or(c.Deadline, 10*time.Second), cmp.Or(c.Patience, 3*time.Second)
	if c.Unit == nil {
		c.Unit = unitOf
	}
	group, err := fanotify.New()
	if err != nil {
		return err
	}
	defer group.Close()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	g := &Gate{c: c, group: group, contents: newContents(c.Patience), places: make(chan struct{}, maxHeld), deciding: make(chan struct{}, maxDeciding), fail: fail, grace: time.Second}
	g.rules.Store(&rules{})
	g.link = newLink(g)
	g.all.Go(func() { g.link.run(ctx) })
	g.all.Go(func() { g.contents.run(ctx) })
	err = g.read(ctx)
	fail(err)
	g.all.Wait() // not for decisions: one may never end
	if err == nil {
		if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
			err = cause
		}
	}
	return err
}

// read reads events until ctx ends.
func (g *Gate) read(ctx context.Context) error {
	quiet := time.Now() // no event that was not read yet is older
	for ctx.Err() == nil {
		if g.c.Alive != nil {
			g.c.Alive()
		}
		if !g.place(ctx) {
			continue
		}
		events, all, lost, err := g.group.Read(200 * time.Millisecond)
		now := time.Now()
		if errors.Is(err, fanotify.ErrRefused) {
			g.c.Log.Warn("a program does not start", "error", err)
		} else if err != nil {
			return err
		}
		if lost {
			g.link.gap("", "the kernel dropped permission events")
		}
		for i, e := range events {
			if i > 0 { // the first has the place that was taken
				g.places <- struct{}{}
			}
			go g.decide(ctx, e, quiet)
		}
		if len(events) == 0 {
			<-g.places
		}
		if all {
			quiet = now
		}
	}
	return nil
}

// place waits for a place for the next event, at most a second.
func (g *Gate) place(ctx context.Context) bool {
	select {
	case g.places <- struct{}{}:
		return true
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	return false
}

// decide answers one event.
func (g *Gate) decide(ctx context.Context, e fanotify.Event, since time.Time) {
	defer func() { <-g.places }()
	ctx, cancel := context.WithTimeoutCause(ctx, g.c.Deadline, errDeadline)
	defer cancel()
	apps := g.owners(e, since)
	if len(apps) == 0 {
		g.answer(e, true)
		unix.Close(e.FD)
		return
	}
	done := g.turn(ctx, apps[0].app)
	if done == nil {
		g.answer(e, g.without(ctx, apps, pathOf(e.FD), context.Cause(ctx)))
		unix.Close(e.FD)
		return
	}
	defer func() { <-g.deciding }()
	verdict, answered := make(chan bool, 1), make(chan struct{})
	defer close(answered)
	late := false // set before answered is closed
	go func() {   // which may call a file system that does not answer
		defer done()
		x, start := g.verdict(ctx, e, apps)
		verdict <- start
		<-answered // the kernel names an event by its descriptor, which must stay until then
		if g.contents.answered(x); x.lease == nil || x.lease.fd != e.FD {
			unix.Close(e.FD)
		}
		if late {
			g.stuck.Add(-1)
		}
	}()
	select {
	case start := <-verdict:
		g.answer(e, start)
	case <-ctx.Done():
		g.answer(e, g.without(ctx, apps, pathOf(e.FD), context.Cause(ctx)))
		late = g.outlives(verdict)
	}
}

// outlives reports whether a decision goes on after its deadline, and counts it then. One that waits for
// the agent ends with the deadline: only what calls a file system can go on.
func (g *Gate) outlives(verdict <-chan bool) bool {
	select {
	case <-verdict:
		return false
	case <-time.After(g.grace):
	}
	if n := g.stuck.Add(1); n > maxStuck {
		g.fail(fmt.Errorf("%d files could not be read: their file systems do not answer", n))
	}
	return true
}

// turns limit the starts of one app that are decided at once: one may wait for a writer for seconds,
// or be of a large file, and users may start programs of their own as quickly as they can.
type turns struct {
	mu  sync.Mutex
	all map[string]chan struct{} // by app; those of the rules, which are bounded
}

func (t *turns) of(app string) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = make(map[string]chan struct{})
	}
	if t.all[app] == nil {
		t.all[app] = make(chan struct{}, maxOfApp)
	}
	return t.all[app]
}

// turn waits until one more start of an app may be decided, and returns what ends that; nil if ctx
// ended before. The caller gives the place in deciding back itself.
func (g *Gate) turn(ctx context.Context, app string) (done func()) {
	turn := g.turns.of(app)
	if !take(ctx, turn) {
		return nil
	}
	if !take(ctx, g.deciding) {
		<-turn
		return nil
	}
	return func() { <-turn }
}

// take reports whether there was a place before the end of ctx.
func take(ctx context.Context, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (g *Gate) answer(e fanotify.Event, start bool) {
	if err := g.group.Answer(e, start); err != nil {
		g.c.Log.Warn("the kernel did not take an answer", "error", err)
	}
}

// errDeadline is why a decision was cut off.
var errDeadline = errors.New("no answer in time")

// without decides without an answer: what is enforced does not start, and the rest is a gap.
func (g *Gate) without(ctx context.Context, apps []owner, path string, why error) (start bool) {
	start = true
	for _, a := range apps {
		start = start && !a.enforce
	}
	if !start {
		g.c.Log.Warn("a program does not start, since the gate could not decide", "path", shown(path), "error", why)
		return false
	}
	if errors.Is(why, context.Canceled) || ctx.Err() != nil && !errors.Is(context.Cause(ctx), errDeadline) {
		return true // the gate ends, and the agent sees that
	}
	for _, a := range apps {
		g.c.Log.Warn("a program starts without a record", "app", a.app, "path", shown(path), "error", why)
		g.link.gap(a.app, fmt.Sprintf("%s started, and the gate could not say what it is: %v", shown(path), why))
	}
	return true
}

// verdict says whether a program may start, and what its content is.
func (g *Gate) verdict(ctx context.Context, e fanotify.Event, apps []owner) (x content, start bool) {
	path := pathOf(e.FD)
	x, err := g.contents.find(ctx, e.FD)
	if errors.Is(err, fanotify.ErrWritten) {
		g.c.Log.Warn("a program does not start, since it is open for writing", "path", shown(path))
		return x, false
	}
	if err != nil {
		return content{}, g.without(ctx, apps, path, err)
	}
	for _, a := range apps {
		ok, err := g.link.may(ctx, a, shown(path), x.digest, e.PID)
		if err != nil {
			return x, g.without(ctx, []owner{a}, path, err)
		}
		if !ok {
			g.c.Log.Warn("a program does not start, since the manifest does not list it", "app", a.app, "path", shown(path), "digest", x.digest.String())
			return x, false
		}
	}
	return x, true
}
