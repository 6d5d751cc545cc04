// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// want is what is asked of a reading.
type want struct {
	fresh bool // hash every file, without any cached digest
	asked bool // by an administrator or a unit that starts: the budget of bytes does not count
	class turn.Class
}

// join makes w what both want.
func (w *want) join(other want) {
	w.fresh, w.asked = w.fresh || other.fresh, w.asked || other.asked
	w.class = max(w.class, other.class)
}

// reading is one reading of an app, which ends with what the log says of it. Apps.mu guards
// its fields, apart from the last ones.
type reading struct {
	want                         // of all who wait for it; only the class changes after it began
	began     time.Time          // zero before
	interrupt context.CancelFunc // has it begin anew; nil before it began
	progress  *manifest.Progress // of the attempt under way; nil before
	done      chan struct{}      // closed by its end

	// Written before done is closed, and not after.
	status Status
	err    error
}

// Progress shows a reading that is under way.
type Progress struct {
	Since time.Time // when it began
	Bytes uint64    // hashed, or known already
	Of    uint64    // bytes of the files found so far, or of the reading before if that was more
	Path  string    // looked at last
	Stuck bool      // the file system of Path does not answer, and nothing waits for it any more
}

// order has an app read, and returns the reading: one that begins after the call.
func (a *Apps) order(name string, w want) (*reading, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	x := a.apps[name]
	if x == nil {
		return nil, fmt.Errorf("measure %q: %w", name, ErrUnknownApp)
	}
	if err := a.ctx.Err(); err != nil {
		return nil, fmt.Errorf("measure %s: the agent ends: %w", name, err)
	}
	if x.run == nil {
		x.next = &reading{want: w, done: make(chan struct{})}
		a.begin(x)
		return x.run, nil
	}
	x.run.class = max(x.run.class, w.class) // it is waited for
	if x.next == nil {
		x.next = &reading{want: w, done: make(chan struct{})}
	}
	x.next.join(w)
	return x.next, nil
}

// begin begins the next reading of x, if there is one, after the last. The caller holds mu.
func (a *Apps) begin(x *app) {
	x.run, x.next = x.next, nil
	if r := x.run; r != nil {
		r.began = time.Now()
		a.readings.Go(func() { a.read(x, r) })
	}
}

// read makes the log say what the files of x are.
func (a *Apps) read(x *app, r *reading) {
	err := a.perform(x, r)
	a.mu.Lock()
	x.run = nil
	r.status, r.err = a.status(x), err
	if a.ctx.Err() == nil {
		a.begin(x)
	} else if x.next != nil { // it will not begin
		x.next.err = err
		close(x.next.done)
		x.next = nil
	}
	a.mu.Unlock()
	close(r.done)
	a.checkWatching()
}

// perform reads x until what was found is concluded.
func (a *Apps) perform(x *app, r *reading) error {
	if over, err := a.overBudget(x, r); over {
		return err
	}
	for {
		f := a.find(x, r)
		if !r.asked {
			a.mu.Lock()
			x.budget.spend(time.Now(), x.size, f.hashed)
			a.mu.Unlock()
		}
		if err := a.ctx.Err(); err != nil {
			return fmt.Errorf("measure %s: the agent ends: %w", x.name, err)
		}
		if errors.Is(f.err, context.Canceled) { // declared anew
			continue
		}
		if durable.Short(f.err) {
			tell, err := a.notLooked(x, f.err)
			if !tell {
				return err
			}
			f.err = err
		} else {
			a.lookedAt(x)
		}
		a.catchUp(x, &f)
		done, err := a.conclude(a.as(x, r), x, f)
		if done {
			return err
		}
		// A reload or a gap came between, or there is more to record.
	}
}

// who returns whose work r is at this moment.
func (a *Apps) who(x *app, r *reading) turn.Who {
	a.mu.Lock()
	defer a.mu.Unlock()
	return turn.Who{Class: r.class, Party: x.name}
}

// as returns the context of the agent, for the work of r.
func (a *Apps) as(x *app, r *reading) context.Context { return turn.With(a.ctx, a.who(x, r)) }

// wait waits for r, at most until ctx ends.
func (r *reading) wait(ctx context.Context, name string) (Status, error) {
	select {
	case <-r.done:
		return r.status, r.err
	default:
	}
	select {
	case <-r.done:
		return r.status, r.err
	case <-ctx.Done():
		return Status{}, fmt.Errorf("measure %s: %w", name, ctx.Err())
	}
}

