// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/internal/turn"
)

// gapWatching is the reason of gap events, which concern every app.
const gapWatching = "changes of files cannot be watched: every app is looked at every 30 s instead"

// gapsOwed is the name of the owed gaps in the schedule, which no app has.
const gapsOwed = ""

// Run follows the files of all apps until ctx ends, which is not an error: it watches,
// measures what changed, and looks at everything now and then. When watching
// fails, that is recorded as a gap and logged; Run looks at
// everything more often instead and tries to watch again.
func (a *Apps) Run(ctx context.Context) error {
	var measuring sync.WaitGroup
	measuring.Go(func() { a.measurePending(ctx) })
	measuring.Go(func() { a.keepHandover(ctx) })
	defer measuring.Wait()
	for first := true; ctx.Err() == nil; first = false {
		w, err := a.config.NewWatcher()
		a.startQueues(ctx, w, err)
		a.mu.Lock()
		for _, x := range a.apps {
			x.told.restart(x.events)
		}
		a.mu.Unlock()
		if first {
			a.orderAll() // it is part of the start
		} else {
			a.touchAll(0)
		}
		if err == nil {
			looking, stop := context.WithCancel(ctx)
			measuring.Go(func() { a.lookAround(looking) })
			err = a.watch(ctx, &a.follow.shared, w)
			stop()
			if ctx.Err() != nil {
				err = nil
			}
			a.startQueues(ctx, nil, err)
			go w.Close() // a file system can keep it from ending; nothing to be done about an error
		}
		select {
		case <-time.After(fallbackRescan):
		case <-ctx.Done():
		}
	}
	return nil
}

// watch passes on what the watcher of a queue reports until ctx ends or it does.
func (a *Apps) watch(ctx context.Context, f *follower, w Watcher) error {
	events, errs := w.Events(), w.Errors()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-events:
			if !ok {
				return errors.New("inotify ended by itself")
			}
			if e.Synced != nil {
				close(e.Synced)
				continue
			}
			a.touched(e, f.dependents(e))
		case err := <-errs:
			// Whatever it was, events may be missing.
			a.missed(f.lost(), err)
		}
	}
}

// lookAround looks at everything now and then until ctx ends.
func (a *Apps) lookAround(ctx context.Context) {
	rescan, fallback := time.Tick(a.config.Rescan), time.Tick(fallbackRescan)
	for {
		select {
		case <-ctx.Done():
			return
		case <-fallback:
			if a.follow.state() != nil {
				a.touchAll(0)
			}
		case <-rescan:
			a.touchAll(0)
		}
	}
}

// touched measures apps for whose files the watching reported a change, when they have been quiet
// for a while.
func (a *Apps) touched(e Event, names []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range names {
		if x := a.apps[name]; x != nil {
			x.events++
			x.told.add(e, x.events)
		}
		a.pending.touch(name, time.Now(), a.config.Debounce)
	}
}

// missed notes that events of apps were lost, and has these measured again: what was there
// meanwhile is known only if nothing can have changed (see news).
func (a *Apps) missed(names []string, err error) {
	a.log.Warn("events of files were lost", "apps", names, "error", err)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range names {
		if x := a.apps[name]; x != nil {
			x.events++
			x.lost = x.events
		}
		a.pending.touch(name, time.Now(), a.config.Debounce)
	}
}

// touchAll measures every app when quiet has passed.
func (a *Apps) touchAll(quiet time.Duration) {
	a.mu.Lock()
	names := slices.Collect(maps.Keys(a.apps))
	a.mu.Unlock()
	for _, name := range names {
		a.pending.touch(name, time.Now(), quiet)
	}
}

// measurePending has what is due measured, each app by itself. Cached digests serve for all
// files that have not changed.
func (a *Apps) measurePending(ctx context.Context) {
	for ctx.Err() == nil {
		names, wait := a.pending.take(time.Now())
		for _, name := range names {
			if name == gapsOwed {
				a.payGaps(ctx)
				continue
			}
			_, _ = a.order(name, want{class: turn.Inquiry}) // its end is logged and kept as the app's status
		}
		if len(names) == 0 {
			a.pending.sleep(ctx, wait)
		}
	}
}

// Turn waits for the turn of ctx to hash another piece of a file.
func (a *Apps) Turn(ctx context.Context) (leave func(), err error) { return a.reader.Turn(ctx) }

// Turns returns what the queue of hashing counts.
func (a *Apps) Turns() turn.Stats { return a.reader.Turns() }

// Watching returns nil while changes of files are noticed as they happen. The error says why
// they are found by looking at everything now and then instead.
func (a *Apps) Watching() error { return a.follow.state() }

// checkWatching owes a gap when watching does not work and did before. If that is so of some apps
// alone, what they were meanwhile is known only if nothing can have changed. A user who can have
// one directory refuse to be watched so ends the coverage of no other app.
func (a *Apps) checkWatching() {
	some := a.follow.state()
	var err, why error
	if some != nil {
		err = a.follow.common()
	}
	fails := err != nil && !errors.Is(err, errNotStarted)
	var alone []string
	a.mu.Lock()
	before := a.degraded
	a.degraded = fails
	for _, name := range slices.Sorted(maps.Keys(a.apps)) {
		x, own := a.apps[name], some
		if own != nil {
			own = a.follow.stateFor(name)
		}
		if own != nil && !x.unwatched && err == nil {
			alone, why = append(alone, name), own
		}
		x.unwatched = own != nil
	}
	a.mu.Unlock()
	if fails && !before {
		a.log.Warn("files of apps are not watched", "error", err)
		a.owe(gapWatching)
	}
	if len(alone) > 0 {
		a.missed(alone, why)
	}
}

// owe records a gap soon, once for each reason even if it is owed several times meanwhile.
func (a *Apps) owe(reason string) {
	a.mu.Lock()
	a.owed[reason] = true
	a.mu.Unlock()
	a.pending.touch(gapsOwed, time.Now(), 0)
}

// payGaps records the gaps that are owed, later if there were too many: an attacker who can
// make the queue overflow must not fill the log with gaps.
func (a *Apps) payGaps(ctx context.Context) {
	a.mu.Lock()
	reasons := slices.Sorted(maps.Keys(a.owed))
	a.mu.Unlock()
	for _, reason := range reasons {
		now := time.Now()
		if wait := a.gaps.wait(now); wait > 0 {
			a.pending.hold(gapsOwed, now.Add(wait))
			return
		}
		a.mu.Lock()
		delete(a.owed, reason)
		a.mu.Unlock()
		if err := a.appendGap(ctx, reason); err != nil && ctx.Err() == nil {
			a.mu.Lock()
			a.owed[reason] = true
			a.mu.Unlock()
			a.pending.hold(gapsOwed, now.Add(retryAfterFailure))
			return
		}
		a.gaps.spend(now)
	}
}
