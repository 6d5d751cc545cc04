// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/pcr"
)

func digestOf(s string) evidence.Digest { return sha256.Sum256([]byte(s)) }

// manifestText is one line an entry, paths below the world's files.
func (w *world) manifestText(m []pcr.ManifestEntry) string {
	var b strings.Builder
	for _, e := range m {
		fmt.Fprintf(&b, "%s %o %d %.4s\n", strings.TrimPrefix(e.Path, w.files+"/"), e.Mode, e.Size, e.Digest)
	}
	return b.String()
}

func symlink(t *testing.T, target, p string) {
	t.Helper()
	if err := os.Symlink(target, p); err != nil {
		t.Fatal(err)
	}
}

func TestManifest(t *testing.T) {
	w := newWorld(t)
	w.write("bin/daemon", "daemon", 0o755)
	w.write("bin/setuid", "setuid", 0o755)
	if err := os.Chmod(w.path("bin/setuid"), 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	w.write("releases/42/main.py", "main", 0o644)
	w.write("releases/42/lib/b.py", "b", 0o600)
	w.write("releases/42/lib/a.py", "", 0o644)
	w.write("releases/42/lib/a.pyc", "compiled", 0o644)
	w.write("releases/42/cache/x", "x", 0o644)
	w.write("releases/42/cache/keep/y", "y", 0o644)
	symlink(t, "../../outside", w.path("releases/42/dangling"))
	symlink(t, "lib", w.path("releases/42/linkdir"))
	symlink(t, "42", w.path("releases/current"))
	symlink(t, "../bin/daemon", w.path("releases/daemon"))
	symlink(t, "releases/daemon", w.path("daemon"))

	w.declare("app",
		list("files", w.path("daemon"), w.path("bin/setuid"), w.path("releases/current/main.py")),
		list("directories", w.path("releases/current"), w.path("releases/42/lib")),
		list("exclude", "*.pyc", w.path("releases/42/cache/k*")))
	w.reload()
	e := w.log.last(t)
	line := func(path string, mode uint32, content string) string {
		return fmt.Sprintf("%s %o %d %.4s\n", path, mode, len(content), digestOf(content))
	}
	want := line("bin/daemon", 0o100755, "daemon") +
		line("bin/setuid", 0o104755, "setuid") +
		line("daemon", 0o120777, "releases/daemon") +
		line("releases/42/cache/x", 0o100644, "x") +
		line("releases/42/dangling", 0o120777, "../../outside") +
		line("releases/42/lib/a.py", 0o100644, "") +
		line("releases/42/lib/b.py", 0o100600, "b") +
		line("releases/42/linkdir", 0o120777, "lib") +
		line("releases/42/main.py", 0o100644, "main") +
		line("releases/current", 0o120777, "42") +
		line("releases/current/main.py", 0o100644, "main")
	if got := w.manifestText(e.Manifest); got != want {
		t.Errorf("manifest\n%swant\n%s", got, want)
	}
	s := w.app("app")
	if !s.Measured || s.WhyNot != "" || s.Digest != e.Digest || s.Files != 11 || s.Unit != "app.service" || s.UID != 1000 || s.Declaration != e.Declaration {
		t.Errorf("status %+v", s)
	}
	if e.Digest != pcr.ManifestDigest(e.Manifest) || e.Unit != "app.service" || e.User != "1000" {
		t.Errorf("event %+v", e)
	}
	for content, covered := range map[string]bool{"daemon": true, "setuid": true, "main": false, "b": false, "releases/daemon": false, "other": false} {
		if got := w.Covers("app", digestOf(content)); got != covered {
			t.Errorf("content %q covered %v, want %v", content, got, covered)
		}
	}
	if w.Covers("other", digestOf("daemon")) {
		t.Error("an undeclared app covers content")
	}
	if app, ok := w.ByUnit("app.service", 1000); !ok || app.Name != "app" {
		t.Errorf("by unit: %+v %v", app, ok)
	}
	for _, c := range []struct {
		unit string
		uid  uint32
	}{{"app.service", 0}, {"app.service", 1001}, {"other.service", 1000}, {"", 1000}} {
		if app, ok := w.ByUnit(c.unit, c.uid); ok {
			t.Errorf("by unit %s and uid %d: %+v", c.unit, c.uid, app)
		}
	}
}

// TestUnmeasurable: every refusal names its file, ends quickly, and takes back what
// was claimed (case 18).
func TestUnmeasurable(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, w *world)
		want  string
	}{
		{"missing", func(t *testing.T, w *world) { os.Remove(w.path("bin")) }, `no such file`},
		{"dangling link", func(t *testing.T, w *world) { os.Remove(w.path("bin")); symlink(t, "nowhere", w.path("bin")) }, "follow link"},
		{"looping link", func(t *testing.T, w *world) { os.Remove(w.path("bin")); symlink(t, "bin", w.path("bin")) }, "follow link"},
		{"magic link", func(t *testing.T, w *world) { os.Remove(w.path("bin")); symlink(t, "/proc/self/exe", w.path("bin")) }, "follow link"},
		{"directory as a file", func(t *testing.T, w *world) { os.Remove(w.path("bin")); os.Mkdir(w.path("bin"), 0o755) }, "is a directory"},
		{"FIFO", func(t *testing.T, w *world) { os.Remove(w.path("bin")); unix.Mkfifo(w.path("bin"), 0o644) }, "is a FIFO"},
		{"FIFO in a directory", func(t *testing.T, w *world) { unix.Mkfifo(w.path("dir/fifo"), 0o644) }, "is a FIFO"},
		{"link to a device", func(t *testing.T, w *world) { os.Remove(w.path("bin")); symlink(t, "/dev/null", w.path("bin")) }, "is a character device"},
		{"device in a directory", func(t *testing.T, w *world) {
			if err := unix.Mknod(w.path("dir/device"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))); err != nil {
				t.Skipf("device nodes cannot be made here: %v", err)
			}
		}, "is a character device"},
		{"socket", func(t *testing.T, w *world) {
			if err := unix.Mknod(w.path("dir/socket"), unix.S_IFSOCK|0o644, 0); err != nil {
				t.Fatal(err)
			}
		}, "is a socket"},
		{"sparse file of 1 TB", func(t *testing.T, w *world) {
			if err := os.Truncate(w.path("bin"), 1<<40); err != nil {
				t.Fatal(err)
			}
		}, "larger than 4 GiB"},
		{"too deep", func(t *testing.T, w *world) {
			os.MkdirAll(w.path("dir/"+strings.Repeat("d/", manifest.MaxDepth)), 0o755)
		}, "nested deeper than 64"},
		{"name with a line break", func(t *testing.T, w *world) { w.write("dir/a\nb", "", 0o644) }, "cannot be recorded"},
		{"name that is not UTF-8", func(t *testing.T, w *world) { w.write("dir/a\xff", "", 0o644) }, "cannot be recorded"},
		{"manifest larger than a record", func(t *testing.T, w *world) {
			long := "dir/" + strings.Repeat(strings.Repeat("d", 250)+"/", 12)
			for i := range 400 {
				w.write(fmt.Sprint(long, i), "", 0o644)
			}
		}, "fits no record"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.write("bin", "bin", 0o755)
			w.write("dir/file", "file", 0o755)
			w.declare("app", list("files", w.path("bin")), list("directories", w.path("dir")))
			w.reload()
			if !w.app("app").Measured || !w.Covers("app", digestOf("file")) {
				t.Fatalf("before: %+v", w.app("app"))
			}
			c.spoil(t, w)
			ctx, cancel := context.WithTimeout(t.Context(), caseDeadline)
			defer cancel()
			s, err := w.Measure(ctx, "app")
			var file *manifest.FileError
			if !errors.As(err, &file) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if s.Measured || s.WhyNot != err.Error() || !s.Digest.IsZero() || w.Covers("app", digestOf("file")) {
				t.Errorf("something is still claimed: %+v", s)
			}
			last := w.log.all()[len(w.log.all())-1]
			if last.Unmeasured == nil || last.Unmeasured.App != "app" || s.Record != uint64(len(w.log.all())-1) {
				t.Errorf("last event %+v, status %+v", last, s)
			}
		})
	}
}

