// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/apps/manifest"
)

// mountHung mounts a file system over dir whose server never answers, until end is called.
func mountHung(t *testing.T, dir string) (end func()) {
	t.Helper()
	server, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs FUSE: %v", err)
	}
	if err := unix.Mount("hung", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", server.Fd())); err != nil {
		server.Close()
		t.Skipf("needs to mount FUSE: %v", err)
	}
	ended := false
	end = func() {
		if !ended {
			ended = true
			server.Close() // every call fails from now on
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(end)
	return end
}

// TestHungFileSystem: a file system that does not answer keeps its own app from being measured,
// and nothing else. Case 107.
func TestHungFileSystem(t *testing.T) {
	if !inMountNamespace(t) {
		return
	}
	w := newWorld(t, func(c *Config) { c.AnswerTimeout = 5 * time.Second })
	w.declare("hung", list("files", w.write("hung/bin", "hung", 0o755)))
	w.declareText(w.apps, "listed", fmt.Sprintf("unit = \"listed.service\"\nuser = \"1\"\ndirectories = [%q]\n", w.path("")))
	w.declareText(w.apps, "other", fmt.Sprintf("unit = \"other.service\"\nuser = \"0\"\nfiles = [%q]\n", w.write("other/bin", "1", 0o755)))
	end := mountHung(t, w.path("hung"))
	w.reload()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	defer func() { cancel(); <-done }()

	w.eventually("the reason is known", func() bool { r := w.app("hung").Reading; return r != nil && r.Stuck })
	for _, name := range []string{"hung", "listed"} {
		s, err := w.Measure(t.Context(), name)
		if hung, ok := errors.AsType[*manifest.HungError](err); !ok || !strings.HasPrefix(hung.Path, w.path("hung")) || s.Measured || s.WhyNot != err.Error() || s.Reading == nil || !s.Reading.Stuck {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	for n := range 3 {
		content := fmt.Sprint("content ", n)
		w.replace("other/bin", content)
		w.eventually("another app is followed", func() bool { return w.Covers("other", digestOf(content)) })
		if _, err := w.Measure(t.Context(), "other"); err != nil {
			t.Error(err)
		}
		w.reload()
	}
	if n := strings.Count(fmt.Sprint(w.since(0)), "does not answer"); n != 2 {
		t.Errorf("%d records say that an app is not measured, want one for each: %q", n, w.since(0))
	}
	if err := w.Watching(); err != nil {
		t.Errorf("watching: %v", err)
	}
	end()
	w.eventually("the app is measured again by itself", func() bool { return w.Covers("hung", digestOf("hung")) })
	if s := w.app("hung"); s.Reading != nil && s.Reading.Stuck {
		t.Errorf("%+v", s.Reading)
	}
}

// hang has the watcher hang in directories below dir until release is called.
func (f *fakeWatcher) hang(dir string) (hangs <-chan string, release func()) {
	in, out := make(chan string, 16), make(chan struct{})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.add = func(p string) {
		if p == dir {
			in <- p
			<-out
		}
	}
	return in, func() { close(out) }
}

// TestStuckApp: while a call for an app hangs, the app is answered for at once, its watches and
// those of others are kept, an administrator can declare it otherwise, and what the call finds
// at last counts for nothing.
func TestStuckApp(t *testing.T) {
	synctest.Test(t, stuckApp) // a call that only takes long, since the machine is slow, is not given up
}

func stuckApp(t *testing.T) {
	fake := newFakeWatcher()
	w := newWorld(t, func(c *Config) {
		c.NewWatcher = func() (Watcher, error) { return fake, nil }
		// The clock of the bubble runs while Measure waits for a tick of the kernel's.
		c.AnswerTimeout, c.Timeout, c.Rescan = 24*time.Hour, 1000*time.Hour, 1000*time.Hour
	})
	w.write("b/bin", "b", 0o755)
	w.declare("app", list("files", w.write("a/bin", "a", 0o755)))
	w.declareText(w.apps, "other", fmt.Sprintf("unit = \"other.service\"\nuser = \"0\"\nfiles = [%q]\n", w.write("other", "1", 0o755)))
	w.reload()
	w.run()
	hangs, release := fake.hang(w.path("a"))
	asked := make(chan error, 1)
	go func() { _, err := w.Measure(t.Context(), "app"); asked <- err }()
	<-hangs
	// While the agent waits for the answer.
	w.replace("other", "2")
	if _, err := w.Measure(t.Context(), "other"); err != nil {
		t.Error(err)
	}
	fake.events <- fake.at(w.path("other"))
	w.eventually("the event is handled", func() bool { return w.handled("other") })
	if err := <-asked; !strings.Contains(fmt.Sprint(err), "does not answer") {
		t.Errorf("got %v", err)
	}
	// After it was given up.
	events := len(w.log.all())
	for range 3 {
		if _, err := w.Measure(t.Context(), "app"); !strings.Contains(fmt.Sprint(err), "does not answer") {
			t.Errorf("got %v", err)
		}
	}
	if n := len(w.log.all()); n != events {
		t.Errorf("%d records without news", n-events)
	}
	select {
	case <-hangs:
		t.Error("another call of the app hangs")
	default:
	}
	if n := w.prints("app"); n != 1 {
		t.Errorf("%d footprints, want that of the last whole reading", n)
	}

	w.declare("app", list("files", w.path("b/bin")))
	w.reload()
	if !w.Covers("app", digestOf("b")) {
		t.Errorf("declared otherwise: %+v", w.app("app"))
	}
	// Two readings hang at most.
	w.declare("app", list("files", w.path("a/bin")), "# another remark")
	w.reload()
	<-hangs
	w.declare("app", list("files", w.path("a/bin")), "# a third remark")
	w.reload()
	select {
	case <-hangs:
		t.Error("a third call of the app hangs")
	default:
	}
	if s := w.app("app"); s.Measured || !strings.Contains(s.WhyNot, "does not answer") {
		t.Errorf("%+v", s)
	}
	release()
	w.eventually("it is measured again by itself", func() bool { return w.Covers("app", digestOf("a")) })
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.stuck) != 0 {
		t.Errorf("still stuck: %v", w.stuck)
	}
}

// TestReadingsOfOneApp: who asks while a reading is under way gets the next one, all who wait
// for that share it, and it is of the highest class that is asked for.
func TestReadingsOfOneApp(t *testing.T) {
	fake := newFakeWatcher()
	w := newWorld(t, func(c *Config) { c.NewWatcher = func() (Watcher, error) { return fake, nil } })
	w.declare("app", list("files", w.write("a/bin", "one", 0o755)))
	w.reload()
	w.run()
	hangs, release := fake.hang(w.path("a"))
	first, err := w.order("app", want{class: 0})
	if err != nil {
		t.Fatal(err)
	}
	<-hangs
	w.replace("a/bin", "two")
	second, _ := w.order("app", want{class: 1})
	third, _ := w.order("app", want{class: 5, fresh: true})
	fourth, _ := w.order("app", want{class: 2})
	if second == first || third != second || fourth != second {
		t.Error("who asks later shares one reading, which begins later")
	}
	w.mu.Lock()
	if first.class != 5 || second.want != (want{class: 5, fresh: true}) {
		t.Errorf("of class %d, and then %+v", first.class, second.want)
	}
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := second.wait(ctx, "app"); !errors.Is(err, context.Canceled) {
		t.Errorf("who leaves gets %v", err)
	}
	release()
	if s, err := second.wait(t.Context(), "app"); err != nil || !s.Measured || !w.Covers("app", digestOf("two")) {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestReloadInterrupts: a reading by a declaration that a reload replaces is not waited for.
func TestReloadInterrupts(t *testing.T) {
	fake := newFakeWatcher()
	w := newWorld(t, func(c *Config) { c.NewWatcher = func() (Watcher, error) { return fake, nil } })
	w.write("b/bin", "b", 0o755)
	w.declare("app", list("files", w.write("a/bin", "a", 0o755)))
	w.reload()
	w.run()
	hangs, release := fake.hang(w.path("a"))
	defer release()
	if _, err := w.order("app", want{}); err != nil {
		t.Fatal(err)
	}
	<-hangs
	w.declare("app", list("files", w.path("b/bin")))
	w.reload()
	if !w.Covers("app", digestOf("b")) {
		t.Errorf("%+v", w.app("app"))
	}
}
