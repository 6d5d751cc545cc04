// SPDX-License-Identifier: Apache-2.0

package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cvm-agentd/agentd/internal/durable"
)

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, text := range []string{"first", "second, which is longer", ""} {
		if err := durable.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != text {
			t.Errorf("got %q, %v, want %q", b, err, text)
		}
	}
	if s, err := os.Stat(path); err != nil || s.Mode() != 0o600 {
		t.Errorf("mode %v, %v", s.Mode(), err)
	}
	// A reader that has the file open keeps the old content.
	old, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	// A link is replaced, and what it leads to is left alone.
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(target, []byte("kept"), 0o600), os.Symlink(target, link), durable.WriteFile(link, []byte("new"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(target); err != nil || string(b) != "kept" {
		t.Errorf("written through a link: %q, %v", b, err)
	}
	if s, err := os.Lstat(link); err != nil || !s.Mode().IsRegular() {
		t.Errorf("the link is %v, %v", s.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}

// TestModes: WriteFile obeys the umask, and WriteReadable does not.
func TestModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	dir := t.TempDir()
	own, shared := filepath.Join(dir, "own"), filepath.Join(dir, "shared")
	if err := errors.Join(durable.WriteFile(own, nil, 0o666), durable.WriteReadable(shared, nil)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{own: 0o600, shared: 0o644} {
		if s, err := os.Stat(path); err != nil || s.Mode() != want {
			t.Errorf("%s: mode %v, %v, want %v", path, s.Mode(), err, want)
		}
	}
}

// TestWriteFileFails: an error names the file that was asked for, and nothing is left.
func TestWriteFileFails(t *testing.T) {
	dir := t.TempDir()
	absent := filepath.Join(dir, "absent", "file")
	if err := durable.WriteFile(absent, nil, 0o600); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "write "+absent+": no such file") {
		t.Errorf("got %v", err)
	}
	folder := filepath.Join(dir, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(folder, nil, 0o600); err == nil || !strings.HasPrefix(err.Error(), "write "+folder+": ") {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}
