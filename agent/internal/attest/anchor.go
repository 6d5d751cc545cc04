// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"errors"
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/vtpm"
	"github.com/cvm-agentd/agentd/evidence"
)

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
	s := b.snapshot
	on := &anchor{
		snapshot:     s,
		clock:        b.clock,
		digest:       evidence.AnchorDigest(s.Tree, b.agentKey, b.ak, s.Quote.Attest, s.LogHead, b.report.Bytes),
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
func (a *Attester) passAnchored(waiters []*waiter) []*waiter {
	a.mu.Lock()
	ready := a.serves(a.anchor)
	a.mu.Unlock()
	if !ready {
		return waiters
	}
	return slices.DeleteFunc(a.passOn(waiters), func(w *waiter) bool { return w == nil })
}

// passLate moves on all in the fresh lane that can do without the report under way, which is
// late: those that wait, and those of waiters, the batch in flight. It returns the rest of
// waiters, in their places.
func (a *Attester) passLate(waiters []*waiter) []*waiter {
	a.mu.Lock()
	if a.anchor == nil {
		a.mu.Unlock()
		return waiters
	}
	a.late = true
	queued := a.fresh.takeAnchored()
	a.mu.Unlock()
	a.passOn(queued)
	return a.passOn(waiters)
}
