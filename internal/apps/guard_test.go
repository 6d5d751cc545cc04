// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
	found := w.find(t.Context(), x, nil)
	w.declare("app", list("files", w.write("b", "b", 0o755)))
	w.reload()
	events := len(w.log.all())
	if done, err := w.conclude(t.Context(), x, found); done || err != nil || len(w.log.all()) != events {
		t.Errorf("concluded %t, %v, %d events more", done, err, len(w.log.all())-events)
	}
	if w.Covers("app", digestOf("new")) || !w.Covers("app", digestOf("b")) {
		t.Error("what an old declaration named is covered")
	}

	found = w.find(t.Context(), x, nil)
	os.Remove(filepath.Join(w.apps, "app.toml"))
	w.reload()
	if done, err := w.conclude(t.Context(), x, found); !done || !errors.Is(err, ErrUnknownApp) || len(w.log.all()) != events {
		t.Errorf("concluded %t, %v, %d events more for an app that is gone", done, err, len(w.log.all())-events)
	}
	if f := w.find(t.Context(), x, nil); !errors.Is(f.err, ErrUnknownApp) || f.manifest != nil {
		t.Errorf("an app that is gone is looked at: %v", f.err)
	}
}

// TestLinkChangedMeanwhile: what was found is what the path leads to over links that may be
// followed, or it was changed.
func TestLinkChangedMeanwhile(t *testing.T) {
	w := newWorld(t)
	a, b := w.write("a", "a", 0o755), w.write("b", "b", 0o755)
	symlink(t, "a", w.path("link"))
	h, err := find(unix.AT_FDCWD, a, false)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	for _, p := range []string{a, w.path("link")} {
		if err := checkLinks(p, h, a); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	var changed *ChangedError
	for _, p := range []string{b, w.path("gone"), w.path("a/b")} {
		if err := checkLinks(p, h, a); !errors.As(err, &changed) {
			t.Errorf("%s: %v, want a changed error", p, err)
		}
	}
	if !h.at(a) || h.at(b) || h.at(w.path("link")) || h.at(w.path("gone")) {
		t.Error("a handle is where it is, and nowhere else")
	}
	other := *h
	other.st.Dev++
	if other.at(a) {
		t.Error("the same inode number on another device is another file")
	}
	if public(w.path("gone")) || public(a) || !public("/") {
		t.Error("everybody may go to directories that are there and open, and to nothing else")
	}
}

// TestDependents: an app is measured again for the names that it looked at, for the
// directories that it read, and for those directories themselves, which may be moved away.
func TestDependents(t *testing.T) {
	f := follower{}
	f.start(newFakeWatcher(), nil)
	dir, read := t.TempDir(), t.TempDir()
	s := f.begin("app")
	s.see(dir, "name")
	s.see(read, unnamed)
	s.commit(true)
	for p, want := range map[string]int{
		dir + "/name": 1, dir + "/other": 0, dir: 1,
		read + "/name": 1, read + "/other": 1, read: 1,
		t.TempDir(): 0, "/nowhere/name": 0, filepath.Dir(dir): 0,
	} {
		if got := f.dependents(p); len(got) != want {
			t.Errorf("%s concerns %q, want %d", p, got, want)
		}
	}
	// What nobody looks at any more concerns nobody, though events of it are on their way.
	s = f.begin("app")
	s.see(read, unnamed)
	s.commit(true)
	if got := f.dependents(dir + "/name"); len(got) != 0 {
		t.Errorf("a directory that is not watched concerns %q", got)
	}
}

// TestMissingDirectoriesAreFollowed: what is not there yet is no failure of the watching.
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

// TestChangingAppIsTriedAgain: an app that would not hold still is looked at again soon,
// with nobody asking.
func TestChangingAppIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.declare("app", list("files", w.write("a", "a", 0o755)))
	w.reload()
	x := w.Apps.apps["app"]
	f := finding{declaration: x.declaration, err: &ChangedError{Path: w.path("a")}}
	if done, err := w.conclude(t.Context(), x, f); !done || err == nil || w.app("app").Measured {
		t.Fatalf("concluded %t, %v", done, err)
	}
	if names, _ := w.pending.take(time.Now().Add(retryAfterChanging)); len(names) != 1 {
		t.Errorf("due are %q", names)
	}
}

// TestHeldBackIsToldOnce: that changes go unrecorded is recorded once, and again where it
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
		if n, want := w.log.count(pcr.EventGap), i/2; n != min(want, 1) {
			t.Errorf("after change %d: %d gaps", i, n)
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
	if len(more) != 1 || more[0].App == nil || more[0].App.App != "dropped" {
		t.Errorf("recorded again: %+v", more)
	}
}

// TestOverrideOfARefusedDeclaration: a good file of the administrator stands for a broken
// one of a package, and a name that is not allowed fails the whole.
func TestOverrideOfARefusedDeclaration(t *testing.T) {
	packages, overrides := twoDirectories(t)
	put(t, packages, "a.toml", "unit = 1\n")
	put(t, overrides, "a.toml", declarationText("a.service"))
	s, err := loadFrom(packages, overrides)
	if err != nil || len(s.refused) != 0 || s.declarations["a"] == nil {
		t.Errorf("%+v, %v", s, err)
	}
	put(t, overrides, "b c.toml", declarationText("b.service"))
	if s, err := loadFrom(packages, overrides); err == nil || !strings.Contains(err.Error(), `app name "b c"`) {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestOnePathTwoFindings: a path that is reached twice in one reading, and looks different
// the second time, was changed in between.
func TestOnePathTwoFindings(t *testing.T) {
	s := scan{entries: map[string]pcr.ManifestEntry{}}
	e := pcr.ManifestEntry{Path: "/a", Mode: 0o100755, Digest: digestOf("one")}
	if err := errors.Join(s.add(e), s.add(e)); err != nil || len(s.entries) != 1 {
		t.Errorf("%v, %v", s.entries, err)
	}
	e.Digest = digestOf("two")
	var changed *ChangedError
	if err := s.add(e); !errors.As(err, &changed) || changed.Path != "/a" {
		t.Errorf("got %v, want a changed error", err)
	}
	// A name that is gone since it was listed is not there; no reading fails of it.
	s = scan{ctx: t.Context(), declaration: &Declaration{Directories: []string{"/d"}}}
	if err := s.child(unix.AT_FDCWD, "/d/gone", 1); err != nil {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s.ctx = ended
	if err := s.child(unix.AT_FDCWD, "/d/gone", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v after the end", err)
	}
}

// TestTree: in a tree of a package a path leads to what stands there, and nothing outside
// it has a name.
func TestTree(t *testing.T) {
	root := packageRoot(t)
	tr, err := openTree(root)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.close()
	h, err := tr.find("/usr/bin/absolute", true)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	if p, err := tr.path(h); err != nil || p != "/usr/bin/demo" {
		t.Errorf("%q, %v", p, err)
	}
	if !tr.leads("/usr/bin/demo", h) || tr.leads("/usr/lib/demo/a.so", h) || tr.leads("/usr/bin/none", h) || tr.leads("/usr/bin/absolute", h) {
		t.Error("a path leads to what stands there, and to nothing else")
	}
	other := *h
	other.st.Dev++
	if tr.leads("/usr/bin/demo", &other) {
		t.Error("the same inode number on another device is another file")
	}
	outside, err := find(unix.AT_FDCWD, "/", false)
	if err != nil {
		t.Fatal(err)
	}
	defer outside.close()
	if p, err := tr.path(outside); err == nil {
		t.Errorf("what is outside is called %q", p)
	}
}
