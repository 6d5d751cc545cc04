// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/pcr"
)

// TestFollowsChanges: every way in which the content of a declared path changes is
// noticed, without a request.
func TestFollowsChanges(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(w *world)
	}{
		{"renamed over, as packages do", func(w *world) { w.replace("releases/1/bin", "new") }},
		{"written in place", func(w *world) { w.write("releases/1/bin", "new", 0o755) }},
		{"removed and made again", func(w *world) { os.Remove(w.path("releases/1/bin")); w.write("releases/1/bin", "new", 0o755) }},
		{"link turned", func(w *world) {
			symlink(w.t, "2", w.path("releases/current.new"))
			os.Rename(w.path("releases/current.new"), w.path("releases/current"))
		}},
		{"directory replaced", func(w *world) {
			w.write("fresh/bin", "new", 0o755)
			os.Rename(w.path("releases/1"), w.path("old"))
			os.Rename(w.path("fresh"), w.path("releases/1"))
		}},
		{"parent replaced", func(w *world) {
			w.write("fresh/1/bin", "new", 0o755)
			symlink(w.t, "1", w.path("fresh/current"))
			unix.Renameat2(unix.AT_FDCWD, w.path("fresh"), unix.AT_FDCWD, w.path("releases"), unix.RENAME_EXCHANGE)
		}},
		{"parent removed and made again", func(w *world) {
			os.RemoveAll(w.path("releases"))
			w.eventually("its loss is noticed", func() bool { return !w.app("app").Measured })
			w.write("releases/1/bin", "new", 0o755)
			symlink(w.t, "1", w.path("releases/current"))
		}},
	} {
		for _, key := range []string{"files", "directories"} {
			t.Run(c.name+", "+key, func(t *testing.T) {
				w := newWorld(t)
				w.write("releases/1/bin", "old", 0o755)
				w.write("releases/2/bin", "new", 0o755)
				symlink(t, "1", w.path("releases/current"))
				declared := w.path("releases/current")
				if key == "files" {
					declared += "/bin"
				}
				w.declare("app", list(key, declared))
				w.reload()
				w.run()
				if !w.Covers("app", digestOf("old")) {
					t.Fatalf("before: %+v", w.app("app"))
				}
				c.change(w)
				w.eventually("the new content is covered", func() bool { return w.Covers("app", digestOf("new")) && !w.Covers("app", digestOf("old")) })
				// And the watches are still set.
				old := w.path("releases/current")
				if real, err := filepath.EvalSymlinks(old); err != nil || os.WriteFile(filepath.Join(real, "bin"), []byte("newer"), 0o755) != nil {
					t.Fatal(err)
				}
				w.eventually("the change after it is noticed, too", func() bool { return w.Covers("app", digestOf("newer")) })
				if err := w.follow.state(); err != nil || w.log.count(pcr.EventGap) != 0 {
					t.Errorf("watching: %v, %d gaps", err, w.log.count(pcr.EventGap))
				}
			})
		}
	}
}

func TestFollowsNewSubdirectories(t *testing.T) {
	w := newWorld(t)
	w.write("dir/file", "file", 0o755)
	w.declare("app", list("directories", w.path("dir")))
	w.reload()
	w.run()
	for _, name := range []string{"dir/a/b/c/x", "dir/a/b/y", "dir/z"} {
		w.write(name, name, 0o755)
		w.eventually(name+" is covered", func() bool { return w.Covers("app", digestOf(name)) })
	}
	// A file that is not part of the app does not matter.
	events := len(w.log.all())
	w.write("elsewhere", "", 0o644)
	w.write("dir/z", "dir/z again", 0o755)
	w.eventually("the last change is covered", func() bool { return w.Covers("app", digestOf("dir/z again")) })
	if n := len(w.log.all()); n != events+1 && n != events+2 { // written in two steps: empty first
		t.Errorf("%d events after %d", n, events)
	}
}

