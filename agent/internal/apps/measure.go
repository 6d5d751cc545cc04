// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/internal/boottime"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/turn"
	"github.com/cvm-agentd/agentd/pcr"
)

// Measure hashes every file of app name anew, without any cached digest, and
// returns when the log says what was found. The error says why the app is not
// measured: [ErrUnknownApp], a [*declaration.Error], [*manifest.FileError] or [*manifest.ChangedError]
// for what was found, a [*RateError] or [*RecordError] if it is not in the log.
// An unchanged app adds nothing to the log. If ctx ends first, the reading goes on.
//
// Measure returns when the clock of start times has passed the tick in which the log last said
// something of the app. So a process that starts afterwards is seen to have started later.
func (a *Apps) Measure(ctx context.Context, name string) (Status, error) {
	s, err := a.measure(ctx, name, want{fresh: true, asked: true, class: turn.From(ctx).Class})
	if err != nil {
		return s, err
	}
	for boottime.Now()/boottime.Tick <= s.at/boottime.Tick {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return Status{}, fmt.Errorf("measure %s: %w", name, ctx.Err())
		}
	}
	return s, nil
}

// finding is the result of one reading of an app.
type finding struct {
	declaration *declaration.Declaration // that was followed; nil if it was refused
	manifest.Reading
	err        error            // why none was read
	asked      bool             // by an administrator, a unit that starts, or the start of the agent
	cached     bool             // known digests served
	generation uint64           // of the watching that was in place before
	events     uint64           // changes that the watching had reported before
	hashed     uint64           // bytes, of all attempts
	watches    map[string]Watch // of the directories that were looked at
}

// measure has an app read, and waits for it.
func (a *Apps) measure(ctx context.Context, name string, w want) (Status, error) {
	if err := ctx.Err(); err != nil {
		return Status{}, fmt.Errorf("measure %s: %w", name, err)
	}
	r, err := a.order(name, w)
	if err != nil {
		return Status{}, err
	}
	return r.wait(ctx, name)
}

// Settle measures app if the watching told of a change that no reading has followed up yet, or
// cannot tell of all. Otherwise a program that is swapped, started and put back could state that
// it is covered before the log says what happened. If nothing was found of app yet, Settle waits
// for its first reading. If ctx ends first, its caller must claim nothing.
func (a *Apps) Settle(ctx context.Context, app string) {
	works := a.follow.works(app)
	a.mu.Lock()
	x := a.apps[app]
	owes := x != nil && x.measured && (works == 0 || works != x.generation || x.events != x.handled)
	var first *reading
	if x != nil && !x.looked {
		first = x.run
	}
	a.mu.Unlock()
	switch {
	case owes:
		_, _ = a.measure(ctx, app, want{class: turn.From(ctx).Class}) // logged and kept as the app's status
	case first != nil:
		_, _ = first.wait(ctx, app)
	}
}

// lookedAt notes that a reading of x lacked neither descriptors nor memory.
func (a *Apps) lookedAt(x *app) {
	a.mu.Lock()
	defer a.mu.Unlock()
	x.short = time.Time{}
}

// notLooked notes that an app could not be read, without a claim about it, and schedules a
// retry. It reports whether the log has to say so: a change that it does not list may be there
// for a while by now. A server of files can answer that memory is short as often as it likes.
func (a *Apps) notLooked(x *app, err error) (tell bool, told error) {
	told = fmt.Errorf("measure %s: the agent is short of descriptors or memory, and tries again: %w", x.name, err)
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if x.whyNot != told.Error() {
		a.log.Warn("app could not be looked at", "app", x.name, "error", told)
	}
	if x.short.IsZero() {
		x.short = now
	}
	tell = x.cover.open && now.Sub(x.short) >= retryAfterFailure && !a.calm(x)
	x.unmeasured(told.Error())
	x.looked = true
	a.pending.retry(x.name, now.Add(retryAfterFailure))
	return tell, told
}

// calm reports whether the watching told of no change of x since the last reading, and would
// have. The caller holds mu.
func (a *Apps) calm(x *app) bool {
	return x.generation != 0 && x.generation == a.follow.works(x.name) && x.events == x.handled
}

