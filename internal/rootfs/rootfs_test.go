// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/pcr"
)

// tree makes files below a new folder: a name that ends in "/" is a folder, a content that begins
// with "-> " is a link, and everything else a file of mode 0644.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	fill(t, dir, files)
	return dir
}

func fill(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content, at := files[name], filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(at), 0o755)
		if target, ok := strings.CutPrefix(content, "-> "); ok && err == nil {
			err = os.Symlink(target, at)
		} else if strings.HasSuffix(name, "/") && err == nil {
			err = os.MkdirAll(at, 0o755)
		} else if err == nil {
			err = os.WriteFile(at, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func measure(t *testing.T, dir string, o Options) (pcr.ContainerRoot, error) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return Measure(t.Context(), f, o)
}

// mounted returns a function for [Options.Mounted].
func mounted(paths ...string) func(string) bool {
	return func(p string) bool { return slices.Contains(paths, p) }
}

// entry returns the entry of a file, or of a link.
func entry(path, content string) pcr.ManifestEntry {
	e := pcr.ManifestEntry{Path: path, Mode: unix.S_IFREG | 0o644}
	if target, ok := strings.CutPrefix(content, "-> "); ok {
		content, e.Mode = target, linkMode
	}
	e.Size, e.Digest = uint64(len(content)), sha256.Sum256([]byte(content))
	return e
}

// digestOf returns what Measure must find of files.
func digestOf(files map[string]string) pcr.ContainerRoot {
	var entries []pcr.ManifestEntry
	var root pcr.ContainerRoot
	for name, content := range files {
		if !strings.HasSuffix(name, "/") {
			e := entry("/"+name, content)
			entries = append(entries, e)
			root.Bytes += e.Size
		}
	}
	slices.SortFunc(entries, func(a, b pcr.ManifestEntry) int { return strings.Compare(a.Path, b.Path) })
	root.Digest, root.Files = pcr.ManifestDigest(entries), uint64(len(entries))
	return root
}

// TestMeasure: the digest is that of the manifest of all files, in the order of whole paths, and
// names are any bytes.
func TestMeasure(t *testing.T) {
	files := map[string]string{
		"bin/sh": "program", "bin/busybox": "another", "bin-2/x": "1", "bin.d": "2", "bin/": "", "a": "3", "empty/": "", "none": "",
		"lib/l": "-> ../bin/sh", "dangling": "-> /nowhere", "self": "-> self", "out": "-> ../../../etc/passwd",
		"new\nline": "4", "bad\xff\xfe": "5", "\x1b[2J": "6", "deep/a/b/c/d": "7", "é": "8", "bin/sh.wh": "9", ".wh.x": "10",
	}
	for name, o := range map[string]Options{
		"": {}, "mounted elsewhere": {Mounted: mounted("/data", "/bin/sh", "/proc")},
		"in turns": {Turn: func(context.Context) (func(), error) { return func() {}, nil }},
	} {
		if got, err := measure(t, tree(t, files), o); err != nil || got != digestOf(files) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, digestOf(files))
		}
	}
	if got, err := measure(t, t.TempDir(), Options{}); err != nil || got != digestOf(nil) {
		t.Errorf("nothing: %+v, %v", got, err)
	}
}

