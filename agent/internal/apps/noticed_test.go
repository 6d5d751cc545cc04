// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watched waits until the watching has told of everything, and the app was read after that.
func (w *world) watched(app string) {
	w.t.Helper()
	w.eventually("the watching is up to date", func() bool {
		w.Measure(w.t.Context(), app)
		w.mu.Lock()
		defer w.mu.Unlock()
		x := w.Apps.apps[app]
		return x.measured && x.generation != 0 && x.events == x.handled
	})
}

// TestContentBetween: an app that becomes another one has an unbroken interval only if the
// watching saw each file replaced by one rename. Any other content may have run for a moment
// otherwise, and the log says so. Case 114.
func TestContentBetween(t *testing.T) {
	link := func(w *world, target string) error {
		return errors.Join(os.Symlink(target, w.path("current.new")), os.Rename(w.path("current.new"), w.path("current")))
	}
	for name, c := range map[string]struct {
		do   func(w *world) error
		want string // why it is not known; empty if all is
	}{
		"replaced once": {func(w *world) error { w.replace("bin/main", "v2"); return nil }, ""},
		"replaced, and one beside": {func(w *world) error {
			w.replace("bin/main", "v2")
			return os.WriteFile(w.path("bin/log"), []byte("x"), 0o600)
		}, ""},
		"two files replaced":              {func(w *world) error { w.replace("bin/main", "v2"); w.replace("lib/a", "a2"); return nil }, ""},
		"a new one in a listed directory": {func(w *world) error { w.replace("lib/b", "b"); return nil }, ""},
		"left out": {func(w *world) error {
			w.replace("bin/main", "v2")
			return os.WriteFile(w.path("lib/x.log"), []byte("x"), 0o600)
		}, ""},
		"twice":    {func(w *world) error { w.replace("bin/main", "evil"); w.replace("bin/main", "v2"); return nil }, `bin/main" was not replaced`},
		"in place": {func(w *world) error { return os.WriteFile(w.path("bin/main"), []byte("v2"), 0o755) }, `bin/main" was not replaced`},
		"replaced, then written": {func(w *world) error {
			w.replace("bin/main", "evil")
			return os.WriteFile(w.path("bin/main"), []byte("v2"), 0o755)
		}, `bin/main" was not replaced`},
		"replaced, then a mode": {func(w *world) error { w.replace("bin/main", "v2"); return os.Chmod(w.path("bin/main"), 0o700) }, `bin/main" was not replaced`},
		"removed and made": {func(w *world) error {
			return errors.Join(os.Remove(w.path("bin/main")), os.WriteFile(w.path("bin/main"), []byte("v2"), 0o755))
		}, `bin/main" was not replaced`},
		"made in a listed directory":      {func(w *world) error { return os.WriteFile(w.path("lib/b"), []byte("b"), 0o644) }, `lib/b" was not replaced`},
		"removed from a listed directory": {func(w *world) error { return os.Remove(w.path("lib/sub/c")) }, ""},
		"moved out of a listed directory": {func(w *world) error { return os.Rename(w.path("lib/sub/c"), w.path("c")) }, ""},
		"replaced, then removed":          {func(w *world) error { w.replace("lib/sub/c", "evil"); return os.Remove(w.path("lib/sub/c")) }, `lib/sub/c" was not just removed`},
		"removed with its directory":      {func(w *world) error { return os.RemoveAll(w.path("lib/sub")) }, `sub/c" was not watched`},
		"by another name":                 {func(w *world) error { return os.WriteFile(w.path("elsewhere/main"), []byte("v2"), 0o755) }, `bin/main" was not replaced`},
		"directory replaced": {func(w *world) error {
			w.write("new/main", "v2", 0o755)
			return errors.Join(os.Rename(w.path("bin"), w.path("old")), os.Rename(w.path("new"), w.path("bin")))
		}, `bin" is another one`},
		"directory replaced and put back": {func(w *world) error {
			w.replace("bin/main", "v2")
			return errors.Join(os.Rename(w.path("lib/sub"), w.path("kept")), os.Mkdir(w.path("lib/sub"), 0o755), os.Remove(w.path("lib/sub")), os.Rename(w.path("kept"), w.path("lib/sub")))
		}, `lib/sub" was changed`},
		"link turned": {func(w *world) error { return link(w, "releases/2") }, "directory"},
		"link turned and back, a file replaced": {func(w *world) error {
			w.replace("bin/main", "v2")
			return errors.Join(link(w, "releases/2"), link(w, "releases/1"))
		}, `current" was not replaced`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *Config) { c.Debounce = time.Hour })
			w.write("bin/main", "v1", 0o755)
			w.write("lib/a", "a", 0o644)
			w.write("lib/sub/c", "c", 0o644)
			w.write("releases/1/x", "x1", 0o644)
			w.write("releases/2/x", "x2", 0o644)
			if err := errors.Join(link(w, "releases/1"), os.Mkdir(w.path("elsewhere"), 0o755), os.Link(w.path("bin/main"), w.path("elsewhere/main"))); err != nil {
				t.Fatal(err)
			}
			w.declare("app", list("files", w.path("bin/main"), w.path("current/x")), list("directories", w.path("lib")), list("exclude", "*.log"))
			w.reload()
			w.run()
			w.watched("app")
			before, n := w.app("app"), len(w.log.all())
			if err := c.do(w); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Measure(t.Context(), "app"); err != nil {
				t.Fatal(err)
			}
			got := w.since(n)
			after := w.app("app")
			if c.want == "" {
				if len(got) != 1 || got[0] != "app app" || after.From != before.From {
					t.Errorf("the log says %q, covered since record %d, was %d", got, after.From, before.From)
				}
				return
			}
			if len(got) != 2 || !strings.HasPrefix(got[0], "unmeasured app: "+forAMoment) || !strings.Contains(got[0], c.want) || got[1] != "app app" || after.From != after.Record {
				t.Errorf("the log says %q, covered since record %d", got, after.From)
			}
		})
	}
}

