// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// today is a time for tests that set one.
var today = time.Unix(1_700_000_000, 0)

// overlay mounts two layers, and returns the mounted folder, the folder with all of it, and the
// options of the mount.
func overlay(t *testing.T, base, name string, lower ...string) (merged, upper, options string) {
	t.Helper()
	dir := filepath.Join(base, name)
	for _, d := range []string{"upper", "work", "merged"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	options = "lowerdir=" + strings.Join(lower, ":") + ",upperdir=" + dir + "/upper,workdir=" + dir + "/work"
	merged = dir + "/merged"
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		t.Skipf("no overlay can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(merged, 0); err != nil {
			t.Error(err)
		}
	})
	return merged, dir + "/upper", options
}

// aged waits until files that were just written are old enough for the cache.
func aged(t *testing.T, path string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if time.Since(time.Unix(st.Ctim.Unix())) > cacheAge+settleTime {
			return
		}
	}
	t.Fatal("files do not grow older")
}

// counting returns a function for [Options.Turn] that counts pieces.
func counting(n *int) func(context.Context) (func(), error) {
	return func(context.Context) (func(), error) { *n++; return func() {}, nil }
}

// reader measures a mounted overlay with a cache, and counts the pieces that were read.
type reader struct {
	t     *testing.T
	cache *Cache
}

func (r *reader) measure(merged, options string) (root pcr.ContainerRoot, reads int) {
	r.t.Helper()
	layers, err := OpenLayers(r.cache, options, merged, os.Open)
	if err != nil || layers == nil {
		r.t.Fatal(layers, err)
	}
	defer layers.Close()
	root, err = measure(r.t, merged, Options{Layers: layers, Turn: counting(&reads)})
	if err != nil {
		r.t.Fatal(err)
	}
	again, err := measure(r.t, merged, Options{})
	if err != nil || again != root {
		r.t.Errorf("with the cache %+v, without %+v, %v", root, again, err)
	}
	return root, reads
}

