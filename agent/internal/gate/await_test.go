// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"sync"
	"testing"
	"time"
)

// waited is a context that says that something waits for its end.
type waited struct {
	context.Context
	begins func()
}

func (w waited) Done() <-chan struct{} {
	w.begins()
	return w.Context.Done()
}

// TestAwait: a unit waits as long as it may begin to be guarded soon, and no longer.
func TestAwait(t *testing.T) {
	const brief = 50 * time.Millisecond
	hour := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		here   bool // a gate is there
		guards bool // the log says that it guards the app
		paused map[string]time.Time
		stale  bool // what the log says is of rules before
		waits  bool // until the end
	}{
		"no gate":                            {},
		"no gate, and the log does not know": {guards: true, stale: true},
		"soon":                               {here: true, waits: true},
		"guarded":                            {here: true, guards: true},
		"guarded, by rules before":           {here: true, guards: true, stale: true, waits: true},
		"paused":                             {here: true, paused: map[string]time.Time{"app": hour}},
		"all are paused":                     {here: true, paused: map[string]time.Time{"": hour}},
		"another one is paused":              {here: true, paused: map[string]time.Time{"other": hour}, waits: true},
	} {
		s := New(Config{Patience: long})
		if c.waits {
			s.c.Patience = brief
		}
		x := &session{s: s}
		if !c.stale {
			x.recorded = 1
		}
		if c.here {
			s.session = x
		}
		if c.guards {
			s.log.guarded["app"] = guard{}
		}
		if c.paused != nil {
			s.paused = c.paused
		}
		begun := time.Now()
		s.Await(context.Background(), "app")
		if took := time.Since(begun); took < brief && c.waits || took > long/2 {
			t.Errorf("%s: it waited %v", name, took)
		}
	}
	s := New(Config{Patience: long})
	s.log.guarded["app"], s.begun = guard{}, time.Now()
	s.Await(context.Background(), "app")
	if took := time.Since(s.begun); took < ticks {
		t.Errorf("%v after the record: a process that starts now may have the same time", took)
	}
	s = New(Config{Patience: long}) // the gate leaves
	s.session = &session{s: s}
	done := make(chan struct{})
	waits := make(chan struct{})
	ctx := waited{t.Context(), sync.OnceFunc(func() { close(waits) })}
	go func() { s.Await(ctx, "app"); close(done) }()
	<-waits
	s.mu.Lock()
	s.session = nil
	s.mu.Unlock()
	select {
	case <-done:
	case <-time.After(long / 2):
		t.Error("it waits for a gate that left")
	}
}