func TestDirectoryDeclaredWrongly(t *testing.T) {
	w := newWorld(t)
	w.write("file", "", 0o644)
	os.Mkdir(w.path("empty"), 0o755)
	for dir, want := range map[string]string{"file": "declare it under files", "empty": "no files in the declared directories", "gone": "no such file"} {
		w.declare("app", list("directories", w.path(dir)))
		w.reload()
		if s := w.app("app"); s.Measured || !strings.Contains(s.WhyNot, want) {
			t.Errorf("%s: %+v, want %q", dir, s, want)
		}
	}
}

// TestBindMount: what is hashed is what the path leads to (case 14). Inotify does not
// see the mount; Measure and the rescan do.
func TestBindMount(t *testing.T) {
	if !inMountNamespace(t) {
		return
	}
	w := newWorld(t)
	w.write("bin", "trusted", 0o755)
	w.write("dir/lib", "trusted library", 0o644)
	w.write("evil", "evil", 0o755)
	w.write("evildir/lib", "evil library", 0o644)
	w.declare("app", list("files", w.path("bin")), list("directories", w.path("dir")))
	w.reload()
	if err := errors.Join(
		unix.Mount(w.path("evil"), w.path("bin"), "", unix.MS_BIND, ""),
		unix.Mount(w.path("evildir"), w.path("dir"), "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(w.path("bin"), unix.MNT_DETACH); unix.Unmount(w.path("dir"), unix.MNT_DETACH) })
	// The cached digests of the trusted files are not used for what is mounted over them.
	if _, err := w.measure(t.Context(), "app", want{}); err != nil {
		t.Error(err)
	}
	e := w.log.last(t)
	want := map[string]string{"bin": "evil", "dir/lib": "evil library"}
	for _, m := range e.Manifest {
		name, _ := filepath.Rel(w.files, m.Path)
		if m.Digest != digestOf(want[name]) {
			t.Errorf("%s: not the digest of %q", name, want[name])
		}
	}
	if len(e.Manifest) != 2 || w.Covers("app", digestOf("trusted")) || !w.Covers("app", digestOf("evil")) {
		t.Errorf("manifest %v", e.Manifest)
	}
}

// TestScriptsAndLibraries: an interpreter (case 16) and a library (case 17) are covered
// exactly when the app declares them, and a library that is swapped is another app.
func TestScriptsAndLibraries(t *testing.T) {
	w := newWorld(t)
	script := w.write("report.py", "#!interpreter", 0o755)
	interpreter := w.write("interpreter", "interpreter", 0o755)
	library := w.write("lib/libc.so", "library", 0o644)
	w.declare("app", list("files", script))
	w.reload()
	if w.Covers("app", digestOf("interpreter")) || !w.Covers("app", digestOf("#!interpreter")) {
		t.Error("a process is seen as its interpreter, which is not declared")
	}
	small := w.app("app").Digest
	os.WriteFile(library, []byte("evil library"), 0o644)
	if s, err := w.Measure(t.Context(), "app"); err != nil || s.Digest != small {
		t.Errorf("a library that is not declared: %+v, %v", s, err)
	}
	os.WriteFile(library, []byte("library"), 0o644)
	w.declare("app", list("files", script, interpreter, library))
	w.reload()
	if !w.Covers("app", digestOf("interpreter")) {
		t.Error("a declared interpreter is not covered")
	}
	whole := w.app("app").Digest
	os.WriteFile(library, []byte("evil library"), 0o644)
	if s, err := w.Measure(t.Context(), "app"); err != nil || s.Digest == whole {
		t.Errorf("a swapped library: %+v, %v", s, err)
	}
}
