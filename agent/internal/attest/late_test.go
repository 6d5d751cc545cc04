// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
)

// outcomeOf is the result of an Attest that runs during the test.
type outcomeOf struct {
	document [][]byte
	err      error
}

func (r *rig) start(ctx context.Context, nonce byte, f evidence.Freshness) <-chan outcomeOf {
	done := make(chan outcomeOf, 1)
	go func() {
		b, err := r.Attest(ctx, request(nonce, f), caller)
		done <- outcomeOf{b, err}
	}()
	return done
}

// get waits for an answer that must come without anything else happening.
func get(t *testing.T, done <-chan outcomeOf, nonce byte) *evidence.Evidence {
	t.Helper()
	select {
	case o := <-done:
		if o.err != nil {
			t.Fatal(o.err)
		}
		return decode(t, o.document, request(nonce, "").Nonce)
	case <-time.After(2 * time.Minute):
		t.Fatal("no answer")
		return nil
	}
}

// aged is a rig with an anchor that wants renewal, while no report is let through.
func aged(t *testing.T, patience time.Duration) *rig {
	t.Helper()
	r := newRig(t, func(c *Config) { c.AnchorMaxAge, c.AnchorPatience, c.ReportTimeout = time.Minute, patience, time.Hour })
	r.ask(t, request(0, evidence.Fresh))
	<-r.platform.asked
	r.clock.add(2 * time.Minute)
	r.platform.shut()
	return r
}

// A late report stops no caller that asked for anchored evidence, whatever the age of the
// anchor: neither those that came to renew it, nor those that wait after them, nor those that
// come later. Those that asked for a fresh one wait for it. Case 38.
func TestLateRenewalStopsNobody(t *testing.T) {
	r := aged(t, 10*time.Millisecond)
	fresh := r.start(t.Context(), 1, evidence.Fresh)
	<-r.platform.asked // in flight, and not let through
	var waiting []<-chan outcomeOf
	for n := range byte(5) {
		waiting = append(waiting, r.start(t.Context(), 10+n, evidence.Anchored))
	}
	behind := r.start(t.Context(), 2, evidence.Fresh)
	for n, w := range waiting {
		if e := get(t, w, 10+byte(n)); e.Anchor == nil {
			t.Errorf("caller %d has a report of its own batch, and none was let through", n)
		}
	}
	until(t, "the other fresh one waits", func() bool { return r.fresh.length() == 1 })
	for n := range byte(20) {
		if e := get(t, r.start(t.Context(), 20+n, evidence.Anchored), 20+n); e.Anchor == nil {
			t.Error("a later caller does not get the old anchor")
		}
	}
	for _, w := range []<-chan outcomeOf{fresh, behind} {
		select {
		case o := <-w:
			t.Fatalf("a fresh caller was answered without a report: %v", o.err)
		default:
		}
	}
	r.platform.open()
	get(t, fresh, 1)
	last := get(t, behind, 2)
	if e := r.ask(t, request(3, evidence.Anchored)); e.Anchor == nil || e.Anchor.Tree != last.Batch.Tree {
		t.Error("the reports that came late did not renew the anchor")
	}
	if n := r.platform.count(); n != 3 {
		t.Errorf("%d reports were asked for, want 3", n)
	}
}

// A caller that came alone to renew the anchor does not wait for the report either. The report
// renews the anchor nevertheless, and those that wait for it in the same batch get it.
func TestLateRenewalIsKept(t *testing.T) {
	r := aged(t, 10*time.Millisecond)
	renewing := r.start(t.Context(), 1, evidence.Anchored)
	<-r.platform.asked
	if e := get(t, renewing, 1); e.Anchor == nil {
		t.Error("it was answered with a report that was not let through")
	}
	r.platform.open()
	until(t, "the anchor is renewed", func() bool { return r.Stats().Anchor.AgeMilliseconds == 0 })
	if e := r.ask(t, request(2, evidence.Anchored)); e.Anchor == nil {
		t.Error("a report was spent on a caller that can do without")
	}
	if n := r.platform.count(); n != 2 {
		t.Errorf("%d reports were asked for, want 2", n)
	}
	r.clock.add(2 * time.Minute)
	if e := r.ask(t, request(3, evidence.Anchored)); e.Anchor != nil {
		t.Error("one late report, and the anchor is never renewed again")
	}
}

