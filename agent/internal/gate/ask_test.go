// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/gatewire"
)

// TestWhichListCounts: what is enforced starts by the list that was asked for, and the rest by the list
// in force. What is listed starts at once; what is not, after the app was followed up.
func TestWhichListCounts(t *testing.T) {
	b, p := newGate(t, guardOf("free", false), guardOf("strict", true))
	one, two, three := evidence.Digest{1}, evidence.Digest{2}, evidence.Digest{3}
	var settled atomic.Int32
	b.set(func() {
		b.listed[one], b.listed[two] = true, true
		b.pinned = map[evidence.Digest]bool{one: true}
		b.settle = func(context.Context) { settled.Add(1) }
	})
	for id, c := range []struct {
		app    string
		digest evidence.Digest
		loose  bool
		start  bool
		events int   // records since the begin
		follow int32 // and how often the app was followed up
	}{
		{"unknown", three, false, true, 1, 0}, // its rules are on the way
		{"free", two, false, true, 1, 0},
		{"strict", one, false, true, 1, 0},
		{"strict", two, true, true, 1, 0},
		{"strict", two, false, false, 2, 1},
		{"strict", three, true, true, 3, 2},
		{"strict", three, false, false, 4, 3}, // that it started before does not say that it was refused
		{"strict", three, false, false, 4, 4},
	} {
		if start := p.ask(uint64(id), c.app, c.digest, c.loose); start != c.start || len(b.log()) != c.events || settled.Load() != c.follow {
			t.Errorf("%+v: %t, %d events, followed up %d times", c, start, len(b.log()), settled.Load())
		}
	}
	if c := b.s.Counts(); c.Asked != 8 || c.Recorded != 1 || c.Refused != 2 || c.Gaps != 0 || c.Guarded != 2 || !c.Present {
		t.Errorf("counts %+v", c)
	}
	b.set(func() { b.settle = func(context.Context) { b.set(func() { b.listed[three] = true }) } })
	if start := p.ask(9, "free", three, false); !start || len(b.log()) != 4 {
		t.Errorf("listed by now: %t, %d events", start, len(b.log()))
	}
}

// TestRecordedOncePerManifest: a program that is not listed is recorded again if another manifest is in
// force, which says again that it is not, also if there was none before.
func TestRecordedOncePerManifest(t *testing.T) {
	b, p := newGate(t, guardOf("free", false))
	for i, manifest := range []evidence.Digest{{}, {1}, {2}, {2}} {
		b.set(func() { b.manifest = manifest })
		for range 2 {
			if !p.ask(uint64(i), "free", evidence.Digest{7}, false) {
				t.Error("it does not start")
			}
		}
	}
	if n := len(b.log()); n != 4 {
		t.Errorf("%d records, want the start of the gate and one for each manifest", n)
	}
}

// TestGateLeavesInAQuestion: a question whose gate is gone is not recorded: the gate that comes back
// asks again, and a start that did not happen would be in the log.
func TestGateLeavesInAQuestion(t *testing.T) {
	b, p := newGate(t, guardOf("free", false))
	follows, followed := make(chan struct{}), make(chan struct{})
	b.set(func() {
		b.settle = func(ctx context.Context) { close(follows); <-ctx.Done(); close(followed) }
	})
	p.send(&gatewire.ToAgent{Ask: &gatewire.Ask{ID: 1, App: "free", Path: "/opt/app", Digest: evidence.Digest{7}}})
	<-follows
	b.s.mu.Lock()
	x := b.s.session
	b.s.mu.Unlock()
	p.conn.Close()
	<-followed
	for end := time.Now().Add(long); len(x.asks) > 0; time.Sleep(time.Millisecond) { // until the question is over
		if time.Now().After(end) {
			t.Fatal("the question goes on")
		}
	}
	if err := b.s.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.set(func() { b.settle = nil })
	b.dial(gatewire.Hello{}).guard()
	for _, e := range b.log() {
		if e.Exec != nil {
			t.Errorf("%+v", e.Exec)
		}
	}
}

// TestCountsOfGaps: each gap that is recorded is counted once, and one that says nothing new is not.
func TestCountsOfGaps(t *testing.T) {
	b, p := newGate(t, guardOf("free", false), guardOf("strict", true))
	for n, app := range []string{"free", "free", "unknown", "strict", ""} {
		p.send(&gatewire.ToAgent{Gap: &gatewire.Gap{Number: uint64(n), App: app, Reason: "too slow"}})
		if m := p.read(); m.Noted == nil || m.Noted.Number != uint64(n) {
			t.Fatalf("%+v, want that gap %d is noted", m, n)
		}
		want := []uint64{1, 1, 1, 2, 2}[n] // after both, nothing is guarded
		if c := b.s.Counts(); c.Gaps != want || c.Guarded != []int{1, 1, 1, 0, 0}[n] {
			t.Errorf("after a gap of %q: %+v, want %d gaps", app, c, want)
		}
	}
	if n := len(b.log()); n != 3 {
		t.Errorf("%d records, want the start of the gate and two gaps", n)
	}
}