func TestFollowsWhatReloadBrings(t *testing.T) {
	w := newWorld(t)
	w.write("a", "a", 0o755)
	w.write("b", "b", 0o755)
	w.declare("one", list("files", w.path("a")))
	w.reload()
	w.run()
	w.declare("two", list("files", w.path("b")))
	w.reload()
	w.replace("b", "b2")
	w.eventually("the added app is followed", func() bool { return w.Covers("two", digestOf("b2")) })
	os.Remove(filepath.Join(w.apps, "two.toml"))
	os.Remove(filepath.Join(w.apps, "one.toml"))
	w.reload()
	w.follow.mu.Lock()
	defer w.follow.mu.Unlock()
	f := &w.follow.shared
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.prints) != 0 || len(f.watched) != 0 || len(w.follow.own) != 0 {
		t.Errorf("watches of apps that are gone: %v, %v, %v", f.prints, f.watched, w.follow.own)
	}
}

// fakeWatcher sees nothing but what a test tells it.
type fakeWatcher struct {
	mu     sync.Mutex
	dirs   map[string]Watch
	fail   error        // of Add
	add    func(string) // called by Add; may be nil
	events chan Event
	errs   chan error
}

func newFakeWatcher() *fakeWatcher {
	return &fakeWatcher{dirs: make(map[string]Watch), events: make(chan Event), errs: make(chan error)}
}

func (f *fakeWatcher) Add(dir string) (Watch, error) {
	f.mu.Lock()
	add := f.add
	f.mu.Unlock()
	if add != nil {
		add(dir)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return -1, f.fail
	}
	if _, err := os.Stat(dir); err != nil {
		return -1, err
	}
	if f.dirs[dir] == 0 {
		f.dirs[dir] = Watch(len(f.dirs) + 1)
	}
	return f.dirs[dir], nil
}

func (f *fakeWatcher) Sync() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}

func (f *fakeWatcher) Remove(Watch) error { return nil }

// at is the event of a change of p, seen from its directory or, if that is not watched, from
// itself.
func (f *fakeWatcher) at(p string) Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	if dir := f.dirs[filepath.Dir(p)]; dir != 0 {
		return Event{Watch: dir, Name: filepath.Base(p)}
	}
	return Event{Watch: f.dirs[p]}
}

func (f *fakeWatcher) Events() <-chan Event { return f.events }
func (f *fakeWatcher) Errors() <-chan error { return f.errs }
func (f *fakeWatcher) Close() error         { return nil }

// TestOverflow: if events were lost, everything that they may have told of is looked at again, and
// the log says so (case 19). Here both apps use one queue.
func TestOverflow(t *testing.T) {
	fake := newFakeWatcher()
	w := newWorld(t, func(c *Config) {
		c.NewWatcher = func() (Watcher, error) { return fake, nil }
		c.RateBurst, c.RateEvery = 6, time.Hour
	})
	for _, name := range []string{"a", "b"} {
		w.declare(name, list("files", w.write(name, name, 0o755)))
	}
	w.reload()
	w.run()
	w.watched("a")
	w.watched("b")
	w.replace("a", "a2")
	w.replace("b", "b2")
	fake.errs <- ErrOverflow
	w.eventually("both are measured again", func() bool { return w.Covers("a", digestOf("a2")) && w.Covers("b", digestOf("b2")) })
	lost := 0
	for _, e := range w.log.all() {
		if e.Unmeasured != nil && strings.Contains(e.Unmeasured.Reason, "lost") {
			lost++
		}
	}
	if lost != 2 {
		t.Errorf("%d records say that events were lost, want one for each app", lost)
	}

	// An attacker who makes it overflow without end fills no log. What the log cannot say is not
	// claimed.
	x := w.Apps.apps["a"]
	for n := range 40 {
		w.replace("a", fmt.Sprint(n))
		fake.errs <- ErrOverflow
		w.eventually("it is looked at again, or held back", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return x.events == x.handled || !x.measured
		})
	}
	w.eventually("nothing is claimed", func() bool { return !w.app("a").Measured })
	if n := len(w.log.all()); n > 2*(6+2) || w.log.count(pcr.EventGap) != 0 {
		t.Errorf("%d records, %d gaps: the burst of each app is 6", n, w.log.count(pcr.EventGap))
	}
}

