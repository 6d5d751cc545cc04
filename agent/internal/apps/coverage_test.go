// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/internal/boottime"
	"github.com/cvm-agentd/agentd/pcr"
)

// settled waits until every later change of the app's files would be seen.
func (w *world) settled(app string) {
	w.t.Helper()
	if testing.Short() {
		w.t.Skip("waits until files are two seconds old: not with -short")
	}
	w.eventually("changes of "+app+" would be seen", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		x := w.Apps.apps[app]
		if x.trace == nil {
			return false
		}
		_, err := x.trace.Settled()
		return err == nil && x.measured
	})
}

// since are the events after the first n.
func (w *world) since(n int) (out []string) {
	for _, e := range w.log.all()[n:] {
		switch {
		case e.Same != nil:
			out = append(out, fmt.Sprintf("same %s %t: %s", e.Same.App, e.Same.Carried, e.Same.Reason))
		case e.Unmeasured != nil:
			out = append(out, "unmeasured "+e.Unmeasured.App+": "+e.Unmeasured.Reason)
		case e.App != nil:
			out = append(out, "app "+e.App.App)
		default:
			out = append(out, string(e.Type))
		}
	}
	return out
}

// TestGapIsCarried: a gap interrupts the coverage of every app, and nothing is claimed of one until
// it was measured again. It goes on if its files cannot have changed meanwhile.
func TestGapIsCarried(t *testing.T) {
	fake := newFakeWatcher()
	w := newWorld(t, func(c *Config) { c.NewWatcher = func() (Watcher, error) { return fake, nil } })
	for _, app := range []string{"calm", "swapped"} {
		w.declare(app, list("files", w.write(app+"/bin", app, 0o755)))
	}
	w.reload()
	w.run()
	w.settled("calm")
	w.settled("swapped")
	before, swapped := w.app("calm"), w.app("swapped")
	n := len(w.log.all())
	// No event tells of it, as if it was lost.
	w.replace("swapped/bin", "evil")
	w.replace("swapped/bin", "swapped")
	w.owe(gapWatching)
	// A record comes first, and then what is claimed of the app.
	w.eventually("both are measured again", func() bool {
		return len(w.log.all()) == n+3 && w.app("calm").Measured && w.app("swapped").Measured
	})
	got := w.since(n)
	slices.Sort(got[1:]) // each app is read by itself
	if got[0] != "gap" || !strings.HasPrefix(got[1], "same calm true: "+endedGap) || !strings.HasPrefix(got[2], "same swapped false: "+endedGap) || !strings.Contains(got[2], "put back") {
		t.Errorf("the log says %q", got)
	}
	if s := w.app("calm"); s.From != before.From || s.Since != before.Since || s.Carried != 1 || !s.Measured {
		t.Errorf("%+v, was %+v", s, before)
	}
	if s := w.app("swapped"); s.From == swapped.From || s.Carried != 0 || !s.Measured {
		t.Errorf("%+v, was %+v", s, swapped)
	}
}

