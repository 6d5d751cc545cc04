// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/turn"
)

// TestBudget: after a pause, an app may be hashed once, however large it is; then as many
// bytes a minute as are configured.
func TestBudget(t *testing.T) {
	const mib = 1 << 20
	start := time.Now()
	at := func(d time.Duration) time.Time { return start.Add(d) }
	b := newBudget(mib, start)
	for _, step := range []struct {
		at, wait time.Duration
		size     uint64
		hashed   uint64
	}{
		{0, 0, mib / 2, mib / 2},
		{0, 0, mib / 2, mib / 2},
		{0, time.Second, mib / 2, 0},
		{30 * time.Second, 0, mib / 2, mib / 2},
		{30 * time.Second, time.Second, mib / 2, 0},
		{time.Hour, 0, 16 * mib, 16 * mib}, // the whole of a large one
		{time.Hour, time.Second, 16 * mib, 0},
		{time.Hour + time.Minute, 0, 16 * mib, 16 * mib}, // one more, and what it costs comes later
		{time.Hour + time.Minute, 15*time.Minute + time.Second, 16 * mib, 0},
		{2 * time.Hour, 0, mib, mib}, // nothing is saved up beyond that
		{2 * time.Hour, time.Second, mib, 0},
	} {
		if got := b.wait(at(step.at), step.size).Round(time.Second); got != step.wait {
			t.Errorf("after %v: %v, want %v", step.at, got, step.wait)
		}
		b.spend(at(step.at), step.size, step.hashed)
	}
}

// TestUnaskedBytes: an app that changes more often than it may be hashed is not measured, which
// is recorded once. Who asks for a measurement gets it.
func TestUnaskedBytes(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.UnaskedBytes = 1 << 20 })
	change := func(content string) { w.replace("bin", content+strings.Repeat("x", 3<<20)) }
	unasked := func() error {
		r, err := w.order("app", want{class: turn.Inquiry})
		if err == nil {
			_, err = r.wait(t.Context(), "app")
		}
		return err
	}
	w.write("bin", "", 0o755)
	w.declare("app", list("files", w.path("bin")))
	w.reload()
	change("1")
	if err := unasked(); err != nil || !w.app("app").Measured {
		t.Fatalf("%+v, %v", w.app("app"), err)
	}
	for round := range 2 {
		change("2")
		for range 3 {
			var held *RateError
			if err := unasked(); !errors.As(err, &held) || !held.Hashing || held.Retry < time.Minute {
				t.Fatalf("got %v", err)
			}
			if s := w.app("app"); s.Measured || !strings.Contains(s.WhyNot, "changes too often to be hashed again at once: measured in ") {
				t.Errorf("%+v", s)
			}
		}
		if n := strings.Count(fmt.Sprint(w.since(0)), "MiB a minute"); n != round+1 {
			t.Errorf("recorded %d times, want %d", n, round+1)
		}
		if !w.pending.due["app"].hold {
			t.Error("it is not measured later")
		}
		if s, err := w.Measure(t.Context(), "app"); err != nil || !s.Measured || s.WhyNot != "" {
			t.Errorf("asked: %+v, %v", s, err)
		}
		if w.pending.due["app"].hold {
			t.Error("a later change is not followed up")
		}
	}
	// A rescan without a word from the watching can wait.
	w.declare("app", list("files", w.path("bin")), "# another one")
	w.run()
	x := w.Apps.apps["app"]
	w.eventually("it is followed", func() bool {
		w.Measure(t.Context(), "app")
		w.mu.Lock()
		defer w.mu.Unlock()
		return x.measured && x.generation != 0 && x.events == x.handled
	})
	records := len(w.log.all())
	if err := unasked(); err != nil || !w.app("app").Measured || len(w.log.all()) != records {
		t.Errorf("%+v, %v", w.app("app"), err)
	}
}
