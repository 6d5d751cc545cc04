// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"fmt"
	"time"
)

// budget bounds how many bytes of an app are hashed because it changed, without a request. An
// app's user who touches large files all the time would else keep a processor busy. What was
// hashed already counts, so a reading is never cut short: it costs later ones. Apps.mu guards
// it.
type budget struct {
	perMinute uint64
	left      float64 // bytes; below zero after a large reading
	at        time.Time
}

// newBudget returns a budget from which nothing was taken.
func newBudget(perMinute uint64, now time.Time) *budget {
	return &budget{perMinute: perMinute, left: float64(perMinute), at: now}
}

// refill adds what has come in since the last call. Size is that of the app: one whole
// reading is allowed after a pause, however large it is.
func (b *budget) refill(now time.Time, size uint64) {
	b.left += float64(b.perMinute) * now.Sub(b.at).Minutes()
	b.left = min(b.left, float64(max(b.perMinute, size)))
	b.at = now
}

// wait returns how long until an app of that size may be read again; 0 means now.
func (b *budget) wait(now time.Time, size uint64) time.Duration {
	b.refill(now, size)
	if b.left > 0 {
		return 0
	}
	return time.Duration(-b.left/float64(b.perMinute)*float64(time.Minute)) + time.Second
}

// spend counts bytes that were hashed.
func (b *budget) spend(now time.Time, size, bytes uint64) {
	b.refill(now, size)
	b.left -= float64(bytes)
}

// overBudget reports whether the unasked reading r of x has to wait. If it has, and a change
// may have happened, what is claimed of x is taken back: the error says so. Without a word
// from the watching, x stays as it is.
func (a *Apps) overBudget(x *app, r *reading) (over bool, err error) {
	now := time.Now()
	a.mu.Lock()
	wait := x.budget.wait(now, x.size)
	over = !r.asked && wait > 0 && x.declaration != nil && !x.removed
	calm := x.measured && a.calm(x)
	a.mu.Unlock()
	if !over {
		return false, nil
	}
	if calm {
		a.pending.retry(x.name, now.Add(wait))
		return true, nil
	}
	ctx := a.as(x, r)
	if err := a.record.Acquire(ctx, 1); err != nil {
		return true, err
	}
	defer a.record.Release(1)
	a.mu.Lock()
	if x.removed || x.declaration == nil {
		a.mu.Unlock()
		return false, nil // the reading says so
	}
	told := !x.cover.open
	throttled := x.throttle.wait(now)
	x.unmeasured("it changes too often to be hashed again at once")
	x.held = now.Add(wait)
	a.mu.Unlock()
	a.pending.hold(x.name, now.Add(wait))
	err = &RateError{App: x.name, Retry: wait, Hashing: true}
	switch {
	case told:
		return true, err
	case throttled > 0:
		return true, a.holdBack(ctx, x, now, max(wait, throttled))
	}
	a.log.Warn("app changes too often to be hashed again at once", "app", x.name, "retry", wait)
	reason := fmt.Sprintf("it changes more often than %d MiB a minute allow to hash it: changes go unrecorded until its next record", a.config.UnaskedBytes>>20)
	if _, failed := a.write(ctx, x, *unmeasuredEvent(x.name, reason)); failed != nil {
		return true, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	x.throttle.spend(now)
	x.unmeasured("it changes too often to be hashed again at once")
	x.held = now.Add(wait)
	return true, err
}

// holdBack takes back what is claimed of an app that changes too often, records once that its
// changes are not followed, and measures it when the log may take it.
func (a *Apps) holdBack(ctx context.Context, x *app, now time.Time, wait time.Duration) error {
	err := &RateError{App: x.name, Retry: wait}
	a.mu.Lock()
	x.unmeasured("changed too often: the log takes its next measurement later")
	x.held = now.Add(wait)
	tell := !x.throttle.told
	x.throttle.told = true
	a.mu.Unlock()
	a.pending.hold(x.name, now.Add(wait))
	if !tell {
		return err
	}
	a.log.Warn("app changes too often", "app", x.name, "retry", wait)
	reason := "it changes more often than the log takes: changes go unrecorded until its next record"
	_, failed := a.write(ctx, x, *unmeasuredEvent(x.name, reason))
	a.mu.Lock()
	defer a.mu.Unlock()
	if x.held = now.Add(wait); failed != nil {
		x.throttle.told = false
	}
	return err
}
