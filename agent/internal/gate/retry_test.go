// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/gatewire"
)

// lines counts the lines of a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(words string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), words)
}

// TestSlowFolder: an app that the gate could not guard, since a folder did not open in time, is tried
// again without being asked for, at longer and longer intervals. The journal has each reason once.
func TestSlowFolder(t *testing.T) {
	b := newBed(t, guardOf("free", false), guardOf("strict", true))
	var log lines
	b.s.c.Log, b.s.c.Retry = slog.New(slog.NewTextHandler(&log, nil)), time.Millisecond
	p := b.dial(gatewire.Hello{})
	next := p.read()
	answer := func(failed ...gatewire.Failed) {
		t.Helper()
		if next.Rules == nil {
			t.Fatalf("%+v, want rules", next)
		}
		apps := []string{"free", "strict"}[:2-len(failed)]
		p.send(&gatewire.ToAgent{Ready: &gatewire.Ready{Generation: next.Rules.Generation, Apps: apps, Failed: failed}})
		var recorded *gatewire.Recorded
		for next.Rules = nil; recorded == nil || next.Rules == nil && len(failed) > 0; {
			switch m := p.read(); { // the next rules may come before what is recorded
			case m.Rules != nil && next.Rules == nil:
				next = m
			case m.Recorded != nil && recorded == nil:
				recorded = m.Recorded
			default:
				t.Fatalf("%+v, want rules and that %v are recorded", m, apps)
			}
		}
		if len(recorded.Apps) != len(apps) {
			t.Fatalf("%+v, want that %v are recorded", recorded, apps)
		}
	}
	slow := gatewire.Failed{App: "strict", Reason: "its file system does not answer"}
	for range 3 {
		answer(slow)
	}
	answer(gatewire.Failed{App: "strict", Reason: "it is on FUSE"})
	answer()
	if l := b.log(); len(l) != 2 || len(l[1].GateStart.Apps) != 2 {
		t.Errorf("log %+v", l)
	}
	if n := log.count("cannot be guarded"); n != 2 {
		t.Errorf("%d lines say why, want one for each reason", n)
	}
	b.s.c.Retry = time.Hour
	x := &session{s: b.s}
	for n, want := range []time.Duration{retryLast, retryLast} {
		if x.tryAgain([]gatewire.Failed{slow}); x.retry != want {
			t.Errorf("attempt %d: after %v, want %v", n, x.retry, want)
		}
	}
	b.s.c.Retry = time.Minute
	if x.tryAgain(nil); x.retry != 0 {
		t.Errorf("when all are guarded: %v", x.retry)
	}
	for n, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
		before := x.later
		if x.tryAgain([]gatewire.Failed{slow}); x.retry != want {
			t.Errorf("attempt %d: after %v, want %v", n, x.retry, want)
		}
		if before != nil && before.Stop() {
			t.Errorf("attempt %d: the timer of the one before goes on", n)
		}
	}
	if x.tryAgain(nil); x.later.Stop() {
		t.Error("when all are guarded, a timer goes on")
	}
}

// TestSlowFolderOfAGateThatEnds: what was to be tried again is not when the connection ends. The next
// gate is sent its rules once.
func TestSlowFolderOfAGateThatEnds(t *testing.T) {
	b := newBed(t, guardOf("free", false))
	b.s.c.Retry = time.Hour
	p := b.dial(gatewire.Hello{})
	m := p.read()
	p.send(&gatewire.ToAgent{Ready: &gatewire.Ready{Generation: m.Rules.Generation, Failed: []gatewire.Failed{{App: "free", Reason: "its file system does not answer"}}}})
	p.read() // that nothing is guarded is recorded
	b.s.mu.Lock()
	x := b.s.session
	b.s.mu.Unlock()
	x.mu.Lock()
	waits := x.later != nil && x.later.Reset(time.Hour)
	x.mu.Unlock()
	if !waits {
		t.Fatal("it is not tried again")
	}
	p.conn.Close()
	for deadline := time.Now().Add(long); ; time.Sleep(time.Millisecond) {
		b.s.mu.Lock()
		there := b.s.session != nil
		b.s.mu.Unlock()
		if !there {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the session does not end")
		}
	}
	if x.later.Stop() {
		t.Error("the timer goes on after the connection ended")
	}
}