// TestNothingClaimedWithoutInterval: between the end of coverage and the next measurement,
// nothing is covered.
func TestNothingClaimedWithoutInterval(t *testing.T) {
	for name, end := range map[string]func(w *world) error{
		"gap": func(w *world) error { return w.appendGap(w.t.Context(), "x") },
		"gap that may be recorded": func(w *world) error {
			w.log.failWith(errors.New("no space left on device"))
			return w.appendGap(w.t.Context(), "x")
		},
		"full log": func(w *world) error {
			w.log.failWith(ledger.ErrFull)
			w.write("other", "2", 0o755)
			_, err := w.Measure(w.t.Context(), "other")
			return err
		},
		"reload in a full log": func(w *world) error {
			_, err := w.Reload(w.t.Context(), func(context.Context, []pcr.Declaration) error { return ledger.ErrFull })
			return err
		},
		"held back": func(w *world) error {
			for n := range w.config.RateBurst + 1 {
				w.replace("bin", fmt.Sprint(n))
				w.Measure(w.t.Context(), "app")
			}
			w.replace("bin", "one")
			_, err := w.Measure(w.t.Context(), "app")
			return err
		},
	} {
		w := newWorld(t, func(c *Config) { c.RateBurst, c.RateEvery = 3, time.Hour })
		w.declare("app", list("files", w.write("bin", "one", 0o755)))
		w.declareText(w.apps, "other", fmt.Sprintf("unit = \"other.service\"\nuser = \"0\"\nfiles = [%q]\n", w.write("other", "1", 0o755)))
		w.reload()
		if !w.Covers("app", digestOf("one")) {
			t.Fatal("not covered")
		}
		if err := end(w); err == nil && name != "gap" {
			t.Errorf("%s: nothing failed", name)
		}
		if s := w.app("app"); s.Measured || s.WhyNot == "" || w.Covers("app", digestOf("one")) {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// TestSwapWhileWatched: a change that is undone before the agent looks leaves the content of before.
// The watching tells of it, and the coverage begins anew. What does not touch the app does not
// interrupt it. Case 98.
func TestSwapWhileWatched(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(w *world) error
		want string // in the record; empty if coverage goes on
	}{
		"replaced and put back": {func(w *world) error {
			p := w.path("home/bin/main")
			return errors.Join(os.Rename(p, p+".kept"), os.WriteFile(p, []byte("evil"), 0o755), os.Rename(p+".kept", p))
		}, `main" was changed`},
		"directory replaced and put back": {func(w *world) error {
			p := w.path("home/bin")
			return errors.Join(os.Rename(p, p+".kept"), os.Mkdir(p, 0o755), os.Remove(p), os.Rename(p+".kept", p))
		}, `bin" may have been replaced`},
		"directory above replaced and put back": {func(w *world) error {
			p := w.path("home")
			return errors.Join(os.Rename(p, p+".kept"), os.Mkdir(p, 0o755), os.Remove(p), os.Rename(p+".kept", p))
		}, `home" may have been replaced`},
		"a file beside": {func(w *world) error { return os.WriteFile(w.path("home/bin/log"), nil, 0o600) }, ""},
		"files beside, on two levels": {func(w *world) error {
			return errors.Join(os.WriteFile(w.path("home/bin/log"), nil, 0o600), os.WriteFile(w.path("home/log"), nil, 0o600))
		}, ""},
		"a file that is left out": {func(w *world) error { return os.WriteFile(w.path("home/plugins/x.log"), nil, 0o600) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *Config) { c.Debounce = time.Second }) // longer than between two events of one change
			w.write("home/plugins/a", "a", 0o644)
			w.declare("app", list("files", w.write("home/bin/main", "main", 0o755)), list("directories", w.path("home/plugins")), list("exclude", "*.log"))
			w.reload()
			w.run()
			w.settled("app")
			n := len(w.log.all())
			w.mu.Lock() // the agent looks after all of it, however long it takes
			err := c.do(w)
			w.mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			if c.want != "" {
				w.eventually("the interruption is recorded", func() bool { return len(w.log.all()) == n+2 })
				got := w.since(n)
				if !strings.HasPrefix(got[0], "unmeasured app: what ran for a moment is not known: ") || !strings.Contains(got[0], c.want) || !strings.HasPrefix(got[1], "same app false: what ran") {
					t.Errorf("the log says %q", got)
				}
				return
			}
			// Two looks, with time for an event in between.
			for range 2 {
				if _, err := w.Measure(t.Context(), "app"); err != nil {
					t.Fatal(err)
				}
				w.settled("app")
			}
			if got := w.since(n); len(got) != 0 {
				t.Errorf("the log says %q", got)
			}
		})
	}
}