// find reads the app by its declaration of this moment. The error of the finding is
// [context.Canceled] if that was replaced meanwhile.
func (a *Apps) find(x *app, r *reading) finding {
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	a.mu.Lock()
	r.interrupt = cancel
	d, refused, removed := x.declaration, x.refused, x.removed
	f := finding{declaration: d, asked: r.asked, cached: !r.fresh && x.cover.open, events: x.events}
	hung := a.stuckOn(x)
	a.mu.Unlock()
	switch {
	case removed:
		return finding{err: ErrUnknownApp}
	case d == nil:
		return finding{err: refused}
	case hung != nil:
		f.err = hung
		return f
	}
	f.generation = a.follow.open(x.name)
	end := time.Now().Add(a.config.Timeout)
	for attempt := 1; ; attempt++ {
		p := manifest.NewProgress()
		a.mu.Lock()
		r.progress = p
		a.mu.Unlock()
		sighting := a.follow.begin(d.Name)
		f.Reading, f.err = a.reader.Read(ctx, d, manifest.Look{
			Cached: f.cached, See: sighting.see, Who: func() turn.Who { return a.who(x, r) },
			Progress: p, Answer: a.config.AnswerTimeout, Whole: max(time.Until(end), 1),
		})
		given, hangs := errors.AsType[*manifest.HungError](f.err)
		f.hashed += p.Hashed()
		sighting.commit(ctx.Err() == nil && !hangs)
		f.watches = sighting.dirs
		if a.follow.works(x.name) != f.generation {
			f.generation = 0
		}
		if hangs && given.Within > 0 {
			given.Within = a.config.Timeout
		}
		if hangs || ctx.Err() != nil {
			a.left(x.name, d.Digest, p, given)
		}
		if _, changed := errors.AsType[*manifest.ChangedError](f.err); !changed || attempt == maxAttempts {
			return f
		}
	}
}

// stuck is a reading that was given up, and may still hang in a file system.
type stuck struct {
	declaration evidence.Digest // that it followed
	progress    *manifest.Progress
	since       time.Time
	err         *manifest.HungError // also if it was interrupted, and may end at any moment
	gaveUp      bool                // for that error, and not interrupted
}

// maxStuck is how many readings by one name may hang: with another declaration, the app is
// read once more.
const maxStuck = 2

// left notes that a reading was given up, until it uses no file any more. If it hung, the app
// is measured then.
func (a *Apps) left(app string, d evidence.Digest, p *manifest.Progress, err *manifest.HungError) {
	select {
	case <-p.Ended():
		return
	default:
	}
	s := &stuck{declaration: d, progress: p, since: time.Now(), err: err, gaveUp: err != nil}
	if err == nil {
		_, _, path := p.Now()
		s.err = &manifest.HungError{Path: path}
	}
	a.mu.Lock()
	a.stuck[app] = append(a.stuck[app], s)
	a.mu.Unlock()
	go func() {
		<-p.Ended()
		a.mu.Lock()
		a.stuck[app] = slices.DeleteFunc(a.stuck[app], func(x *stuck) bool { return x == s })
		if len(a.stuck[app]) == 0 {
			delete(a.stuck, app)
		}
		a.mu.Unlock()
		if s.err.Within > 0 { // it was slow: the next look at everything may do better
			return
		}
		if s.gaveUp {
			a.log.Info("the file system of an app answers again", "app", app, "path", s.err.Path)
		}
		a.pending.touch(app, time.Now(), a.config.Debounce)
	}()
}

// stuckOn returns why x cannot be read now, and nil if it can. The caller holds mu.
func (a *Apps) stuckOn(x *app) error {
	all := a.stuck[x.name]
	for _, s := range all {
		if len(all) >= maxStuck || s.gaveUp && x.declaration != nil && s.declaration == x.declaration.Digest {
			return s.err
		}
	}
	return nil
}

// progress returns what is known of the reading of x that is under way, or stuck; nil if none
// is. The caller holds mu.
func (a *Apps) progress(x *app) *Progress {
	switch {
	case x.run != nil && x.run.progress != nil:
		p := &Progress{Since: x.run.began}
		p.Bytes, p.Of, p.Path = x.run.progress.Now()
		p.Of = max(p.Of, x.bytes)
		return p
	case x.run != nil:
		return &Progress{Since: x.run.began}
	}
	for _, s := range a.stuck[x.name] {
		if s.gaveUp && x.declaration != nil && s.declaration == x.declaration.Digest {
			p := &Progress{Since: s.since, Path: s.err.Path, Stuck: true}
			p.Bytes, p.Of, _ = s.progress.Now()
			return p
		}
	}
	return nil
}

// Close ends the readings, and waits until none records anything any more. It does not wait
// for a file system that hangs.
func (a *Apps) Close() {
	a.mu.Lock() // so that none begins any more
	a.cancel()
	a.mu.Unlock()
	a.readings.Wait()
}