// conclude makes the log and the state of the app say what was found. It reports
// false when the app was declared anew meanwhile.
func (a *Apps) conclude(ctx context.Context, x *app, f finding) (bool, error) {
	if err := a.record.Acquire(ctx, 1); err != nil {
		return true, err
	}
	defer a.record.Release(1)
	app := f.event()
	now := time.Now()

	a.mu.Lock()
	if x.removed {
		if a.apps[x.name] == nil { // and not declared anew
			a.follow.forget(x.name)
		}
		a.mu.Unlock()
		return true, fmt.Errorf("measure %q: %w", x.name, ErrUnknownApp)
	}
	if !x.follows(f) {
		a.mu.Unlock()
		return false, nil
	}
	x.looked = true
	event := a.news(x, f, app)
	if event == nil {
		a.apply(x, f, true)
		a.mu.Unlock()
		return true, f.err
	}
	if wait := x.throttle.wait(now); wait > 0 && !x.free(event) {
		a.mu.Unlock()
		return true, a.holdBack(ctx, x, now, wait)
	}
	charged := !x.free(event)
	a.mu.Unlock()

	number, err := a.write(ctx, x, *event)

	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.pending.retry(x.name, now.Add(retryAfterFailure))
		return true, err
	}
	if charged {
		x.throttle.spend(now)
	}
	if f.err == nil && event.Unmeasured != nil {
		a.log.Warn("coverage of app is interrupted", "app", x.name, "reason", event.Unmeasured.Reason, "record", number)
		return false, nil // and now the coverage that begins
	}
	a.apply(x, f, false)
	switch {
	case f.err != nil:
		a.log.Warn("app is not measured", "app", x.name, "reason", f.err, "record", number)
	case event.Same != nil:
		a.log.Info("app is as before", "app", x.name, "carried", event.Same.Carried, "reason", event.Same.Reason, "record", number)
	default:
		a.log.Info("app is measured", "app", x.name, "digest", app.Digest.String(), "files", len(f.Manifest), "record", number)
	}
	return true, f.err
}

// follows reports whether f was found by the declaration of x, and answers what is asked now.
func (x *app) follows(f finding) bool {
	if !sameDeclaration(x.declaration, f.declaration) || f.declaration == nil && f.err != x.refused {
		return false
	}
	return f.err != nil || !f.cached || x.cover.open
}

// news returns what the log does not say yet, nil if it says all. App is what was found. The
// caller holds mu.
func (a *Apps) news(x *app, f finding, app *pcr.AppEvent) *pcr.Event {
	c := &x.cover
	switch {
	case f.err != nil:
		reason := text.Fit(f.err.Error(), pcr.MaxReason)
		if c.known && c.reason == reason {
			return nil
		}
		return unmeasuredEvent(x.name, reason)
	case c.last == nil || *c.last != outcomeOf(app):
		if c.open && c.last != nil && c.last.declaration == app.Declaration {
			if err := x.noticed(f); err != nil {
				return unmeasuredEvent(x.name, text.Fit(forAMoment+err.Error(), pcr.MaxReason))
			}
		}
		return &pcr.Event{Type: pcr.EventApp, App: app}
	case !c.open:
		carried, why := a.carry(x, f)
		return &pcr.Event{Type: pcr.EventSame, Same: &pcr.SameEvent{App: x.name, Declaration: app.Declaration, Digest: app.Digest, Carried: carried, Reason: why}}
	}
	if err := a.interrupted(x, f); err != nil {
		return unmeasuredEvent(x.name, text.Fit(forAMoment+err.Error(), pcr.MaxReason))
	}
	return nil
}

// forAMoment begins the reason of a record if content may have been there that no record lists.
const forAMoment = "what ran for a moment is not known: "

func unmeasuredEvent(app, reason string) *pcr.Event {
	return &pcr.Event{Type: pcr.EventUnmeasured, Unmeasured: &pcr.UnmeasuredEvent{App: app, Reason: reason}}
}

// interrupted returns why other content than that of f may have been there for a moment since
// the last reading, which found the same, and nil if it was not. The watching tells of a name
// that changes, but not what it led to. What it did not tell of did not happen, unless events
// were lost: then only files that cannot have changed show that. The caller holds mu.
func (a *Apps) interrupted(x *app, f finding) error {
	if x.lost > x.handled {
		if err := x.unchanged(x.trace, f); err != nil {
			return fmt.Errorf("%w, and %w", errLost, err)
		}
		return nil
	}
	if x.trace == nil {
		return nil
	}
	if f.generation == 0 || f.generation != x.generation {
		return f.Trace.Since(x.trace)
	}
	if x.events != x.handled {
		return f.Trace.FilesSince(x.trace)
	}
	return f.Trace.SameFiles(x.trace)
}

// free reports whether the limit of records does not count event: what follows a gap or a start
// is limited with these.
func (x *app) free(event *pcr.Event) bool { return event.Same != nil && x.cover.carriable }

