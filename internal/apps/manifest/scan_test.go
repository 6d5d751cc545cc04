// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/pcr"
)

// files is a directory of files.
type files struct {
	t   *testing.T
	dir string
}

func newFiles(t *testing.T) files {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return files{t, dir}
}

func (f files) path(name string) string { return filepath.Join(f.dir, name) }

func (f files) write(name, content string, mode os.FileMode) string {
	f.t.Helper()
	p := f.path(name)
	if err := errors.Join(os.WriteFile(p, []byte(content), mode), os.Chmod(p, mode)); err != nil {
		f.t.Fatal(err)
	}
	return p
}

// bare returns a scan that has read nothing.
func bare(t *testing.T, d declaration.Declaration) scan {
	p := NewProgress()
	return scan{reader: NewReader(1, 0), ctx: t.Context(), declaration: &d, walker: p.hand(), Look: Look{Progress: p}}
}

func digestOf(s string) evidence.Digest { return sha256.Sum256([]byte(s)) }

// TestLinkChangedMeanwhile: what was found is what the path leads to over links that may be
// followed, or it was changed.
func TestLinkChangedMeanwhile(t *testing.T) {
	w := newFiles(t)
	a, b := w.write("a", "a", 0o755), w.write("b", "b", 0o755)
	if err := os.Symlink("a", w.path("link")); err != nil {
		t.Fatal(err)
	}
	h, err := find(unix.AT_FDCWD, a, false)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	for _, p := range []string{a, w.path("link")} {
		if err := checkLinks(p, h, a, func(string) {}); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	var changed *ChangedError
	for _, p := range []string{b, w.path("gone"), w.path("a/b")} {
		if err := checkLinks(p, h, a, func(string) {}); !errors.As(err, &changed) {
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
		t.Error("all users may go to directories that are there and open, and to nothing else")
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
	s = bare(t, declaration.Declaration{Directories: []string{"/d"}})
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

func TestTooMuch(t *testing.T) {
	s := bare(t, declaration.Declaration{File: "a.toml"})
	for i := range MaxFiles {
		if err := s.promise("/a", 1); err != nil {
			t.Fatalf("file %d: %v", i, err)
		}
	}
	if err := s.promise("/a", 1); err == nil || !strings.Contains(err.Error(), "more than 20000 files") {
		t.Errorf("got %v", err)
	}
	s = bare(t, declaration.Declaration{File: "a.toml"})
	for range MaxAppSize / MaxFileSize {
		if err := s.promise("/sparse", MaxFileSize); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.promise("/a", 1); err == nil || !strings.Contains(err.Error(), "more than 16 GiB") {
		t.Errorf("got %v", err)
	}
	// Names that are excluded count too: looking at them is work.
	s = bare(t, declaration.Declaration{Directories: []string{"/d"}, Exclude: []string{"*"}})
	for i := range MaxNames {
		if err := s.child(unix.AT_FDCWD, "/d/x", 1); err != nil {
			t.Fatalf("name %d: %v", i, err)
		}
	}
	if err := s.child(unix.AT_FDCWD, "/d/x", 1); err == nil || !strings.Contains(err.Error(), "more than 80000 names") {
		t.Errorf("got %v", err)
	}
}

// TestRemoteFileSystems: the table is by the numbers of statfs(2), which are signed
// and 32 bits wide on some architectures.
func TestRemoteFileSystems(t *testing.T) {
	if remoteSystems[int64(uint32(0xFF534D42))] != "CIFS" || remoteSystems[0x65735546] != "FUSE" || remoteSystems[0xEF53] != "" {
		t.Errorf("table %v", remoteSystems)
	}
	h, err := find(unix.AT_FDCWD, "/proc", false)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	if kind, err := h.system(); err != nil || kind != unix.PROC_SUPER_MAGIC {
		t.Errorf("/proc: %#x, %v", kind, err)
	}
	s := scan{systems: map[uint64]int64{uint64(h.st.Dev): unix.FUSE_SUPER_MAGIC}}
	if err := s.local(h, "/x"); err == nil || !strings.Contains(err.Error(), "is on FUSE") {
		t.Errorf("got %v", err)
	}
}