// Callers that wait for a report because there is no young anchor use the anchor that it makes:
// the next report is spent only on those that asked for it.
func TestRenewedAnchorServesWhoWaited(t *testing.T) {
	r := aged(t, time.Hour)
	first := r.start(t.Context(), 1, evidence.Fresh)
	<-r.platform.asked
	// Anchored ones wait too: the report is not late yet.
	var kinds []evidence.Freshness
	var all []<-chan outcomeOf
	for n := range byte(8) {
		f := evidence.Fresh
		if n%2 == 0 {
			f = evidence.Anchored
		}
		kinds = append(kinds, f)
		all = append(all, r.start(t.Context(), 10+n, f))
		until(t, "it waits", func() bool { return r.fresh.length() == int(n)+1 })
	}
	r.platform.open()
	get(t, first, 1)
	for n, w := range all {
		e := get(t, w, 10+byte(n))
		if (e.Anchor != nil) != (kinds[n] == evidence.Anchored) {
			t.Errorf("caller %d asked for %s: anchor %v", n, kinds[n], e.Anchor)
		}
	}
	if n := r.platform.count(); n != 3 {
		t.Errorf("%d reports were asked for, want 3", n)
	}
}

// The same if some leave the batch in flight itself.
func TestLateBatchInFlight(t *testing.T) {
	// Every anchor is too old, so that all wait for a report while there is hope.
	r := newRig(t, func(c *Config) {
		c.AnchorMaxAge, c.AnchorPatience, c.ReportTimeout = -1, 50*time.Millisecond, time.Hour
	})
	r.platform.shut()
	first := r.start(t.Context(), 0, evidence.Fresh)
	<-r.platform.asked
	var all []<-chan outcomeOf
	for n := range byte(6) {
		f := evidence.Fresh
		if n%2 == 0 {
			f = evidence.Anchored
		}
		all = append(all, r.start(t.Context(), 10+n, f))
		until(t, "it waits", func() bool { return r.fresh.length() == int(n)+1 }) // there is no anchor yet
	}
	r.platform.letOne()
	get(t, first, 0)
	for n := 0; n < len(all); n += 2 {
		if e := get(t, all[n], 10+byte(n)); e.Anchor == nil {
			t.Errorf("caller %d waited for a report", n)
		}
	}
	r.platform.open()
	for n := 1; n < len(all); n += 2 {
		if e := get(t, all[n], 10+byte(n)); e.Anchor != nil || e.Batch.Tree.Size != 6 {
			t.Errorf("caller %d: in a batch of %d, anchor %v; want the report of the 6", n, e.Batch.Tree.Size, e.Anchor)
		}
	}
}

// Without an anchor, no caller can do without the report.
func TestLateWithoutAnchor(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AnchorPatience, c.ReportTimeout = time.Millisecond, 50*time.Millisecond })
	r.platform.shut()
	if _, err := r.Attest(t.Context(), request(1, evidence.Anchored), caller); !errors.Is(err, platform.ErrTimedOut) {
		t.Errorf("error %v, want ErrTimedOut", err)
	}
}

// A caller that gave up leaves the lane that it was moved to as well.
func TestGoneAfterMove(t *testing.T) {
	r := newRig(t, func(c *Config) { c.ReportTimeout = time.Hour })
	r.ask(t, request(0, evidence.Fresh))
	<-r.platform.asked
	r.platform.shut()
	r.start(t.Context(), 1, evidence.Fresh)
	<-r.platform.asked
	r.tpm.set(func(f *fakeTPM) { f.resets++ }) // no quote can use the anchor any more
	ctx, cancel := context.WithCancel(t.Context())
	moved := r.start(ctx, 2, evidence.Anchored)
	until(t, "it was moved to the fresh lane", func() bool { return r.fresh.length() == 1 })
	cancel()
	if o := <-moved; !errors.Is(o.err, context.Canceled) {
		t.Errorf("error %v", o.err)
	}
	if r.fresh.length() != 0 || r.fresh.held() != 0 {
		t.Error("a statement that no caller waits for stays in the batch, and a report may be spent on it")
	}
}

// Nor is one put anywhere who gave up while it was on the way.
func TestGoneOnTheWay(t *testing.T) {
	r := newRig(t, nil)
	r.ask(t, request(0, evidence.Fresh))
	r.tpm.mu.Lock()
	defer r.tpm.mu.Unlock()
	r.start(t.Context(), 1, evidence.Anchored)
	until(t, "the first is taken", func() bool { return r.anchored.length() == 0 && r.tpm.waits.Load() == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	stays, moves := r.start(ctx, 2, evidence.Anchored), r.start(ctx, 3, evidence.Anchored)
	until(t, "both wait", func() bool { return r.anchored.length() == 2 })
	r.anchored.mu.Lock()
	moving := r.anchored.waiting[1] // as the lane itself does
	r.anchored.waiting = r.anchored.waiting[:1]
	r.anchored.bytes -= len(moving.statement)
	r.anchored.mu.Unlock()
	cancel()
	<-stays
	<-moves
	if err := r.fresh.add(moving); err != nil || r.fresh.length() != 0 {
		t.Errorf("%d wait in the fresh lane, error %v", r.fresh.length(), err)
	}
	if r.anchored.length() != 0 || r.anchored.held() != 0 {
		t.Error("a statement that no caller waits for stays in the anchored lane")
	}
}