// TestOverflowIsOfOneApp: a user who can write the files of one app makes its queue of events
// overflow. The coverage of that app ends, and that of no other.
func TestOverflowIsOfOneApp(t *testing.T) {
	var mu sync.Mutex
	var fakes []*fakeWatcher // the shared one, then one for each app in the order of their readings
	w := newWorld(t, func(c *Config) {
		c.Queues = 2
		c.NewWatcher = func() (Watcher, error) {
			mu.Lock()
			defer mu.Unlock()
			fakes = append(fakes, newFakeWatcher())
			return fakes[len(fakes)-1], nil
		}
	})
	for _, name := range []string{"calm", "flooded", "third"} {
		w.declare(name, list("files", w.write(name+"/bin", name, 0o755)))
	}
	w.reload()
	w.run()
	w.follow.mu.Lock()
	if own, shared := len(w.follow.own), len(w.follow.names); own != 2 || shared != 1 {
		t.Errorf("%d apps have a queue, %d share one", own, shared)
	}
	w.follow.mu.Unlock()
	own := func(app string) bool {
		w.follow.mu.Lock()
		defer w.follow.mu.Unlock()
		return w.follow.own[app] != nil
	}
	queue := func(app string) *fakeWatcher {
		return w.follow.existing(app).watcher.(*fakeWatcher)
	}
	for _, app := range []string{"calm", "flooded", "third"} {
		w.watched(app)
	}
	for _, flooded := range []string{"flooded", "third"} {
		calm := w.app("calm")
		before := w.app(flooded)
		n := len(w.log.all())
		w.replace(flooded+"/bin", "evil")
		w.replace(flooded+"/bin", flooded)
		queue(flooded).errs <- ErrOverflow
		w.eventually("a new interval begins", func() bool { s := w.app(flooded); return s.Measured && s.From != before.From })
		got := w.since(n)
		if len(got) != 2 || !strings.HasPrefix(got[0], "unmeasured "+flooded) || !strings.Contains(got[0], "events of its files were lost") ||
			!strings.HasPrefix(got[1], "same "+flooded+" false") {
			t.Errorf("the log says %q", got)
		}
		if s := w.app("calm"); s.Record != calm.Record || s.From != calm.From || !s.Measured {
			t.Errorf("the app beside: %+v, was %+v", s, calm)
		}
	}
	// An app that is gone gives its queue back.
	gone := "flooded"
	if !own(gone) {
		gone = "third"
	}
	os.Remove(filepath.Join(w.apps, gone+".toml"))
	w.reload()
	w.declare("fourth", list("files", w.write("fourth/bin", "fourth", 0o755)))
	w.reload()
	if !own("fourth") {
		t.Errorf("queues: %v", w.follow.own)
	}
}

// TestUnchangedOverflow: if the files of an app cannot have changed, lost events end nothing.
func TestUnchangedOverflow(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs files of root")
	}
	fake := newFakeWatcher()
	w := newWorld(t, func(c *Config) { c.NewWatcher = func() (Watcher, error) { return fake, nil } })
	w.declare("app", list("files", w.write("bin/app", "app", 0o755)))
	w.reload()
	w.run()
	w.settled("app")
	before, n := w.app("app"), len(w.log.all())
	fake.errs <- ErrOverflow
	x := w.Apps.apps["app"]
	w.eventually("it is measured again", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return x.lost > 0 && x.handled >= x.lost
	})
	if got := w.since(n); len(got) != 0 || w.app("app").From != before.From || !w.app("app").Measured {
		t.Errorf("the log says %q, %+v", got, w.app("app"))
	}
}