// TestEveryChangeCounts: a change of any file makes another digest.
func TestEveryChangeCounts(t *testing.T) {
	files := map[string]string{"bin/sh": "program", "etc/conf": "x", "lib/l": "-> /bin/sh", "marker": ""}
	want := digestOf(files)
	for name, change := range map[string]func(dir string) error{
		"content":       func(d string) error { return os.WriteFile(d+"/bin/sh", []byte("progrbm"), 0) },
		"mode":          func(d string) error { return os.Chmod(d+"/bin/sh", 0o755) },
		"setuid":        func(d string) error { return os.Chmod(d+"/bin/sh", 0o644|os.ModeSetuid) },
		"sticky":        func(d string) error { return os.Chmod(d+"/bin/sh", 0o644|os.ModeSticky) },
		"one more":      func(d string) error { return os.WriteFile(d+"/bin/ash", nil, 0o644) },
		"one less":      func(d string) error { return os.Remove(d + "/marker") },
		"renamed":       func(d string) error { return os.Rename(d+"/bin", d+"/bim") },
		"a hard link":   func(d string) error { return os.Link(d+"/bin/sh", d+"/bin/ash") },
		"another link":  func(d string) error { return errors.Join(os.Remove(d+"/lib/l"), os.Symlink("/bin/si", d+"/lib/l")) },
		"link for file": func(d string) error { return errors.Join(os.Remove(d+"/etc/conf"), os.Symlink("x", d+"/etc/conf")) },
		"a FIFO":        func(d string) error { return unix.Mkfifo(d+"/fifo", 0o600) },
		"a socket":      func(d string) error { return unix.Mknod(d+"/socket", unix.S_IFSOCK|0o600, 0) },
	} {
		dir := tree(t, files)
		if got, err := measure(t, dir, Options{}); err != nil || got != want {
			t.Fatalf("before: %+v, %v", got, err)
		}
		if err := change(dir); err != nil {
			t.Fatal(err)
		}
		if got, err := measure(t, dir, Options{}); err != nil || got.Digest == want.Digest {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	dir := tree(t, files)
	for _, change := range []error{os.Chmod(dir+"/bin", 0o700), os.Mkdir(dir+"/new", 0o755), os.Chtimes(dir+"/bin/sh", today, today)} {
		if change != nil {
			t.Fatal(change)
		}
	}
	if got, err := measure(t, dir, Options{}); err != nil || got != want {
		t.Errorf("folders and times count: %+v, %v", got, err)
	}
}

// TestDevices: a device counts by type and numbers, and is not opened.
func TestDevices(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mknod(dir+"/null", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Skipf("a device can be made by root alone: %v", err)
	}
	e := pcr.ManifestEntry{Path: "/null", Mode: unix.S_IFCHR | 0o600, Digest: sha256.Sum256([]byte("1:3"))}
	if got, err := measure(t, dir, Options{}); err != nil || got.Digest != pcr.ManifestDigest([]pcr.ManifestEntry{e}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestEnginesFiles: what engines make is left out, so that an image and its mounted root have one
// digest, and what an attacker puts in its place is not.
func TestEnginesFiles(t *testing.T) {
	image := map[string]string{"bin/sh": "program"}
	want := digestOf(image)
	mounts := Options{Mounted: mounted("/proc", "/dev", "/sys", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv", "/srv/app.conf")}
	with := func(more map[string]string) map[string]string {
		out := maps.Clone(image)
		maps.Copy(out, more)
		return out
	}
	for name, c := range map[string]struct {
		more  map[string]string
		o     Options
		count bool
	}{
		"placeholders": {map[string]string{
			".dockerenv": "", "etc/hostname": "", "etc/hosts": "", "etc/resolv.conf": "", "run/.containerenv": "", "dev/console": "", "dev/shm/": "", "proc/": "", "sys/": "",
			"etc/mtab": "-> /proc/mounts", "srv/app.conf": "",
		}, mounts, false},
		"another link to the mounts": {map[string]string{"etc/mtab": "-> ../proc/self/mounts"}, mounts, false},
		"hidden by a mount":          {map[string]string{"dev/null": "x", "proc/1/exe": "x", "etc/hosts": "127.0.0.1 localhost"}, mounts, false},
		"placeholder for no mount":   {map[string]string{"srv/app.conf": ""}, Options{}, true},
		"content at a mount":         {map[string]string{"srv/app.conf": "x"}, mounts, true},
		"not hidden, a file":         {map[string]string{"etc/hosts": "127.0.0.1 localhost"}, Options{}, true},
		"not hidden, below a folder": {map[string]string{"dev/evil": "program"}, Options{}, true},
		"not hidden, a link":         {map[string]string{"etc/hostname": "-> /bin/sh"}, Options{}, true},
		"not hidden, mtab elsewhere": {map[string]string{"etc/mtab": "-> /tmp/mounts"}, Options{}, true},
		"a link that only mtab is":   {map[string]string{"etc/hosts": "-> /proc/mounts"}, Options{}, true},
		"a name that begins so":      {map[string]string{"device": "x", "etc/hosts.allow": ""}, mounts, true},
		"one below another folder":   {map[string]string{"srv/dev/x": ""}, mounts, true},
	} {
		got, err := measure(t, tree(t, with(c.more)), c.o)
		if err != nil || (got.Digest != want.Digest) != c.count {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if c.count && got != digestOf(with(c.more)) {
			t.Errorf("%s: %+v, want %+v", name, got, digestOf(with(c.more)))
		}
	}
}

// TestChanged: what changes while it is read is an error.
func TestChanged(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"written":             func(d string) error { return os.WriteFile(d+"/b/file", []byte("other"), 0) },
		"shorter":             func(d string) error { return os.Truncate(d+"/b/file", 1) },
		"longer":              func(d string) error { return os.Truncate(d+"/b/file", 1<<20) },
		"mode":                func(d string) error { return os.Chmod(d+"/b/file", 0o755) },
		"replaced":            func(d string) error { return os.Rename(d+"/a", d+"/b/file") },
		"a name before it":    func(d string) error { return os.WriteFile(d+"/b/Z", nil, 0o644) },
		"a name in the root":  func(d string) error { return os.WriteFile(d+"/0", nil, 0o644) },
		"a name gone":         func(d string) error { return os.Remove(d + "/z") },
		"the folder's mode":   func(d string) error { return os.Chmod(d+"/b", 0o700) },
		"a later file a link": func(d string) error { return errors.Join(os.Remove(d+"/z"), os.Symlink("/etc/passwd", d+"/z")) },
		"a later file a FIFO": func(d string) error { return errors.Join(os.Remove(d+"/z"), unix.Mkfifo(d+"/z", 0o600)) },
	} {
		dir := tree(t, map[string]string{"a": "x", "b/file": strings.Repeat("x", 300<<10), "b/g": "y", "z": "last"})
		reads := 0
		o := Options{Turn: func(context.Context) (func(), error) {
			return func() {
				if reads++; reads == 2 { // after the content of b/file was read
					if err := change(dir); err != nil {
						t.Error(err)
					}
				}
			}, nil
		}}
		if got, err := measure(t, dir, o); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestRefused: what cannot be measured is an error that names it.
func TestRefused(t *testing.T) {
	deep := tree(t, map[string]string{strings.Repeat("d/", MaxDepth) + "x": ""})
	if _, err := measure(t, deep, Options{}); err == nil || !strings.Contains(err.Error(), "folders deep") {
		t.Errorf("got %v", err)
	}
	huge := t.TempDir()
	for i := range 2 {
		if err := os.WriteFile(fmt.Sprintf("%s/%d", huge, i), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(huge+"/1", MaxBytes+1); err == nil { // some file systems have no such files
		if _, err := measure(t, huge, Options{}); err == nil || !strings.Contains(err.Error(), `"/1"`) {
			t.Errorf("got %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f, err := os.Open(huge)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Measure(ctx, f, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	full := errors.New("no turn")
	if _, err := measure(t, tree(t, map[string]string{"x": "y"}), Options{Turn: func(context.Context) (func(), error) { return nil, full }}); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	s := NewSum(mounted())
	for i := range MaxFiles + 1 {
		err = s.Add(&pcr.ManifestEntry{Path: fmt.Sprintf("/%d", i), Mode: unix.S_IFIFO}, "")
		if err != nil && i < MaxFiles {
			t.Fatal(err)
		}
	}
	if err == nil {
		t.Error("more files than the format allows")
	}
	for _, sizes := range [][]uint64{{MaxBytes, 1}, {1, MaxBytes}, {MaxBytes + 1}, {1, 1<<64 - 1}} {
		s, err := NewSum(mounted()), error(nil)
		for i, size := range sizes {
			if err = s.Add(&pcr.ManifestEntry{Path: fmt.Sprintf("/%d", i), Mode: unix.S_IFREG, Size: size}, ""); err != nil && i < len(sizes)-1 {
				t.Fatal(err)
			}
		}
		if err == nil {
			t.Errorf("files of %d bytes", sizes)
		}
	}
	proc, err := os.Open("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	if err := local(int(proc.Fd())); err != nil {
		t.Errorf("proc is not served by another program: %v", err)
	}
}

// TestMountsInside: a folder that something is mounted on is refused, because the files of the image
// are hidden in it.
func TestMountsInside(t *testing.T) {
	dir := tree(t, map[string]string{"etc/conf": "x"})
	if err := unix.Mount("none", dir+"/etc", "tmpfs", 0, ""); err != nil {
		t.Skipf("nothing can be mounted here: %v", err)
	}
	defer unix.Unmount(dir+"/etc", 0)
	if got, err := measure(t, dir, Options{}); err == nil || !strings.Contains(err.Error(), "something is mounted there") {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestNames: of the names in a folder little is kept, and there is a cap on all of them: a container
// may have made a million folders when it starts again.
func TestNames(t *testing.T) {
	dir := tree(t, map[string]string{"a/": "", "a/x": "1", "a.b": "2", "a0": "3", "a-": "4", "b": "5"})
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = len("a") + len("a.b") + len("a0") + len("a-") + len("b")
	w := &walk{size: maxNameSize - size}
	got, err := w.children(f, "")
	if want := []listed{{"a-", false}, {"a.b", false}, {"a", true}, {"a0", false}, {"b", false}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v, want %v", got, err, want)
	}
	for _, w := range []*walk{{size: maxNameSize - size + 1}, {names: maxNames - 4}} {
		if _, err := f.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		if got, err := w.children(f, ""); err == nil || !strings.Contains(err.Error(), "more than") {
			t.Errorf("%v %v", got, err)
		}
	}
	if size := unsafe.Sizeof(listed{}); size > 24 {
		t.Errorf("%d bytes are kept of each name, besides the name", size)
	}
	all := []string{"a", "a-", "a.", "a0", "ab", "b", "\xff"}
	for _, x := range all {
		for _, y := range all {
			for n := range 4 {
				a, b := listed{x, n&1 != 0}, listed{y, n&2 != 0}
				if got, want := a.compare(b), strings.Compare(a.after(0), b.after(0)); got != want {
					t.Errorf("%v %v: %d, want %d", a, b, got, want)
				}
			}
		}
	}
}

// TestSwappedKind: a name that is a file when a folder is listed, and a folder when its turn comes,
// was changed.
func TestSwappedKind(t *testing.T) {
	dir := tree(t, map[string]string{"a": "1", "b": "2"})
	swap := func(context.Context) (func(), error) {
		b := filepath.Join(dir, "b")
		if err := os.Remove(b); err != nil {
			return nil, err
		}
		return func() {}, os.Mkdir(b, 0o755)
	}
	_, err := measure(t, dir, Options{Turn: swap}) // a has one turn
	if changed := (*ChangedError)(nil); !errors.As(err, &changed) || changed.Path != "/b" {
		t.Error(err)
	}
}