// TestSwapBeforeWatching: what happened between the first measurement and the first watch is not
// seen by it, and not taken for unchanged.
func TestSwapBeforeWatching(t *testing.T) {
	w := newWorld(t)
	w.declare("app", list("files", w.write("bin", "one", 0o755)))
	w.reload()
	w.replace("bin", "evil")
	w.replace("bin", "one")
	w.run()
	w.eventually("the interruption is recorded", func() bool { return w.log.count(pcr.EventSame) == 1 })
	if got := w.since(1); len(got) != 2 || !strings.Contains(got[0], "put back") || !strings.HasPrefix(got[1], "same app false") {
		t.Errorf("the log says %q", got)
	}
}

// TestLateEvent: an event that is still on its way when the app is read is not lost.
func TestLateEvent(t *testing.T) {
	fake := newFakeWatcher()
	w := newWorld(t, func(c *Config) { c.NewWatcher = func() (Watcher, error) { return fake, nil } })
	w.declare("app", list("files", w.write("home/bin/main", "main", 0o755)))
	w.reload()
	w.run()
	w.settled("app")
	n := len(w.log.all())
	p := w.path("home/bin")
	if err := errors.Join(os.Rename(p, p+".kept"), os.Mkdir(p, 0o755), os.Remove(p), os.Rename(p+".kept", p)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Measure(t.Context(), "app"); err != nil || len(w.log.all()) != n {
		t.Fatalf("%v, the log says %q", err, w.since(n))
	}
	fake.events <- fake.at(p)
	w.eventually("the interruption is recorded", func() bool { return len(w.log.all()) == n+2 })
	if got := w.since(n); !strings.Contains(got[0], `bin" may have been replaced`) {
		t.Errorf("the log says %q", got)
	}
}

// TestMeasurePassesItsTick: a process that starts after a measurement has started in a later tick
// than the record was made in.
func TestMeasurePassesItsTick(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.RateBurst = 1 << 30 })
	w.declare("app", list("files", w.write("bin", "0", 0o755)))
	w.reload()
	for n := range 20 {
		w.log.clock = boottime.Now
		w.replace("bin", fmt.Sprint("content ", n))
		if _, err := w.Measure(t.Context(), "app"); err != nil {
			t.Fatal(err)
		}
		all := w.log.all()
		if at, now := all[len(all)-1].Time, boottime.Now(); at == 0 || now/boottime.Tick <= at/boottime.Tick {
			t.Fatalf("recorded at %d ms, answered at %d ms", at, now)
		}
	}
}

// TestDeclaredAgain: an app whose declaration was withdrawn, refused or changed in between is
// recorded again. Case 99.
func TestDeclaredAgain(t *testing.T) {
	text := func(w *world) string {
		return "unit = \"app.service\"\nuser = \"1000\"\n" + list("files", w.path("bin")) + "\n"
	}
	for name, c := range map[string]struct {
		between string // the declaration; empty for none
		want    string
	}{
		"withdrawn": {"", "[app app]"},
		"refused":   {"unit = 1\n", "same app false: " + endedReload},
		"changed":   {"# comment\n", "[app app app app]"},
	} {
		w := newWorld(t)
		w.write("bin", "one", 0o755)
		w.declareText(w.apps, "app", text(w))
		w.reload()
		n := len(w.log.all())
		switch p := w.apps + "/app.toml"; {
		case c.between == "":
			os.Remove(p)
		case strings.HasPrefix(c.between, "#"):
			w.declareText(w.apps, "app", text(w)+c.between)
		default:
			w.declareText(w.apps, "app", c.between)
		}
		w.reload()
		if c.between != "# comment\n" && w.Covers("app", digestOf("one")) {
			t.Errorf("%s: still covered", name)
		}
		w.declareText(w.apps, "app", text(w))
		w.reload()
		if got := fmt.Sprint(w.since(n)); !strings.Contains(got, c.want) || !w.Covers("app", digestOf("one")) {
			t.Errorf("%s: the log says %s, want %s", name, got, c.want)
		}
	}
}
