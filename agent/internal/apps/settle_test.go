// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"os"
	"testing"
	"time"
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
			w.eventually("the readings are over", func() bool { return w.handled("app") })
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

// TestOverflowHeldBack: an attacker who made so many events get lost that the log takes no more of
// the app does not hide what happens meanwhile: nothing is claimed of it.
func TestOverflowHeldBack(t *testing.T) {
	fake := newFakeWatcher()
	w := newWorld(t, func(c *Config) {
		c.NewWatcher = func() (Watcher, error) { return fake, nil }
		c.RateBurst, c.RateEvery = 3, time.Hour
	})
	w.declare("app", list("files", w.write("bin/lib", "good", 0o755)))
	w.reload() // the first record of three
	w.run()
	before := w.app("app")
	w.swap("bin", "lib")
	fake.errs <- ErrOverflow
	w.eventually("a new interval begins", func() bool { s := w.app("app"); return s.Measured && s.From != before.From })
	w.swap("bin", "lib")
	fake.errs <- ErrOverflow
	w.eventually("the loss is known", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.Apps.apps["app"].lost > 1
	})
	w.Settle(t.Context(), "app")
	if s := w.app("app"); s.Measured || w.Covers("app", digestOf("good")) {
		t.Errorf("the directory was swapped while events were lost, the log does not say so, and the app is covered: %+v", s)
	}
}
