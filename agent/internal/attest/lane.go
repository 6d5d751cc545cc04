// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/vtpm"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// maxWaitingBytes limits the statements that one lane keeps for callers.
const maxWaitingBytes = 32 << 20

// A waiter is one caller with its statement, waiting for a batch.
type waiter struct {
	request   api.EvidenceRequest
	statement []byte
	leaf      evidence.Digest
	answer    chan outcome // of one; written exactly once by the lane that took the waiter
	trial     bool         // of [Attester.Look]: no caller waits
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
	work func(context.Context) // takes a batch and serves it; called while there are waiters

	mu      sync.Mutex // guards the five below; add, drop, take and stop write them
	waiting []*waiter
	bytes   int
	taken   int    // how many the last batch has
	came    uint64 // how many were added so far
	stopped bool
	wake    chan struct{} // of one: a caller waits
	enough  chan struct{} // of one: as many wait as the last batch has
}

func newLane(name string, limit int, work func(context.Context)) *lane {
	return &lane{name: name, max: limit, work: work, wake: make(chan struct{}, 1), enough: make(chan struct{}, 1)}
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
	l.came++
	signal(l.wake)
	if len(l.waiting) >= l.taken {
		signal(l.enough)
	}
	return nil
}

// signal sends to a channel of one, unless a signal waits in it already.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
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
	l.taken = n
	return taken
}

// A batch takes the TPM and the processors about as long for one waiter as for many. While many
// callers ask again and again, half of them would come just after a batch has begun. So a lane
// waits until they are back, and makes fewer and larger batches.
const (
	crowd     = 16 // waiters of a batch
	gathering = time.Millisecond
	longest   = 3 * gathering // that others wait for a crowd to come in
)

// gather waits after a batch of many until as many wait again, or until none came in one of the moments
// from then on. A slow trickle of callers does not prolong that without end.
func (l *lane) gather() {
	if !l.await() {
		return
	}
	end := time.NewTimer(longest)
	defer end.Stop()
	moment := time.NewTicker(gathering)
	defer moment.Stop()
	for before := l.arrivals(); ; {
		select {
		case <-l.enough:
			return
		case <-end.C:
			return
		case <-moment.C:
		}
		now := l.arrivals()
		if now == before {
			return
		}
		before = now
	}
}

// await has add tell when as many wait as the last batch has. It reports whether to wait for that:
// not after a batch of few, or if so many wait already.
func (l *lane) await() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.enough: // of an earlier time
	default:
	}
	return l.taken >= crowd && len(l.waiting) < l.taken
}

// arrivals returns how many came so far.
func (l *lane) arrivals() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.came
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

// any reports whether a caller waits.
func (l *lane) any() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) > 0
}

// run makes one batch after another until ctx ends. Where batches wait for other work, the
// lanes are two parties.
func (l *lane) run(ctx context.Context) {
	defer l.stop()
	ctx = turn.With(ctx, turn.Who{Class: turn.Evidence, Party: l.name})
	for ctx.Err() == nil {
		if l.any() {
			l.work(ctx)
			l.gather()
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

// errReset is returned if the TPM was reset or resumed since the anchor was made. No quote
// can use that anchor any more, since the clocks cannot be compared.
var errReset = errors.New("TPM was reset or restarted since the anchor was made")

// An anchor is a fresh batch whose report serves later quotes.
type anchor struct {
	snapshot     evidence.Snapshot
	clock        vtpm.Clock
	digest       evidence.Digest
	report       evidence.Report
	certificates []evidence.Bytes
	made         time.Time
}

// digestOrNil returns what the commitments take: the digest, or nil without an anchor.
func (a *anchor) digestOrNil() *evidence.Digest {
	if a == nil {
		return nil
	}
	return &a.digest
}

func (a *Attester) keepAnchor(b *batch) {
	on := &anchor{
		snapshot:     b.snapshot,
		clock:        b.clock,
		digest:       evidence.AnchorDigest(&b.snapshot, b.agentKey, b.ak, b.report.Bytes),
		report:       b.report,
		certificates: b.certificates,
		made:         a.c.Now(),
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.anchor = on
}

func (a *Attester) currentAnchor() *anchor {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.anchor
}

// serves reports whether callers that ask for anchored evidence are served from on: it need
// not be renewed, or the report that would renew it is late. The caller holds mu.
func (a *Attester) serves(on *anchor) bool {
	return on != nil && (a.late || a.c.Now().Sub(on.made) <= a.c.AnchorMaxAge)
}

func (a *Attester) dropAnchor(on *anchor, why error) {
	a.c.Log.Warn("anchor dropped", "reason", why)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.anchor == on {
		a.anchor = nil
	}
}

// moveToFresh lets callers that found no anchor wait for a report instead.
func (a *Attester) moveToFresh(waiters []*waiter) {
	for _, w := range waiters {
		if err := a.fresh.add(w); err != nil {
			w.fail(err)
		}
	}
}

// passOn moves the waiters that asked for anchored evidence to the anchored lane. It returns
// the rest in their places, with nil for each that moved.
func (a *Attester) passOn(waiters []*waiter) []*waiter {
	rest := slices.Clone(waiters)
	for i, w := range waiters {
		if w == nil || w.request.Freshness != evidence.Anchored {
			continue
		}
		rest[i] = nil
		if err := a.anchored.add(w); err != nil {
			w.fail(err)
		}
	}
	return rest
}

// passAnchored moves on the waiters that came to the fresh lane only because there was no
// anchor, if there is one by now: they need no report.
func (a *Attester) passAnchored() {
	a.mu.Lock()
	var able []*waiter
	if a.serves(a.anchor) {
		able = a.fresh.takeAnchored()
	}
	a.mu.Unlock()
	a.passOn(able)
}

// passLate moves on all that can do without the report of f, which is late: those of its
// batch, whose places stay empty, and those that wait in the fresh lane.
func (a *Attester) passLate(f *flight) {
	a.mu.Lock()
	if a.anchor == nil {
		a.mu.Unlock()
		return
	}
	a.late = true
	queued := a.fresh.takeAnchored()
	if len(queued) > 0 {
		f.renewing = queued[0]
	}
	taken := f.waiters
	f.waiters = slices.Clone(taken)
	for i, w := range taken {
		if w != nil && w.request.Freshness == evidence.Anchored {
			queued, f.waiters[i] = append(queued, w), nil
		}
	}
	a.mu.Unlock()
	a.passOn(queued)
}
