// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// maxWaitingBytes limits the statements that one lane keeps for callers.
const maxWaitingBytes = 32 << 20

// A waiter is one caller with its statement, waiting for a batch.
type waiter struct {
	request   api.EvidenceRequest
	statement []byte
	leaf      evidence.Digest
	answer    chan outcome // of one; written exactly once by the lane that took the waiter
	gone      atomic.Bool  // set by Attest when its caller left: no goroutine waits for the answer
}

// outcome is what a waiter gets: a place in a batch, or the reason why not.
type outcome struct {
	batch *batch
	index uint64
	err   error
}

func (w *waiter) fail(err error) { w.answer <- outcome{err: err} }

// A lane gathers waiters while its one batch is in flight. It is not a semaphore: what waits
// is taken as a batch.
type lane struct {
	name string
	max  int
	work func(context.Context, []*waiter)

	mu      sync.Mutex // guards the three below; add, drop, take and stop write them
	waiting []*waiter
	bytes   int
	stopped bool
	wake    chan struct{} // of one
}

func newLane(name string, limit int, work func(context.Context, []*waiter)) *lane {
	return &lane{name: name, max: limit, work: work, wake: make(chan struct{}, 1)}
}

// add puts w after those that wait already. It goes into the next batch, never into one
// whose root is fixed. A waiter whose caller left is left out.
func (l *lane) add(w *waiter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case w.gone.Load():
		return nil
	case l.stopped:
		return ErrStopping
	case len(l.waiting) >= l.max, l.bytes+len(w.statement) > maxWaitingBytes:
		return ErrOverloaded
	}
	l.waiting = append(l.waiting, w)
	l.bytes += len(w.statement)
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return nil
}

// drop takes w out if it still waits: its caller has left.
func (l *lane) drop(w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, w); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		l.bytes -= len(w.statement)
	}
}

// take removes the waiters of the next batch, oldest first.
func (l *lane) take() []*waiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.waiting), evidence.MaxBatch)
	taken := slices.Clone(l.waiting[:n])
	l.waiting = slices.Delete(l.waiting, 0, n)
	for _, w := range taken {
		l.bytes -= len(w.statement)
	}
	return taken
}

// takeAnchored removes those that asked for anchored evidence, oldest first.
func (l *lane) takeAnchored() (taken []*waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = slices.DeleteFunc(l.waiting, func(w *waiter) bool {
		if w.request.Freshness != evidence.Anchored {
			return false
		}
		taken = append(taken, w)
		l.bytes -= len(w.statement)
		return true
	})
	return taken
}

// run makes one batch after another until ctx ends.
func (l *lane) run(ctx context.Context) {
	defer l.stop()
	for ctx.Err() == nil {
		if batch := l.take(); len(batch) > 0 {
			l.work(ctx, batch)
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		}
	}
}

// stop turns away the waiters, and those that still come.
func (l *lane) stop() {
	l.mu.Lock()
	l.stopped = true
	waiting := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	for _, w := range waiting {
		w.fail(ErrStopping)
	}
}
