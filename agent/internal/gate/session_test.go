// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/gatewire"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestGreeting: a gate that does not greet first, or speaks another version, is not served, and leaves
// its place to another one.
func TestGreeting(t *testing.T) {
	b := newBed(t, guardOf("free", false))
	for name, m := range map[string]*gatewire.ToAgent{
		"no greeting":     {Pong: &gatewire.Ping{ID: 1}},
		"another version": {Hello: &gatewire.Hello{Version: gatewire.Version + 1}},
	} {
		conn, err := net.Dial("unix", b.socket)
		if err != nil {
			t.Fatal(err)
		}
		_ = gatewire.Write(conn, m)
		conn.SetReadDeadline(time.Now().Add(long))
		var answer gatewire.ToGate
		if err := gatewire.Read(conn, &answer); err == nil {
			t.Errorf("%s: %+v", name, answer)
		}
		conn.Close()
	}
	p := b.dial(gatewire.Hello{})
	p.guard()
	p.send(&gatewire.ToAgent{Hello: &gatewire.Hello{Version: gatewire.Version}})
	if l := b.wait(2); l[1].GateGap == nil { // one that greets twice is not the gate that it was
		t.Errorf("log %+v", l)
	}
}

// TestPing: a gate that answers leaves no gap, and what it says before is in the log.
func TestPing(t *testing.T) {
	b, p := newGate(t, guardOf("free", false))
	ping, done := p.confirm(context.Background(), b.s)
	p.send(&gatewire.ToAgent{Gap: &gatewire.Gap{Number: 1, App: "free", Reason: "too slow"}})
	p.send(&gatewire.ToAgent{Pong: ping})
	if err := <-done; err != nil {
		t.Error(err)
	}
	if l := b.log(); len(l) != 2 || l[1].GateGap == nil || l[1].GateGap.App != "free" {
		t.Errorf("log %+v", l)
	}
	if m := p.read(); m.Noted == nil || m.Noted.Number != 1 {
		t.Errorf("%+v, want that it is noted", m)
	}
	if !b.s.Counts().Present {
		t.Error("a gate that answers is turned away")
	}
}

// TestGateLeaves: that a gate left is recorded at once, and another one is served then.
func TestGateLeaves(t *testing.T) {
	b, p := newGate(t, guardOf("free", false))
	p.conn.Close()
	if l := b.wait(2); l[1].GateGap == nil || l[1].GateGap.App != "" {
		t.Errorf("log %+v", l)
	}
	if b.s.Counts().Present {
		t.Error("it is there still")
	}
	b.dial(gatewire.Hello{})
}

// TestGateLeavesWhenAsked: evidence does not wait for a gate that left instead of answering.
func TestGateLeavesWhenAsked(t *testing.T) {
	b, p := newGate(t, guardOf("free", false))
	_, done := p.confirm(context.Background(), b.s)
	p.conn.Close()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(long / 2): // of the patience with a gate
		t.Error("it waits")
	}
	if l := b.log(); len(l) != 2 || l[1].GateGap == nil {
		t.Errorf("log %+v", l)
	}
}

// TestGapOfAnAgentAway: what a gate missed while no agent was there is recorded before it goes on.
func TestGapOfAnAgentAway(t *testing.T) {
	b := newBed(t, guardOf("free", false), guardOf("strict", true))
	b.s.Restore(&[]pcr.Event{declared()}[0])
	b.dial(gatewire.Hello{}).guard()
	b.s.Shutdown()
	b.events = append([]pcr.Event{declared()}, b.events...)
	b.serve()
	p := b.dial(gatewire.Hello{Held: []gatewire.Held{{App: "strict", Enforce: true}}, Gaps: []gatewire.Gap{{Number: 4, App: "free", Reason: "too slow"}}})
	if m := p.read(); m.Noted == nil || m.Noted.Number != 4 {
		t.Fatalf("%+v, want that the gap is noted", m)
	}
	p.guard()
	l := b.log()[2:]
	if len(l) != 2 || l[0].GateGap == nil || l[0].GateGap.App != "free" || l[0].GateGap.Reason != "the gate: too slow" || l[1].GateStart == nil || !l[1].GateStart.Carried {
		t.Errorf("log %+v", l)
	}
}

// TestLittleTime: the gap of a gate that does not answer is recorded in the time that evidence has.
func TestLittleTime(t *testing.T) {
	b := newBed(t, guardOf("free", false))
	b.dial(gatewire.Hello{}).guard()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := b.s.Confirm(ctx); err != nil {
		t.Error(err)
	}
	if l := b.log(); len(l) != 2 || l[1].GateGap == nil {
		t.Errorf("log %+v", l)
	}
}

// TestBucket: records are limited, and one more is allowed after each interval, up to a burst.
func TestBucket(t *testing.T) {
	b, now := newBucket(), time.Now()
	for range burst {
		if !b.take(now) {
			t.Fatal("less than a burst")
		}
	}
	for n, c := range []struct {
		after time.Duration
		want  int
	}{{0, 0}, {every - 1, 0}, {1, 1}, {3 * every, 3}, {2 * burst * every, burst}} {
		now = now.Add(c.after)
		got := 0
		for b.take(now) {
			got++
		}
		if got != c.want {
			t.Errorf("time %d: %d records, want %d", n, got, c.want)
		}
	}
}

// TestAskedToStop: evidence is not asked for any more: that is not a gap of a gate that is slow.
func TestAskedToStop(t *testing.T) {
	b, p := newGate(t, guardOf("free", false))
	ctx, cancel := context.WithCancel(context.Background())
	_, done := p.confirm(ctx, b.s)
	cancel()
	if err := <-done; err == nil {
		t.Error("evidence is made")
	}
	if l := b.log(); len(l) != 1 {
		t.Errorf("log %+v", l)
	}
}