// TestInotifyReportsOverflow lets the kernel's own queue overflow, if it is short enough.
func TestInotifyReportsOverflow(t *testing.T) {
	queue, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	var n int
	if err != nil || func() error { _, err := fmt.Sscan(string(queue), &n); return err }() != nil || n > 1<<15 {
		t.Skipf("the queue of inotify is too long to fill: %s, %v", queue, err)
	}
	i, err := newInotify()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	dir := t.TempDir()
	if _, err := i.Add(dir); err != nil {
		t.Fatal(err)
	}
	// Nothing is read: the buffer of the agent fills, then the kernel's.
	for k := range 2 * (n + 8192) {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(k%7)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.After(patience)
	for {
		select {
		case <-i.Events():
		case err := <-i.Errors():
			if !errors.Is(err, ErrOverflow) {
				t.Fatalf("got %v", err)
			}
			return
		case <-deadline:
			t.Fatal("no overflow was reported")
		}
	}
}

// TestWatchLimit: without watches the state says so and what to do, the log has a gap,
// and changes are found by looking.
func TestWatchLimit(t *testing.T) {
	fake := newFakeWatcher()
	fake.fail = fmt.Errorf("add watch: %w", unix.ENOSPC)
	w := newWorld(t, func(c *Config) {
		c.NewWatcher = func() (Watcher, error) { return fake, nil }
		c.Rescan = 20 * time.Millisecond
	})
	w.declare("app", list("files", w.write("bin", "one", 0o755)))
	w.reload()
	if err := w.follow.state(); err == nil {
		t.Error("nothing watches yet")
	}
	w.run()
	w.eventually("the gap is recorded", func() bool { return w.log.count(pcr.EventGap) == 1 })
	if err := w.follow.state(); err == nil || !strings.Contains(err.Error(), "fs.inotify.max_user_watches") {
		t.Errorf("watching: %v", err)
	}
	w.replace("bin", "two")
	w.eventually("the rescan finds the change", func() bool { return w.Covers("app", digestOf("two")) })
	fake.mu.Lock()
	fake.fail = nil
	fake.mu.Unlock()
	w.eventually("watching is tried again", func() bool { return w.follow.state() == nil })
	if n := w.log.count(pcr.EventGap); n != 1 {
		t.Errorf("%d gaps, want 1", n)
	}
}

func TestNoWatcher(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.NewWatcher = func() (Watcher, error) { return nil, errNoWatch }
	})
	w.declare("app", list("files", w.write("bin", "one", 0o755)))
	w.reload()
	w.run()
	w.eventually("the gap is recorded", func() bool { return w.log.count(pcr.EventGap) == 1 })
	if err := w.follow.state(); !errors.Is(err, errNoWatch) {
		t.Errorf("watching: %v", err)
	}
	w.eventually("it is measured again after the gap", func() bool { return w.app("app").Measured })
}

// following is a follower that the kernel tells of changes.
func following(t *testing.T) *follower {
	t.Helper()
	w, err := newInotify()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	f := &follower{}
	f.start(w, nil)
	return f
}

