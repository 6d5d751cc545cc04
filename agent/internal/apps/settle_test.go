// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"os"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/pcr"
)

// swap replaces the directory p by one with another file, and puts it back. No file in it
// changes.
func (w *world) swap(p, file string) {
	w.t.Helper()
	w.write("evil/"+file, "evil", 0o755)
	for _, x := range [][2]string{{p, "good"}, {"evil", p}, {p, "evil"}, {"good", p}} {
		if err := os.Rename(w.path(x[0]), w.path(x[1])); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestSettle: what the watching told of an app's files is in the log before its process states
// anything, however long changes are collected. A program that was swapped, started and put back
// is not covered at that time.
func TestSettle(t *testing.T) {
	for name, change := range map[string]func(*world){
		"replaced": func(w *world) { w.replace("bin/lib", "evil") },
		"replaced, and put back": func(w *world) {
			if err := os.Rename(w.path("bin/lib"), w.path("bin/kept")); err != nil {
				t.Fatal(err)
			}
			w.replace("bin/lib", "evil")
			if err := os.Rename(w.path("bin/kept"), w.path("bin/lib")); err != nil {
				t.Fatal(err)
			}
		},
		"directory swapped": func(w *world) { w.swap("bin", "lib") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.Debounce = time.Hour })
			w.declare("app", list("files", w.write("bin/lib", "good", 0o755)))
			w.reload()
			w.run()
			x := w.Apps.apps["app"]
			w.eventually("the readings are over", func() bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				return x.generation != 0 && x.events == x.handled
			})
			before := len(w.log.all())
			w.Settle(t.Context(), "app")
			if n := len(w.log.all()); n != before {
				t.Errorf("%d records of an app that did not change", n-before)
			}
			change(w)
			w.eventually("the watching tells", func() bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				return x.events != x.handled
			})
			w.Settle(t.Context(), "app")
			if len(w.log.all()) == before {
				t.Error("the log says nothing of what happened")
			}
		})
	}
}

// TestOverflowHeldBack: an attacker who made so many events get lost that further gaps are
// recorded later does not hide what happens meanwhile.
func TestOverflowHeldBack(t *testing.T) {
	fake := newFakeWatcher()
	w := newWorld(t, func(c *Config) {
		c.NewWatcher = func() (Watcher, error) { return fake, nil }
		c.RateBurst, c.RateEvery = 1, time.Hour
	})
	w.declare("app", list("files", w.write("bin/lib", "good", 0o755)))
	w.reload()
	w.run()
	held := func() bool {
		w.pending.mu.Lock()
		defer w.pending.mu.Unlock()
		return w.pending.due[gapsOwed].hold
	}
	fake.errs <- ErrOverflow
	w.eventually("the gap is recorded", func() bool { return w.log.count(pcr.EventGap) == 1 && w.app("app").Measured })
	before := w.log.count(pcr.EventUnmeasured)
	w.swap("bin", "lib")
	fake.errs <- ErrOverflow
	w.eventually("the next gap is held back", held)
	w.Settle(t.Context(), "app")
	if n := w.log.count(pcr.EventUnmeasured); n == before {
		t.Error("the directory was swapped while events were lost, and the log does not say so")
	}
}