// TestLayers: a container of an image that was seen before costs no second read, what a container
// wrote is read each time, and the digest is always that without a cache.
func TestLayers(t *testing.T) {
	base := t.TempDir()
	first, second := filepath.Join(base, "l1"), filepath.Join(base, "l2")
	fill(t, first, map[string]string{"bin/sh": "program", "bin/gone": "x", "etc/conf": "one", "lib/a": "a", "lib/b": "b"})
	fill(t, second, map[string]string{"etc/conf": "two", "app/run": "run", "lib/l": "-> a"})
	merged, upper, options := overlay(t, base, "one", second, first)
	r := &reader{t, NewCache()}
	for _, file := range []string{first + "/bin/gone", first + "/lib/b", second + "/app/run", second + "/etc/conf"} { // written in any order
		aged(t, file)
	}

	want := digestOf(map[string]string{"bin/sh": "program", "bin/gone": "x", "etc/conf": "two", "lib/a": "a", "lib/b": "b", "app/run": "run", "lib/l": "-> a"})
	if root, reads := r.measure(merged, options); root != want || reads != 6 {
		t.Errorf("first: %+v after %d reads", root, reads)
	}
	if root, reads := r.measure(merged, options); root != want || reads != 0 {
		t.Errorf("second: %+v after %d reads", root, reads)
	}
	other, _, otherOptions := overlay(t, base, "two", second, first)
	if root, reads := r.measure(other, otherOptions); root != want || reads != 0 {
		t.Errorf("another container: %+v after %d reads", root, reads)
	}

	// Overwritten with the same length: the inode is still that of the lower file.
	if err := os.WriteFile(merged+"/bin/sh", []byte("progrbm"), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(merged + "/bin/gone"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(merged+"/lib/b", merged+"/lib/c"); err != nil {
		t.Fatal(err)
	}
	aged(t, upper+"/bin/sh")
	aged(t, upper+"/lib/c")
	for range 2 { // what was written is never kept
		if root, reads := r.measure(merged, options); root.Digest == want.Digest || reads != 2 {
			t.Errorf("written: %+v after %d reads", root, reads)
		}
	}
	if root, reads := r.measure(other, otherOptions); root != want || reads != 0 {
		t.Errorf("the other container: %+v after %d reads", root, reads)
	}

	// Root changes a file of the layer in place.
	if err := os.WriteFile(first+"/lib/a", []byte("z"), 0); err != nil {
		t.Fatal(err)
	}
	third, _, thirdOptions := overlay(t, base, "three", second, first)
	if root, reads := r.measure(third, thirdOptions); root.Digest == want.Digest || reads != 1 {
		t.Errorf("changed layer: %+v after %d reads", root, reads)
	}
}

// TestYoungFilesAreNotKept: a file that changed a moment ago can change again without a trace in
// its times.
func TestYoungFilesAreNotKept(t *testing.T) {
	base := t.TempDir()
	lower := filepath.Join(base, "l")
	fill(t, lower, map[string]string{"x": "1"})
	id := identity{ctime: unix.NsecToTimespec(time.Now().UnixNano())}
	l := &Layers{cache: NewCache()}
	now := time.Unix(id.ctime.Unix())
	for age, want := range map[time.Duration]bool{0: false, cacheAge - 1: false, cacheAge: true, -time.Hour: false} {
		clear(l.cache.digests)
		l.put(nil, "x", id, evidence.Digest{1}, now.Add(age))
		if _, ok := l.get(nil, "x", id); ok != want {
			t.Errorf("a file of the age %v: kept %v", age, ok)
		}
	}
	for i := range 2*cacheEntries + 10 {
		l.put(nil, "x", identity{ino: uint64(i)}, evidence.Digest{1}, now)
	}
	if n := len(l.cache.digests); n > cacheEntries || n == 0 {
		t.Errorf("%d digests are kept", n)
	}
}

// TestOpenLayers: digests are kept only of layers on one file system, whose inodes name contents.
func TestOpenLayers(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{"a/": "", "b/": "", "c/": "", "file": ""})
	good := "rw,lowerdir=" + dir + "/a:" + dir + "/b,upperdir=" + dir + "/c,workdir=" + dir + "/w,index=off,metacopy=off"
	for _, options := range []string{good, "lowerdir+=" + dir + "/a,lowerdir+=" + dir + "/b,upperdir=" + dir + "/c"} {
		l, err := OpenLayers(NewCache(), options, dir+"/m", os.Open)
		if err != nil || l == nil {
			t.Fatalf("%s: %v, %v", options, l, err)
		}
		l.Close()
	}
	for _, options := range []string{
		"rw",
		"lowerdir=" + dir + "/a", // without an upper layer
		"lowerdir=a,upperdir=c",  // below the folder of the store
		good + ",metacopy=on",
		good + ",datadir+=" + dir + "/a",
		strings.Replace(good, "/a:", "/a::", 1),
		strings.Replace(good, "/b", `/b\054c`, 1),
		strings.Replace(good, dir+"/b", "/dev", 1), // another file system
	} {
		l, err := OpenLayers(NewCache(), options, dir+"/m/merged", func(path string) (*os.File, error) {
			return os.Open(strings.Replace(path, `\054c`, "", 1))
		})
		if err != nil || l != nil {
			t.Errorf("%s: %v, %v, want no layers", options, l, err)
		}
	}
}

// TestRelativeLayers: an engine with many layers names them from the folder of its store. Digests are
// kept if the upper layer is the folder beside the root.
func TestRelativeLayers(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{"l/A/": "", "l/B/": "", "7/diff/": "", "8/diff/": "", "7/merged/": ""})
	for options, kept := range map[string]bool{
		"lowerdir=l/A:l/B,upperdir=7/diff,workdir=7/work":                                      true,
		"lowerdir=l/A:" + dir + "/l/B,upperdir=7/diff,workdir=7/work":                          true,
		"lowerdir=l/A:l/B,upperdir=8/diff,workdir=8/work":                                      false, // of another container
		"lowerdir=l/A:l/B,upperdir=7/../8/diff,workdir=8/work":                                 false,
		"lowerdir=l/A::l/B,upperdir=7/diff,workdir=7/work":                                     false,
		"lowerdir=l/A:l/B,upperdir=7/diff,upperdir=" + dir + "/8/diff,workdir=" + dir + "/8/w": false,
	} {
		l, err := OpenLayers(NewCache(), options, dir+"/7/merged", os.Open)
		if err != nil || (l != nil) != kept {
			t.Errorf("%s: %v, %v", options, l, err)
		}
		l.Close()
	}
}

