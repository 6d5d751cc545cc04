package attest

import (
	"errors"
	"time"

	"github.com/cvm-agentd/agentd/agent/vtpm"
	"github.com/cvm-agentd/agentd/evidence"
)

// errReset: the TPM was reset or resumed since the anchor was made. No quote can
// stand on that anchor any more, since the clocks cannot be compared.
var errReset = errors.New("TPM was reset or restarted since the anchor was made")

// An anchor is a fresh batch whose report later quotes stand on.
type anchor struct {
	snapshot     evidence.Snapshot
	clock        vtpm.Clock
	digest       evidence.Digest
	report       evidence.Report
	certificates []evidence.Bytes
	made         time.Time
}

// digestOrNil is what the commitments take: the digest, or nil where there is no anchor.
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

// usableAnchor reports whether there is an anchor that need not be renewed.
func (a *Attester) usableAnchor() bool {
	on := a.currentAnchor()
	return on != nil && a.c.Now().Sub(on.made) <= a.c.AnchorMaxAge
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

// failFresh answers the callers of a fresh batch that failed. Those who asked for
// anchored evidence and came only to renew an old anchor are served from that one:
// its age is in the evidence, and whether it will do is the verifier's to say.
func (a *Attester) failFresh(waiters []*waiter, err error) {
	var failed, anchored []*waiter
	on := a.currentAnchor()
	for _, w := range waiters {
		if on != nil && w.request.Freshness == evidence.Anchored {
			anchored = append(anchored, w)
		} else {
			failed = append(failed, w)
		}
	}
	for _, w := range anchored {
		if err := a.anchored.add(w); err != nil {
			w.fail(err)
		}
	}
	a.fail(failed, err)
}