// write records an event about x, and makes the state of the app follow.
func (a *Apps) write(ctx context.Context, x *app, event pcr.Event) (number uint64, err error) {
	rec, err := a.append(ctx, event)
	var told *pcr.Event
	if err == nil {
		told, err = rec.Event() // with its time
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.change()
	if err != nil {
		err = &RecordError{App: x.name, Err: err}
		x.cover.doubt() // whether the log took it is not known, so the next finding is recorded in any case
		if x.whyNot != err.Error() {
			a.log.Warn("app is not recorded", "app", x.name, "error", err)
		}
		x.unmeasured(err.Error())
		return 0, err
	}
	x.cover.follow(rec.Number, told)
	if !x.cover.open {
		x.unmeasured(x.cover.reason)
	}
	return rec.Number, nil
}

// apply makes what was found, and is in the log, the state of the app. Known says that the last
// reading found the same, and coverage was not interrupted since. The caller holds mu.
func (a *Apps) apply(x *app, f finding, known bool) {
	defer a.change()
	if f.err != nil {
		x.unmeasured(f.err.Error())
		if _, changed := errors.AsType[*manifest.ChangedError](f.err); changed {
			a.pending.retry(x.name, time.Now().Add(retryAfterChanging))
		}
		return
	}
	if wait := x.keep(f, known, time.Now()); wait > 0 {
		a.pending.retry(x.name, time.Now().Add(wait))
	}
	x.measured, x.whyNot, x.held = true, "", time.Time{}
	if a.pending.release(x.name) && x.events != x.handled {
		a.pending.touch(x.name, time.Now(), a.config.Debounce)
	}
	x.digest, x.files, x.bytes, x.size = x.cover.last.digest, len(f.Manifest), f.Bytes, f.Bytes
	x.interpreter = pcr.Interpreter(f.Manifest)
	x.executables, x.paths, x.located = make(map[evidence.Digest]bool), nil, true
	for _, e := range f.Manifest {
		if e.Mode&modeType == modeRegular && e.Mode&modeExecute != 0 {
			x.executables[e.Digest] = true
		}
		if x.asksGate() && e.Mode&modeType == modeRegular {
			x.paths = append(x.paths, e.Path)
		}
	}
	if f.asked || x.pinned == nil {
		x.pinned = x.executables
	}
	if x.asksGate() && !known {
		a.gateChange()
	}
}

// keep takes the trace of f for that of the app. It returns after which time another reading can
// tell more, and 0 if none can.
func (x *app) keep(f finding, known bool, now time.Time) (wait time.Duration) {
	told := f.generation == 0 || f.generation != x.generation || f.events != x.handled
	x.handled = f.events
	x.told.forget(f.events)
	if known && x.trace != nil && !told && f.Trace.Since(x.trace) != nil {
		// Only directories differ. The watching says that no name in them that matters was
		// changed, unless its event is on the way.
		if x.doubted.IsZero() {
			x.doubted = now
		}
		if left := eventPatience - now.Sub(x.doubted); left > 0 {
			return left
		}
		x.renewed = now
	}
	x.generation, x.doubted = f.generation, time.Time{}
	wait, unsettled := f.Trace.Settled()
	if known && unsettled != nil && x.trace != nil && f.Trace.Since(x.trace) == nil {
		if _, err := x.trace.Settled(); err == nil {
			return 0 // the one before tells more, and as much
		}
	}
	x.trace = f.Trace
	return max(wait, renewedPatience-now.Sub(x.renewed), 0) // for the hand-over
}

// recording returns the context in which an event is recorded. It does not end with ctx, whose
// caller may leave: an event that is half in the log is worse than a late answer.
func recording(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
}

// append records an event.
func (a *Apps) append(ctx context.Context, e pcr.Event) (pcr.Record, error) {
	ctx, cancel := recording(ctx)
	defer cancel()
	r, err := a.config.Recorder.Append(ctx, e)
	a.tookNothing(err)
	return r, err
}

// appendGap records a gap, which ends the coverage of every app, and has all measured again.
func (a *Apps) appendGap(ctx context.Context, reason string) error {
	if err := a.record.Acquire(ctx, 1); err != nil {
		return err
	}
	defer a.record.Release(1)
	_, err := a.append(ctx, pcr.Event{Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: text.Fit(reason, pcr.MaxReason)}})
	if err != nil {
		a.log.Warn("gap is not recorded", "reason", reason, "error", err)
	}
	a.mu.Lock()
	if err == nil {
		a.interruptAll(endedGap, true)
	} else {
		a.doubtAll()
	}
	a.mu.Unlock()
	a.change()
	a.touchAll(0)
	return err
}

// event returns what was found as the log records it, nil if nothing was. A manifest that no
// record can contain becomes a finding without one.
func (f *finding) event() *pcr.AppEvent {
	if f.err != nil {
		return nil
	}
	var e *pcr.AppEvent
	e, f.err = manifest.Event(f.declaration, f.Manifest)
	return e
}

// Bits of st_mode (inode(7)).
const (
	modeType    = 0o170000
	modeRegular = 0o100000
	modeExecute = 0o000111
)