// TestSnapshots: containerd names many layers from the folder of its snapshots, and the upper one by its
// path.
func TestSnapshots(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{"s/1/fs/": "", "s/2/fs/": "", "s/3/fs/": "", "s/3/diff/": "", "s/l/A/": "", "task/c/rootfs/": ""})
	upper := ",upperdir=" + dir + "/s/3/fs,workdir=" + dir + "/s/3/work"
	for options, kept := range map[string]bool{
		"lowerdir=2/fs:1/fs" + upper:                            true,
		"lowerdir=2/fs:" + dir + "/s/1/fs" + upper:              true,
		"lowerdir=2/fs:../s/1/fs" + upper:                       false,
		"lowerdir=2/fs:l/A" + upper:                             false,
		"lowerdir=2/fs:1/fs,upperdir=" + dir + "/s/3/diff":      false,
		"lowerdir=2/fs:1/fs,upperdir=3/fs,workdir=3/work":       false,
		"lowerdir=2/fs::1/fs" + upper:                           false,
		"lowerdir=2/fs:1/fs" + upper + ",metacopy=on":           false,
		"lowerdir=2/fs:1/fs" + upper + ",datadir+=/" + "s/1/fs": false,
	} {
		l, err := OpenLayers(NewCache(), options, dir+"/task/c/rootfs", func(path string) (*os.File, error) {
			f, err := os.OpenFile(path, unix.O_PATH, 0)
			if errors.Is(err, os.ErrNotExist) && !strings.Contains(options, "upperdir=/") {
				return os.OpenFile(dir, unix.O_PATH, 0)
			}
			return f, err
		})
		if kept && err != nil || (l != nil) != kept {
			t.Errorf("%s: %v, %v", options, l, err)
		}
		l.Close()
	}
}

// TestUpperTwice: a mount that names its upper layer twice leaves no descriptor open.
func TestUpperTwice(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{"l/": "", "7/diff/": ""})
	descriptors := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	before := descriptors()
	for range 64 { // more than other tests may close meanwhile
		l, err := OpenLayers(NewCache(), "lowerdir="+dir+"/l,upperdir="+dir+"/7/diff,upperdir="+dir+"/7/diff", dir+"/7/merged", os.Open)
		if err != nil || l == nil {
			t.Fatal(l, err)
		}
		l.Close()
	}
	if after := descriptors(); after > before+32 {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
}

// TestUpperLayerIsNotKept: of a name that the upper layer has, no digest is kept, and none is taken, also
// if a file of a lower layer has the same identity.
func TestUpperLayerIsNotKept(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{"here": "x"})
	fd, err := unix.Open(dir, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	top := &upper{fd: fd}
	defer top.close()
	l := &Layers{cache: NewCache()}
	id, digest := identity{ino: 7, ctime: unix.NsecToTimespec(today.UnixNano())}, evidence.Digest{1}
	for _, u := range []*upper{top, {fd: broken}} {
		if l.put(u, "here", id, digest, time.Now()); len(l.cache.digests) != 0 {
			t.Error("a digest of a file of the upper layer is kept")
		}
	}
	l.put(top, "lower", id, digest, time.Now())
	if d, ok := l.get(top, "lower", id); !ok || d != digest {
		t.Errorf("a digest of a file of a lower layer is not kept: %v %v", d, ok)
	}
	for _, u := range []*upper{top, {fd: broken}} {
		if _, ok := l.get(u, "here", id); ok {
			t.Error("a file of the upper layer has the digest of a lower one")
		}
	}
}

