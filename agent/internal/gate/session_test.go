// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/gatewire"
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

// TestGateLeaves: that a gate left is recorded at once, and another one is served then.
func TestGateLeaves(t *testing.T) {
	b := newBed(t, guardOf("free", false))
	p := b.dial(gatewire.Hello{})
	p.guard()
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
	b := newBed(t, guardOf("free", false))
	p := b.dial(gatewire.Hello{})
	p.guard()
	done := make(chan error, 1)
	go func() { done <- b.s.Confirm(context.Background()) }()
	if m := p.read(); m.Ping == nil {
		t.Fatalf("%+v, want a ping", m)
	}
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

// TestAskedToStop: evidence is not asked for any more: that is not a gap of a gate that is slow.
func TestAskedToStop(t *testing.T) {
	b := newBed(t, guardOf("free", false))
	p := b.dial(gatewire.Hello{})
	p.guard()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.s.Confirm(ctx) }()
	if m := p.read(); m.Ping == nil {
		t.Fatalf("%+v, want a ping", m)
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("evidence is made")
	}
	if l := b.log(); len(l) != 1 {
		t.Errorf("log %+v", l)
	}
}
