// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/apps/declaration"
)

// pass waits until a change moves a change time that was moved before.
func (f traced) pass() {
	t := f.t
	t.Helper()
	p := f.path("elsewhere/clock")
	stamp := func() unix.Timespec {
		var st unix.Stat_t
		if err := errors.Join(os.WriteFile(p, nil, 0o600), os.Chmod(p, 0o600), unix.Stat(p, &st)); err != nil {
			t.Fatal(err)
		}
		return st.Ctim
	}
	for first, deadline := stamp(), time.Now().Add(time.Minute); stamp() == first; {
		if time.Now().After(deadline) {
			t.Fatal("the clock of the file system stands still")
		}
	}
}

// traced is a tree of files with an app: a file, a link, and a directory.
type traced struct {
	files
	d *declaration.Declaration
}

func newTraced(t *testing.T) traced {
	f := newFiles(t)
	for _, dir := range []string{"opt", "opt/app", "opt/app/bin", "opt/app/plugins", "opt/app/plugins/sub", "opt/app/v1", "elsewhere"} {
		if err := os.Mkdir(f.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	f.write("opt/app/bin/main", "main", 0o755)
	f.write("opt/app/plugins/a", "a", 0o644)
	f.write("opt/app/plugins/sub/b", "b", 0o644)
	f.write("opt/app/v1/tool", "tool", 0o755)
	if err := errors.Join(os.Symlink("v1", f.path("opt/app/current")), os.Symlink("bin/main", f.path("opt/app/run"))); err != nil {
		t.Fatal(err)
	}
	return traced{f, &declaration.Declaration{
		Name: "app", Files: []string{f.path("opt/app/bin/main"), f.path("opt/app/run"), f.path("opt/app/current/tool")},
		Directories: []string{f.path("opt/app/plugins")},
	}}
}

func (f traced) read() *Trace {
	f.t.Helper()
	r, err := NewReader(1, 0).Read(f.t.Context(), f.d, Look{})
	if err != nil {
		f.t.Fatal(err)
	}
	return r.Trace
}

// TestTraceSince goes through everything that can be done to the files of an app while no
// agent looks and be undone again, and through what does not touch them. Case 98.
func TestTraceSince(t *testing.T) {
	swap := func(name string) func(traced) error {
		return func(f traced) error {
			p, away := f.path(name), f.path("elsewhere/kept")
			return errors.Join(os.Rename(p, away), os.Mkdir(p, 0o755), os.Remove(p), os.Rename(away, p))
		}
	}
	for name, c := range map[string]struct {
		do   func(traced) error
		want string // in the error; empty if nothing of the app can have changed
	}{
		"nothing":                     {func(traced) error { return nil }, ""},
		"another file beside":         {func(f traced) error { return os.WriteFile(f.path("opt/app/bin/other"), nil, 0o600) }, ""},
		"another directory beside":    {func(f traced) error { return os.Mkdir(f.path("opt/other"), 0o755) }, ""},
		"read":                        {func(f traced) error { _, err := os.ReadFile(f.path("opt/app/bin/main")); return err }, ""},
		"touched":                     {func(f traced) error { now := time.Now(); return os.Chtimes(f.path("opt/app/bin/main"), now, now) }, `main" was changed`},
		"written with the same bytes": {func(f traced) error { return os.WriteFile(f.path("opt/app/bin/main"), []byte("main"), 0o755) }, `main" was changed`},
		"mode changed and changed back": {func(f traced) error {
			p := f.path("opt/app/bin/main")
			return errors.Join(os.Chmod(p, 0o700), os.Chmod(p, 0o755))
		}, `main" was changed`},
		"file renamed away and back":          {swap("opt/app/bin/main"), `main" was changed`},
		"file linked, replaced, put back":     {func(f traced) error { return relink(f.path("opt/app/bin/main"), f.path("elsewhere/kept")) }, `main" was changed`},
		"its directory renamed away and back": {swap("opt/app/bin"), `bin" may have been replaced`},
		"a directory above renamed":           {swap("opt"), `opt" may have been replaced`},
		"directory in between renamed":        {swap("opt/app"), `app" may have been replaced`},
		"declared link turned and back":       {func(f traced) error { return exchange(f.path("opt/app/run"), "v1/tool", "bin/main") }, `run" was changed`},
		"link on the way turned and back":     {func(f traced) error { return exchange(f.path("opt/app/current"), "bin", "v1") }, `current" was changed`},
		"link on the way renamed":             {swap("opt/app/current"), `current" was changed`},
		"target of the way renamed":           {swap("opt/app/v1"), `v1" may have been replaced`},
		"file added to a listed directory, and removed": {func(f traced) error {
			p := f.path("opt/app/plugins/evil")
			return errors.Join(os.WriteFile(p, nil, 0o600), os.Remove(p))
		}, `plugins" was changed`},
		"the same below it": {func(f traced) error {
			p := f.path("opt/app/plugins/sub/evil")
			return errors.Join(os.WriteFile(p, nil, 0o600), os.Remove(p))
		}, `sub" was changed`},
		"directory added to a listed one":  {func(f traced) error { return os.Mkdir(f.path("opt/app/plugins/new"), 0o755) }, `plugins" was changed`},
		"file below a listed directory":    {swap("opt/app/plugins/sub/b"), `b" was changed`},
		"the directory below a listed one": {swap("opt/app/plugins/sub"), `plugins" was changed`},
		"both a directory and its own": {func(f traced) error {
			return errors.Join(os.WriteFile(f.path("opt/x"), nil, 0o600), os.WriteFile(f.path("opt/app/x"), nil, 0o600))
		}, `may have been replaced`},
		"replaced by a copy": {func(f traced) error {
			return errors.Join(os.Rename(f.path("opt/app/bin"), f.path("elsewhere/bin")), os.CopyFS(f.path("opt/app/bin"), os.DirFS(f.path("elsewhere/bin"))))
		}, `main" was changed`},
		"directory replaced by a link to it": {func(f traced) error {
			return errors.Join(os.Rename(f.path("opt/app/bin"), f.path("elsewhere/bin")), os.Symlink(f.path("elsewhere/bin"), f.path("opt/app/bin")))
		}, `was not there before`},
	} {
		t.Run(name, func(t *testing.T) {
			f := newTraced(t)
			f.pass()
			before := f.read()
			f.pass()
			if err := c.do(f); err != nil {
				t.Fatal(err)
			}
			err := f.read().Since(before)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// relink keeps a file under another name, has another in its place, and puts it back.
func relink(p, away string) error {
	return errors.Join(os.Link(p, away), os.Remove(p), os.WriteFile(p, []byte("evil"), 0o755), os.Rename(away, p))
}

// exchange makes a link lead to another place, and back.
func exchange(p, other, first string) error {
	next := p + ".next"
	return errors.Join(os.Symlink(other, next), os.Rename(next, p), os.Symlink(first, next), os.Rename(next, p))
}

// TestTraceGuarded: what another user than root can replace or write is not guarded.
func TestTraceGuarded(t *testing.T) {
	const dir, file = `replace files in "`, `may write "`
	for name, c := range map[string]struct {
		do   func(traced) error
		want map[string]string // by path: why not; empty if it is guarded
	}{
		"as it was": {func(traced) error { return nil }, map[string]string{"bin/main": "", "v1/tool": "", "current/tool": "", "current": "", "plugins/sub/b": ""}},
		"directory of a file": {func(f traced) error { return os.Chmod(f.path("opt/app/bin"), 0o775) },
			map[string]string{"bin/main": dir, "plugins/a": ""}},
		"directory that a link leads to": {func(f traced) error { return os.Chmod(f.path("opt/app/v1"), 0o757) },
			map[string]string{"current/tool": dir, "bin/main": "", "current": ""}},
		"directory of links": {func(f traced) error { return os.Chmod(f.path("opt/app"), 0o777) },
			map[string]string{"current": dir, "run": dir, "bin/main": "", "current/tool": ""}},
		"below a listed directory": {func(f traced) error { return os.Chmod(f.path("opt/app/plugins/sub"), 0o777) },
			map[string]string{"plugins/sub/b": dir, "plugins/a": ""}},
		"file": {func(f traced) error { return os.Chmod(f.path("opt/app/plugins/a"), 0o664) },
			map[string]string{"plugins/a": file, "bin/main": file}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newTraced(t)
			if err := c.do(f); err != nil {
				t.Fatal(err)
			}
			trace := f.read()
			for p, want := range c.want {
				err := trace.Guarded(f.path("opt/app/" + p))
				if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %v, want %q", p, err, want)
				}
			}
		})
	}
	trace := newTraced(t).read()
	trace.on("/boot/efi", unix.MSDOS_SUPER_MAGIC)
	if err := trace.Guarded("/x"); err == nil || !strings.Contains(err.Error(), "/boot/efi") {
		t.Errorf("on FAT: %v", err)
	}
}

// TestTraceSettled: a trace tells nothing if a later change need not show.
func TestTraceSettled(t *testing.T) {
	f := newTraced(t)
	old := func() *Trace { // as it is when the files have been there for a while
		trace := f.read()
		trace.last, trace.lastWay = trace.last.Add(-time.Hour), trace.lastWay.Add(-time.Hour)
		return trace
	}
	if wait, err := old().Settled(); err != nil || wait != 0 {
		t.Errorf("settled: %v, wait %v", err, wait)
	}
	for began := (time.Time{}); time.Since(began) >= cacheAge; { // a slow machine reads what has settled
		began = time.Now()
		f.write("opt/app/plugins/a", "a", 0o644)
		if wait, err := f.read().Settled(); (err == nil || wait <= 0 || wait > cacheAge) && time.Since(began) < cacheAge {
			t.Errorf("right after a change: %v, wait %v", err, wait)
		}
	}
	busy := old()
	busy.lastWay = busy.looked.Add(SettleTime / 2)
	if wait, err := busy.Settled(); err == nil || wait != SettleTime/2 {
		t.Errorf("right after a change of a directory on the way: %v, wait %v", err, wait)
	}
	future := old()
	future.last = time.Now().Add(time.Hour)
	if wait, err := future.Settled(); err == nil || wait != 0 {
		t.Errorf("changed in the future: %v, wait %v", err, wait)
	}
	for _, mode := range []os.FileMode{0o775, 0o757, 0o666} {
		if err := os.Chmod(f.path("opt/app/plugins/a"), mode); err != nil {
			t.Fatal(err)
		}
		if wait, err := old().Settled(); err == nil || wait != 0 || !strings.Contains(err.Error(), `plugins/a"`) {
			t.Errorf("mode %o: %v, wait %v", mode, err, wait)
		}
	}
	if err := os.Chmod(f.path("opt/app/plugins/a"), 0o644); err != nil {
		t.Fatal(err)
	}
	trace := old()
	trace.on("/boot/efi", unix.MSDOS_SUPER_MAGIC)
	if _, err := trace.Settled(); err == nil || !strings.Contains(err.Error(), "/boot/efi") {
		t.Errorf("on FAT: %v", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root to give a file away")
	}
	if err := os.Chown(f.path("opt/app/bin/main"), 12345, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := old().Settled(); err == nil || !strings.Contains(err.Error(), `bin/main"`) {
		t.Errorf("of another user: %v", err)
	}
}