// TestFoundFileIsTheListedOne: what a name leads to must be the file whose size and mode were recorded.
func TestFoundFileIsTheListedOne(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{"a": "x", "b": "x"})
	at, err := unix.Open(dir, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(at)
	c := &child{name: "a"}
	if err := unix.Fstatat(at, "b", &c.st, 0); err != nil {
		t.Fatal(err)
	}
	w := &walk{ctx: t.Context(), options: Options{Counts: new(Counts), Mounted: func(string) bool { return false }}}
	w.sum = NewSum(w.options.Mounted)
	if err := w.regular(at, c, &pcr.ManifestEntry{Path: "/a"}, nil); err == nil || !strings.Contains(err.Error(), "changed") {
		t.Errorf("%v", err)
	}
}

// TestNumberedLayers: podman mounts very many layers by numbers. Their names are in its store, in a file
// that must be root's, local and as long as the mount, and digests are kept of them as of others.
func TestNumberedLayers(t *testing.T) {
	const plain = "rw,lowerdir=8:9,upperdir=DIR/c7/diff,workdir=DIR/c7/work"
	for _, x := range []struct {
		name, options, list string
		mode                os.FileMode
		remote, want        string
		not                 bool // no digests are kept
	}{
		{"podman's", plain, "l/A:l/B", 0o644, "", "", false},
		{"with copies of metadata alone", plain + ",metacopy=on", "l/A:l/B", 0o644, "", "", true},
		{"a FIFO", plain, "", 0, "", "not a regular file", false},
		{"no list", plain, "", 0, "", "does not say which they are", false},
		{"fewer", plain, "l/A", 0o644, "", "2 layers are mounted, and", false},
		{"more", plain, "l/A:l/B:l/A", 0o644, "", "lists 3", false},
		{"data behind them", strings.Replace(plain, "8:9", "8:9::10", 1), "l/A:l/B", 0o644, "", `"8"`, false},
		{"a file", strings.Replace(plain, "8:9", "DIR/c7/lower", 1), "l/A:l/B", 0o644, "", "not a folder", false},
		{"of another store", plain, "l/A:l/C", 0o644, "", "l/C", false},
		{"outside", plain, "l/A:../DIR/l/B", 0o644, "", "below the folder", false},
		{"absolute", plain, "l/A:DIR/l/B", 0o644, "", "below the folder", false},
		{"empty", plain, "l/A:", 0o644, "", "below the folder", false},
		{"another user can write it", plain, "l/A:l/B", 0o664, "", "can write it", false},
		{"another user's", plain, "l/A:l/B", 0o644, "", "can write it", false},
		{"served list", plain, "l/A:l/B", 0o644, "/lower", "whose files another program serves", false},
		{"served layer", plain, "l/A:l/B", 0o644, "/l/B", "whose files another program serves", false},
		{"longest", plain, strings.Repeat("l", maxList), 0o644, "", "lists 1", false},
		{"long", plain, strings.Repeat("l", maxList+1), 0o644, "", "more than", false},
		{"a name among them", strings.Replace(plain, "8:9", "8:l/B", 1), "l/A:l/B", 0o644, "", `"8"`, false},
		{"another upper layer", strings.Replace(plain, "c7/diff", "c8/diff", 1), "l/A:l/B", 0o644, "", `"8"`, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, dir, map[string]string{"l/A/": "", "l/B/": "", "c7/diff/": "", "c8/diff/": "", "c7/merged/": ""})
			if x.name == "a FIFO" {
				if err := unix.Mkfifo(filepath.Join(dir, "c7", listFile), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if x.mode != 0 {
				list := filepath.Join(dir, "c7", listFile)
				if err := errors.Join(os.WriteFile(list, []byte(strings.ReplaceAll(x.list, "DIR", dir)), 0o600), os.Chmod(list, x.mode)); err != nil {
					t.Fatal(err)
				}
				if x.name == "another user's" {
					if err := os.Chown(list, os.Geteuid()+1, -1); err != nil {
						t.Skip("needs root: ", err)
					}
				}
			}
			open := func(path string) (*os.File, error) { return os.OpenFile(path, unix.O_PATH, 0) }
			remote := func(f *os.File) (string, error) {
				if x.remote != "" && strings.HasSuffix(f.Name(), x.remote) {
					return "FUSE", nil
				}
				return "", nil
			}
			l, err := openLayers(NewCache(), strings.ReplaceAll(x.options, "DIR", dir), dir+"/c7/merged", open, remote)
			if err == nil {
				defer l.Close()
			}
			if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) || err == nil && (l == nil) != x.not {
				t.Errorf("%v, %v", l, err)
			}
		})
	}
}

