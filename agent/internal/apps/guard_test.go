// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestDeclaredAnewMeanwhile: what was found by a declaration that is no longer in force is
// not recorded; an app that is gone is not recorded at all.
func TestDeclaredAnewMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.declare("app", list("files", w.write("a", "a", 0o755)))
	w.reload()
	x := w.Apps.apps["app"]
	w.replace("a", "new")
	found := w.find(x, &reading{want: want{fresh: true}})
	w.declare("app", list("files", w.write("b", "b", 0o755)))
	w.reload()
	events := len(w.log.all())
	if done, err := w.conclude(t.Context(), x, found); done || err != nil || len(w.log.all()) != events {
		t.Errorf("concluded %t, %v, %d events more", done, err, len(w.log.all())-events)
	}
	if w.Covers("app", digestOf("new")) || !w.Covers("app", digestOf("b")) {
		t.Error("what an old declaration named is covered")
	}

	found = w.find(x, &reading{want: want{fresh: true}})
	os.Remove(filepath.Join(w.apps, "app.toml"))
	w.reload()
	if done, err := w.conclude(t.Context(), x, found); !done || !errors.Is(err, ErrUnknownApp) || len(w.log.all()) != events {
		t.Errorf("concluded %t, %v, %d events more for an app that is gone", done, err, len(w.log.all())-events)
	}
	if f := w.find(x, &reading{want: want{fresh: true}}); !errors.Is(f.err, ErrUnknownApp) || f.Manifest != nil {
		t.Errorf("an app that is gone is looked at: %v", f.err)
	}
}

// TestDependents: an app is measured again for the names that it looked at, for the
// directories that it read, and for those directories themselves, which may be moved away.
func TestDependents(t *testing.T) {
	f, fake := follower{}, newFakeWatcher()
	f.start(fake, nil)
	dir, read := t.TempDir(), t.TempDir()
	s := f.begin("app")
	s.see(dir, "name")
	s.see(read, manifest.EveryName)
	s.commit(true)
	for p, want := range map[string]int{
		dir + "/name": 1, dir + "/other": 0, dir: 1,
		read + "/name": 1, read + "/other": 1, read: 1,
		t.TempDir(): 0, "/nowhere/name": 0, filepath.Dir(dir): 0,
	} {
		if got := f.dependents(fake.at(p)); len(got) != want {
			t.Errorf("%s concerns %q, want %d", p, got, want)
		}
	}
	// What no app looks at any more concerns no app, though events of it are on their way.
	s = f.begin("app")
	s.see(read, manifest.EveryName)
	s.commit(true)
	if got := f.dependents(fake.at(dir + "/name")); len(got) != 0 {
		t.Errorf("a directory that is not watched concerns %q", got)
	}
}

// TestMissingDirectoriesAreFollowed: what is not there yet is not a failure of the watching.
func TestMissingDirectoriesAreFollowed(t *testing.T) {
	f := following(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := f.begin("app")
	for _, p := range []string{filepath.Join(dir, "gone"), filepath.Join(file, "below")} {
		s.see(p, "name")
		if err := f.state(); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	s.commit(true)
	if len(f.watched) != 0 {
		t.Errorf("watched: %v", f.watched)
	}
}

// TestChangingAppIsTriedAgain: an app that kept changing is looked at again soon, without
// a request.
func TestChangingAppIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.declare("app", list("files", w.write("a", "a", 0o755)))
	w.reload()
	x := w.Apps.apps["app"]
	f := finding{declaration: x.declaration, err: &manifest.ChangedError{Path: w.path("a")}}
	if done, err := w.conclude(t.Context(), x, f); !done || err == nil || w.app("app").Measured {
		t.Fatalf("concluded %t, %v", done, err)
	}
	if names, _ := w.pending.take(time.Now().Add(retryAfterChanging)); len(names) != 1 {
		t.Errorf("due are %q", names)
	}
}

// TestHeldBackIsToldOnce: that changes go unrecorded is recorded once, and again if it
// could not be.
func TestHeldBackIsToldOnce(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.RateBurst, c.RateEvery = 1, time.Hour })
	w.declare("app", list("files", w.write("a", "a", 0o755)))
	w.reload()
	w.log.failWith(errors.New("no space left on device"))
	for i := range 4 {
		w.replace("a", fmt.Sprint(i))
		if i == 2 {
			w.log.failWith(nil)
		}
		var held *RateError
		if _, err := w.Measure(t.Context(), "app"); !errors.As(err, &held) {
			t.Fatalf("got %v", err)
		}
		if n, want := w.log.count(pcr.EventUnmeasured), i/2; n != min(want, 1) {
			t.Errorf("after change %d: told %d times", i, n)
		}
	}
}

// TestRestoreKeepsWhatIsDeclared: a reload in the log takes from memory what it does not
// declare, and nothing else.
func TestRestoreKeepsWhatIsDeclared(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"kept", "dropped"} {
		w.declare(name, list("files", w.write(name, name, 0o755)))
	}
	w.reload()
	events := w.log.all()
	w.restart()
	for i, e := range append(events, pcr.Event{Type: pcr.EventReload, Agent: &pcr.AgentEvent{Declarations: pcr.Declarations{{App: "kept"}}}}) {
		w.Restore(uint64(i), &e)
	}
	w.reload()
	more := w.log.all()[len(events):]
	slices.SortFunc(more, func(x, y pcr.Event) int { return cmp.Compare(x.Type, y.Type) }) // each app is read by itself
	if len(more) != 2 || more[0].App == nil || more[0].App.App != "dropped" || more[1].Same == nil || more[1].Same.App != "kept" {
		t.Errorf("recorded again: %+v", more)
	}
}