// TestFirstReadingIsWatched: one rename right after the first reading of an app is as good as a
// later one.
func TestFirstReadingIsWatched(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Debounce = time.Hour })
	w.run()
	w.declare("app", list("files", w.write("bin/main", "v1", 0o755)))
	w.reload()
	w.eventually("the app was measured", func() bool { return w.app("app").Measured })
	n := len(w.log.all())
	w.replace("bin/main", "v2")
	if _, err := w.Measure(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	if got := w.since(n); len(got) != 1 || got[0] != "app app" {
		t.Errorf("the log says %q", got)
	}
}

// TestReplacedByOthers: one rename is not a proof if another user than root can rename or write files
// there: the kernel tells of two renames right after one another as of one.
func TestReplacedByOthers(t *testing.T) {
	for name, c := range map[string]struct {
		dir, file os.FileMode
		want      string // why the interval ends; empty if it goes on
	}{
		"only root":            {0o755, 0o755, ""},
		"directory of a group": {0o775, 0o755, `another user than root may replace files in "`},
		"directory of all":     {0o1777, 0o755, `another user than root may replace files in "`},
		"file of a group":      {0o755, 0o775, `another user than root may write "`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *Config) { c.Debounce = time.Hour })
			w.declare("app", list("files", w.write("bin/main", "v1", 0o755)))
			chmod(t, w.path("bin"), c.dir)
			fresh := w.write("elsewhere/main", "v2", c.file)
			w.reload()
			w.run()
			w.watched("app")
			n := len(w.log.all())
			if err := os.Rename(fresh, w.path("bin/main")); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Measure(t.Context(), "app"); err != nil {
				t.Fatal(err)
			}
			got := w.since(n)
			if goes := len(got) == 1 && got[0] == "app app"; goes != (c.want == "") || !goes && !strings.Contains(got[0], forAMoment+c.want) {
				t.Errorf("the log says %q", got)
			}
		})
	}
}