// TestCheckLayers: each layer of an overlay is looked at, under each name that engines give it, and
// one whose files another program serves is refused. So is one that is not found.
func TestCheckLayers(t *testing.T) {
	const store = "/var/lib/docker/overlay2/"
	good := []string{"/l/1", "/l/2", "/u/7/fs", "/u/3/fs", store + "l/A", store + "7/diff"}
	var at string
	open := func(path string) (*os.File, error) {
		if slices.Contains(good, path) || strings.HasPrefix(path, "/virtiofs/") {
			at = path
			return os.Open("/")
		}
		return nil, &os.PathError{Op: "open", Path: path, Err: unix.ENOENT}
	}
	kind := func(*os.File) (string, error) {
		if strings.HasPrefix(at, "/virtiofs/") {
			return "FUSE", nil
		}
		return "", nil
	}
	for options, want := range map[string]string{
		"rw,lowerdir=/l/1:/l/2,upperdir=/u/7/fs,workdir=/w":            "",
		"ro,lowerdir=/l/1:/l/2":                                        "",
		"rw,lowerdir+=/l/1,lowerdir+=/l/2,datadir+=/l/2":               "",
		"rw,lowerdir=/l/1::/l/2":                                       "",
		"rw,lowerdir=3/fs,upperdir=/u/7/fs,workdir=/w":                 "", // containerd
		"rw,lowerdir=l/A,upperdir=7/diff,workdir=7/work":               "", // docker
		"rw,lowerdir=/l/1:/virtiofs/2,upperdir=/u/7/fs,workdir=/w":     "FUSE",
		"rw,lowerdir=/l/1::/virtiofs/2,upperdir=/u/7/fs,workdir=/w":    "FUSE",
		"rw,lowerdir+=/l/1,lowerdir+=/virtiofs/2":                      "FUSE",
		"rw,lowerdir+=/l/1,datadir+=/virtiofs/2":                       "FUSE",
		"rw,lowerdir=/l/1,upperdir=/virtiofs/7/fs,workdir=/virtiofs/w": "FUSE",
		"rw,lowerdir=/none:/l/1":                                       "/none",
		"rw,lowerdir=l/B,upperdir=7/diff,workdir=7/work":               "l/B",
		"rw,lowerdir=" + strings.Repeat("/l/1:", maxLayers) + "/l/1":   "at most",
	} {
		l, err := openLayers(NewCache(), options, store+"7/merged", open, kind)
		l.Close()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, want %q", options, err, want)
		}
	}
	dir := t.TempDir()
	if _, err := OpenLayers(NewCache(), "lowerdir="+dir, dir, os.Open); err != nil {
		t.Error(err)
	}
}

// TestCheckMountedLayers: the options that the kernel shows of a mounted overlay lead to its layers.
func TestCheckMountedLayers(t *testing.T) {
	base := t.TempDir()
	lower := []string{filepath.Join(base, "a"), filepath.Join(base, "b")}
	for _, d := range lower {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	merged, upper, _ := overlay(t, base, "c", lower...)
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var options string
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); fields[4] == merged {
			options = fields[len(fields)-1]
		}
	}
	var opened []string
	open := func(path string) (*os.File, error) {
		opened = append(opened, path)
		return os.Open(path)
	}
	layers, err := OpenLayers(NewCache(), options, merged, open)
	layers.Close()
	if err != nil || len(opened) != 3 || !slices.Contains(opened, upper) || !slices.Contains(opened, lower[0]) || !slices.Contains(opened, lower[1]) {
		t.Errorf("%q: %v, opened %q", options, err, opened)
	}
}
