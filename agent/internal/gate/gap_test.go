// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/gatewire"
)

// TestFirstReason: a gap that waits for the log keeps the reason that it had first.
func TestFirstReason(t *testing.T) {
	b, p := newGate(t, guardOf("free", false))
	b.set(func() { b.fail = errors.New("the disk is full") })
	for n, reason := range []string{"first", "second"} {
		p.send(&gatewire.ToAgent{Gap: &gatewire.Gap{Number: uint64(n), App: "free", Reason: reason}})
	}
	// The gate's words are read in their order, so both were read when this is answered.
	p.send(&gatewire.ToAgent{Ask: &gatewire.Ask{ID: 1, App: "unknown", Path: "/opt/app", Digest: evidence.Digest{1}}})
	if m := p.read(); m.Answer == nil {
		t.Fatalf("%+v, want an answer: no gap is noted", m)
	}
	b.set(func() { b.fail = nil })
	p.send(&gatewire.ToAgent{Gap: &gatewire.Gap{Number: 2, App: "free", Reason: "third"}})
	if m := p.read(); m.Noted == nil {
		t.Fatalf("%+v, want that it is noted", m)
	}
	if l := b.log(); len(l) != 2 || l[1].GateGap == nil || l[1].GateGap.Reason != "the gate: first" {
		t.Errorf("log %+v", l)
	}
}

// TestFullLog: if the log is full, its last record says that nothing is guarded. So no gap is owed, and
// evidence is made. Case 126.
func TestFullLog(t *testing.T) {
	b, p := newGate(t, guardOf("free", false), guardOf("strict", true))
	b.set(func() { b.fail = errors.New("the disk is full") })
	p.send(&gatewire.ToAgent{Gap: &gatewire.Gap{Number: 1, App: "free", Reason: "too slow"}})
	p.ask(1, "unknown", evidence.Digest{1}, false)
	b.set(func() { b.fail = ledger.ErrFull })
	p.conn.Close()
	if err := b.s.Confirm(t.Context()); err != nil {
		t.Errorf("no evidence: %v", err)
	}
	if c := b.s.Counts(); c.Guarded != 0 || c.Gaps != 0 {
		t.Errorf("counts %+v", c)
	}
	b.set(func() { b.fail = errors.New("nothing is to be recorded") })
	if err := b.s.Confirm(t.Context()); err != nil {
		t.Errorf("a gap is owed: %v", err)
	}
}

// TestPause: an app with a gap is not guarded for a moment, and then again without being asked for.
// After many gaps it takes minutes, since each begin is a record.
func TestPause(t *testing.T) {
	b, p := newGate(t, guardOf("free", false), guardOf("strict", true))
	p.send(&gatewire.ToAgent{Gap: &gatewire.Gap{Number: 1, App: "free", Reason: "too slow"}})
	if m := p.read(); m.Noted == nil {
		t.Fatalf("%+v, want that it is noted", m)
	}
	ready := func() []string {
		t.Helper()
		m := p.read()
		if m.Rules == nil {
			t.Fatalf("%+v, want rules", m)
		}
		p.send(&gatewire.ToAgent{Ready: &gatewire.Ready{Generation: m.Rules.Generation, Apps: []string{"free", "strict"}}})
		r := p.read()
		if r.Recorded == nil {
			t.Fatalf("%+v, want what is recorded", r)
		}
		return r.Recorded.Apps
	}
	b.s.mu.Lock()
	b.s.paused["free"] = time.Now().Add(time.Hour)
	b.s.mu.Unlock()
	if apps := ready(); len(apps) != 1 || apps[0] != "strict" { // the rules that it sends when the moment is over
		t.Errorf("guarded %v", apps)
	}
	s := New(Config{})
	for n := range burst + 1 {
		s.pause("free")
		if wait := time.Until(s.paused["free"]); (wait > time.Minute) != (n == burst) {
			t.Errorf("after %d gaps it waits %v", n+1, wait)
		}
	}
}

// TestServeEnds: after a stop, no gate is served, and a listener that is closed is an error.
func TestServeEnds(t *testing.T) {
	listen := func() *net.UnixListener {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "gate.sock"), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	ends := func(serve func() error) error {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- serve() }()
		select {
		case err := <-done:
			return err
		case <-time.After(long):
			t.Fatal("it goes on")
			return nil
		}
	}
	b := newBed(t, guardOf("free", false))
	b.dial(gatewire.Hello{}).guard()
	b.s.Shutdown()
	if b.s.Counts().Present {
		t.Error("the gate is served after the stop")
	}
	if err := ends(func() error { return b.s.Serve(listen()) }); err != nil {
		t.Errorf("after a stop: %v", err)
	}
	s, l := New(Config{}), listen()
	if err := ends(func() error {
		go s.Shutdown()
		return s.Serve(l)
	}); err != nil {
		t.Errorf("with a stop: %v", err)
	}
	closed := listen()
	closed.Close()
	if err := ends(func() error { return New(Config{}).Serve(closed) }); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed listener: %v", err)
	}
}