// lateWatcher is one that a test has catch up.
type lateWatcher struct {
	*fakeWatcher
	catchUp atomic.Pointer[func() <-chan struct{}]
}

func (l *lateWatcher) Sync() <-chan struct{} {
	if f := l.catchUp.Load(); f != nil {
		return (*f)()
	}
	return l.fakeWatcher.Sync()
}

// TestLostBeforeTheRecord: a rename is not the only one for sure if the watching turns out to have
// lost events, or does not say in time that it told of all.
func TestLostBeforeTheRecord(t *testing.T) {
	for name, catchUp := range map[string]func(w *world) <-chan struct{}{
		"up to date": nil,
		"lost": func(w *world) <-chan struct{} {
			done := make(chan struct{})
			w.follow.shared.lost()
			close(done)
			return done
		},
		"not in time": func(*world) <-chan struct{} { return make(chan struct{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			late := &lateWatcher{fakeWatcher: newFakeWatcher()}
			w := newWorld(t, func(c *Config) {
				c.Debounce = time.Hour
				c.NewWatcher = func() (Watcher, error) { return late, nil }
			})
			main := w.write("bin/main", "v1", 0o755)
			w.declare("app", list("files", main))
			w.reload()
			w.run()
			w.watched("app")
			n := len(w.log.all())
			w.replace("bin/main", "v2")
			e := late.at(main)
			e.Mask = unix.IN_MOVED_TO
			late.events <- e
			done := make(chan struct{})
			late.events <- Event{Synced: done}
			<-done
			if catchUp != nil {
				late.catchUp.Store(new(func() <-chan struct{} { return catchUp(w) }))
			}
			if _, err := w.Measure(t.Context(), "app"); err != nil {
				t.Fatal(err)
			}
			got := w.since(n)
			if goes := len(got) == 1 && got[0] == "app app"; goes != (catchUp == nil) || !goes && !strings.Contains(got[0], "were not watched all the time") {
				t.Errorf("the log says %q", got)
			}
		})
	}
}

// TestSyncDespiteChanges: changes without end do not hold up who waits for those before.
func TestSyncDespiteChanges(t *testing.T) {
	i, err := newInotify()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	dir := t.TempDir()
	if _, err := i.Add(dir); err != nil {
		t.Fatal(err)
	}
	changes := 0
	change := func() { // three more events for each that is handled
		changes++
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(changes%7)), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	change()
	synced := i.Sync()
	for handled := 0; handled < 5000; handled++ {
		select {
		case e := <-i.Events():
			if e.Synced != nil {
				if e.Synced != synced {
					t.Fatal("another Sync")
				}
				return
			}
			change()
		case err := <-i.Errors():
			t.Fatal(err)
		}
	}
	t.Error("the events before are not told of to the end")
}

// TestMeasuredRightAfter: an event that is on its way when the app is read is waited for.
func TestMeasuredRightAfter(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.RateBurst = 1 << 30 })
	w.declare("app", list("files", w.write("bin/main", "v", 0o755)))
	w.reload()
	w.run()
	w.watched("app")
	n := len(w.log.all())
	const rounds = 200
	for round := range rounds {
		w.replace("bin/main", fmt.Sprint(round))
		if _, err := w.Measure(t.Context(), "app"); err != nil {
			t.Fatal(err)
		}
		if s := w.app("app"); !w.Covers("app", digestOf(fmt.Sprint(round))) {
			t.Fatalf("%+v", s)
		}
		w.watched("app") // so that the next rename is the first since the reading
	}
	if got := w.since(n); len(got) != rounds {
		t.Errorf("%d records of %d changes, among them %q", len(got), rounds, got[:min(len(got), 9)])
	}
}
