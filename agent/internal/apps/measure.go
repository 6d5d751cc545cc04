// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/pcr"
)

// Measure hashes every file of app name anew, without any cached digest, and
// returns when the log says what was found. The error says why the app is not
// measured: [ErrUnknownApp], a [*declaration.Error], [*manifest.FileError] or [*manifest.ChangedError]
// for what was found, a [*RateError] or [*RecordError] if it is not in the log.
// An unchanged app adds nothing to the log. If ctx ends first, nothing is claimed or taken
// back.
func (a *Apps) Measure(ctx context.Context, name string) (Status, error) {
	return a.measure(ctx, name, false)
}

// finding is the result of one reading of an app.
type finding struct {
	declaration *declaration.Declaration // that was followed; nil if it was refused
	manifest    []pcr.ManifestEntry
	bytes       uint64
	err         error // why there is no manifest
}

// measure does what Measure does; with cached, known digests serve for files that have not
// changed.
func (a *Apps) measure(ctx context.Context, name string, cached bool) (Status, error) {
	a.mu.Lock()
	x := a.apps[name]
	a.mu.Unlock()
	if x == nil {
		return Status{}, fmt.Errorf("measure %q: %w", name, ErrUnknownApp)
	}
	if err := x.busy.Acquire(ctx, 1); err != nil {
		return Status{}, err
	}
	defer x.busy.Release(1)
	for {
		f := a.find(ctx, x, cached)
		if err := ctx.Err(); err != nil {
			// A caller that hangs up must not hide what changed.
			a.pending.touch(name, time.Now(), a.config.Debounce)
			return Status{}, fmt.Errorf("measure %s: %w", name, err)
		}
		if outOfResources(f.err) {
			return Status{}, a.notLooked(x, f.err)
		}
		done, err := a.conclude(ctx, x, f)
		if !done { // a reload came between
			continue
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		return x.status(), err
	}
}

// outOfResources reports whether the agent lacked descriptors or memory: that says nothing about the
// app.
func outOfResources(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// notLooked records that an app could not be read, without a claim about it, and schedules
// a retry.
func (a *Apps) notLooked(x *app, err error) error {
	err = fmt.Errorf("measure %s: the agent is short of descriptors or memory, and tries again: %w", x.name, err)
	a.mu.Lock()
	defer a.mu.Unlock()
	if x.whyNot != err.Error() {
		a.log.Warn("app could not be looked at", "app", x.name, "error", err)
	}
	x.unmeasured(err.Error())
	a.pending.retry(x.name, time.Now().Add(retryAfterFailure))
	return err
}

// find reads the app by its declaration of this moment.
func (a *Apps) find(ctx context.Context, x *app, cached bool) finding {
	a.mu.Lock()
	d, refused, removed := x.declaration, x.refused, x.removed
	a.mu.Unlock()
	switch {
	case removed:
		return finding{err: ErrUnknownApp}
	case d == nil:
		return finding{err: refused}
	}
	f := finding{declaration: d}
	for attempt := 1; ; attempt++ {
		sighting := a.follow.begin(d.Name)
		f.manifest, f.bytes, f.err = a.reader.Read(ctx, d, cached, sighting.see)
		sighting.commit(ctx.Err() == nil)
		if _, changed := errors.AsType[*manifest.ChangedError](f.err); !changed || attempt == maxAttempts {
			return f
		}
	}
}

// conclude makes the log and the state of the app say what was found. It reports
// false when the app was declared anew meanwhile.
func (a *Apps) conclude(ctx context.Context, x *app, f finding) (bool, error) {
	if err := a.record.Acquire(ctx, 1); err != nil {
		return true, err
	}
	defer a.record.Release(1)
	event, says := f.event(x.name)
	now := time.Now()

	a.mu.Lock()
	if x.removed {
		declaredAnew := a.apps[x.name] != nil
		a.mu.Unlock()
		if !declaredAnew {
			a.follow.forget(x.name)
		}
		return true, fmt.Errorf("measure %q: %w", x.name, ErrUnknownApp)
	}
	if x.declaration != f.declaration {
		a.mu.Unlock()
		return false, nil
	}
	if says.same(x.last) {
		says.number = x.last.number
		a.apply(x, f, says)
		a.mu.Unlock()
		return true, f.err
	}
	if wait := x.throttle.wait(now); wait > 0 {
		a.mu.Unlock()
		return true, a.holdBack(ctx, x, now, wait)
	}
	a.mu.Unlock()

	rec, err := a.append(ctx, event)

	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		// Whether the log took it is not known, so the next finding is recorded in any case.
		err = &RecordError{App: x.name, Err: err}
		if x.last = nil; x.whyNot != err.Error() {
			a.log.Warn("app is not recorded", "app", x.name, "error", err)
		}
		x.unmeasured(err.Error())
		a.pending.retry(x.name, now.Add(retryAfterFailure))
		return true, err
	}
	x.throttle.spend(now)
	says.number = rec.Number
	a.apply(x, f, says)
	if f.err != nil {
		a.log.Warn("app is not measured", "app", x.name, "reason", f.err, "record", rec.Number)
	} else {
		a.log.Info("app is measured", "app", x.name, "digest", says.digest, "files", len(f.manifest), "record", rec.Number)
	}
	return true, f.err
}

// apply makes what was found, and is in the log, the state of the app.
func (a *Apps) apply(x *app, f finding, says outcome) {
	x.last = &says
	if f.err != nil {
		x.unmeasured(f.err.Error())
		if _, changed := errors.AsType[*manifest.ChangedError](f.err); changed {
			a.pending.retry(x.name, time.Now().Add(retryAfterChanging))
		}
		return
	}
	x.measured, x.whyNot = true, ""
	x.digest, x.files, x.bytes = says.digest, len(f.manifest), f.bytes
	x.executables = make(map[evidence.Digest]bool)
	for _, e := range f.manifest {
		if e.Mode&modeType == modeRegular && e.Mode&modeExecute != 0 {
			x.executables[e.Digest] = true
		}
	}
}

// holdBack takes back what is claimed of an app that changes too often, records once that
// changes are not followed, and measures it when the log may take it.
func (a *Apps) holdBack(ctx context.Context, x *app, now time.Time, wait time.Duration) error {
	err := &RateError{App: x.name, Retry: wait}
	a.mu.Lock()
	x.unmeasured("changed too often: the log takes its next measurement later")
	tell := !x.throttle.told
	x.throttle.told = true
	a.mu.Unlock()
	a.pending.hold(x.name, now.Add(wait))
	if !tell {
		return err
	}
	a.log.Warn("app changes too often", "app", x.name, "retry", wait)
	reason := "app " + x.name + " changes more often than the log takes: changes go unrecorded until its next record"
	if gapErr := a.appendGap(ctx, reason); gapErr != nil {
		a.mu.Lock()
		x.throttle.told = false
		a.mu.Unlock()
	}
	return err
}

// append records an event. It does not end with ctx, whose caller may leave: an event that is
// half in the log is worse than a late answer.
func (a *Apps) append(ctx context.Context, e pcr.Event) (pcr.Record, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	return a.config.Recorder.Append(ctx, e)
}

func (a *Apps) appendGap(ctx context.Context, reason string) error {
	_, err := a.append(ctx, pcr.Event{Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: text.Fit(reason, pcr.MaxReason)}})
	if err != nil {
		a.log.Warn("gap is not recorded", "reason", reason, "error", err)
	}
	return err
}

// event returns the event that records f, and what the log says of the app from then on. A
// manifest that no record can contain becomes a finding without one.
func (f *finding) event(name string) (pcr.Event, outcome) {
	if f.err == nil {
		var e *pcr.AppEvent
		if e, f.err = manifest.Event(f.declaration, f.manifest); f.err == nil {
			return pcr.Event{Type: pcr.EventApp, App: e}, outcome{declaration: e.Declaration, digest: e.Digest, uid: *e.UID}
		}
	}
	reason := text.Fit(f.err.Error(), pcr.MaxReason)
	e := pcr.Event{Type: pcr.EventUnmeasured, Unmeasured: &pcr.UnmeasuredEvent{App: name, Reason: reason}}
	return e, outcome{reason: reason}
}

// Bits of st_mode (inode(7)).
const (
	modeType    = 0o170000
	modeRegular = 0o100000
	modeExecute = 0o000111
)