// TestDirectoryWithTwoNames: one directory under two names is one watch of
// the kernel, whose events bear the first name (case 14).
func TestDirectoryWithTwoNames(t *testing.T) {
	f := following(t)
	dir := t.TempDir()
	alias := filepath.Join(t.TempDir(), "alias")
	symlink(t, dir, alias) // imitates a bind mount: another path, the same inode
	for app, d := range map[string]string{"a": dir, "b": alias} {
		s := f.begin(app)
		s.see(d, "file")
		s.commit(true)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	select {
	case p := <-f.watcher.Events():
		if apps := f.dependents(p); len(apps) != 2 {
			t.Errorf("%+v concerns %q, want both", p, apps)
		}
	case <-time.After(patience):
		t.Fatal("no event")
	}
	f.forget("a")
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for end := time.After(patience); ; {
		select {
		case p := <-f.watcher.Events():
			if apps := f.dependents(p); len(apps) == 1 {
				return
			}
		case <-end:
			t.Fatal("the other app is no longer followed")
		}
	}
}

func TestSchedule(t *testing.T) {
	t0 := time.Now()
	at := func(d time.Duration) time.Time { return t0.Add(d) }
	s := newSchedule()
	s.touch("app", at(0), 200*time.Millisecond)
	if names, wait := s.take(at(0)); len(names) != 0 || wait != 200*time.Millisecond {
		t.Errorf("%q, %v", names, wait)
	}
	for i := range 30 { // a file that never rests is measured all the same
		s.touch("app", at(time.Duration(i)*100*time.Millisecond), 200*time.Millisecond)
	}
	if names, _ := s.take(at(maxDebounce)); len(names) != 1 {
		t.Errorf("not due after %v", maxDebounce)
	}
	s.retry("app", at(time.Minute))
	s.touch("app", at(time.Second), time.Millisecond)
	if names, _ := s.take(at(2 * time.Second)); len(names) != 1 {
		t.Error("a change does not make a retry earlier")
	}
	s.hold("app", at(time.Minute))
	s.touch("app", at(time.Second), time.Millisecond)
	s.retry("app", at(2*time.Minute))
	if names, wait := s.take(at(2 * time.Second)); len(names) != 0 || wait != 58*time.Second {
		t.Errorf("%q before the log may take it, %v", names, wait)
	}
	if names, _ := s.take(at(time.Minute)); len(names) != 1 {
		t.Error("not measured later")
	}
}

// TestFewQueues: an agent that may open few descriptors leaves them to what it measures.
func TestFewQueues(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
	for limit, most := range map[uint64]int{256: 4, 1024: 16, 16384: 96} {
		if limit > old.Cur {
			continue
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: old.Max}); err != nil {
			t.Fatal(err)
		}
		if w := newWorld(t); w.follow.limit != most {
			t.Errorf("%d queues of %d descriptors, want %d", w.follow.limit, limit, most)
		}
	}
}

// TestUnwatchedApp: a directory of one app that cannot be watched, such as one over which its user
// mounted something, ends the coverage of no other app. That app is covered on only if its files
// cannot have changed.
func TestUnwatchedApp(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Queues = 2
		c.NewWatcher = func() (Watcher, error) { return newFakeWatcher(), nil }
	})
	for _, name := range []string{"calm", "blind"} {
		w.declare(name, list("files", w.write(name+"/bin", name, 0o755)))
	}
	w.reload()
	w.run()
	w.watched("calm")
	w.watched("blind")
	calm, n := w.app("calm"), len(w.log.all())
	queue := w.follow.existing("blind").watcher.(*fakeWatcher)
	queue.mu.Lock()
	queue.fail = unix.EACCES
	queue.mu.Unlock()
	if _, err := w.Measure(t.Context(), "blind"); err != nil {
		t.Fatal(err)
	}
	if err := w.Watching(); !errors.Is(err, unix.EACCES) {
		t.Errorf("watching: %v", err)
	}
	w.replace("blind/bin", "evil")
	w.replace("blind/bin", "blind")
	w.eventually("the change is found by looking", func() bool {
		w.Measure(t.Context(), "blind")
		got := w.since(n)
		return slices.ContainsFunc(got, func(s string) bool { return s == "gap" || strings.HasPrefix(s, "unmeasured blind") })
	})
	w.Measure(t.Context(), "calm")
	if s := w.app("calm"); s.From != calm.From || s.Record != calm.Record || !s.Measured || w.log.count(pcr.EventGap) != 0 {
		t.Errorf("the app beside: %+v, was %+v; the log says %q", s, calm, w.since(n))
	}
}

// TestStateIsStable: of several queues that fail, it is always the same that is told of.
func TestStateIsStable(t *testing.T) {
	q := queues{own: map[string]*follower{}}
	q.shared.start(newFakeWatcher(), nil)
	defer q.shared.start(nil, errNoWatch)
	for i := range 8 {
		f := new(follower)
		f.start(nil, fmt.Errorf("queue %d", i))
		q.own[fmt.Sprint(i)] = f
	}
	for range 100 {
		if err := q.state(); err == nil || !strings.Contains(err.Error(), "queue 0") {
			t.Fatal(err)
		}
	}
}
