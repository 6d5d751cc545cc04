// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// stranger is a user who is not root and not the one that runs the tests.
const stranger = 12345

// writers are all ways to write a file that a user named.
var writers = map[string]func(path string) error{
	"WriteFile":     func(p string) error { return WriteFile(p, []byte("new"), 0o600) },
	"WriteReadable": func(p string) error { return WriteReadable(p, []byte("new")) },
	"WriteNew":      func(p string) error { return WriteNew(p, []byte("new"), 0o600) },
	"Deliver":       func(p string) error { return Deliver(p, []byte("new"), 0o600) },
}

// TestLinksOfStrangers: another user made a link in a folder of its own, to have root overwrite a
// file. No writer follows it: not as the last part of the path, not before it, not to a folder or
// device, and not by way of another link.
func TestLinksOfStrangers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make files of another user")
	}
	root := t.TempDir()
	foreign := filepath.Join(root, "foreign")
	victims := filepath.Join(root, "victims")
	for _, dir := range []string{foreign, victims, filepath.Join(victims, "folder")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(victims, "file")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	links := map[string]string{"to-file": file, "to-folder": victims, "relative": "../victims", "dangling": filepath.Join(victims, "none"), "to-device": "/dev/full"}
	for name, target := range links {
		name = filepath.Join(foreign, name)
		if err := errors.Join(os.Symlink(target, name), os.Lchown(name, stranger, stranger)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chown(foreign, stranger, stranger), os.Symlink("foreign", filepath.Join(root, "own")), os.Link(filepath.Join(foreign, "to-folder"), filepath.Join(foreign, "hard"))); err != nil {
		t.Fatal(err)
	}
	for how, write := range writers {
		for _, path := range []string{"to-folder/file", "to-folder/new", "relative/file", "relative/folder/new", "hard/file"} {
			for _, by := range []string{"foreign", "own"} {
				err := write(filepath.Join(root, by, path))
				if _, ok := errors.AsType[*AccessError](err); !ok || !strings.Contains(err.Error(), "symbolic link that uid 12345 made") {
					t.Errorf("%s %s/%s: %v", how, by, path, err)
				}
			}
		}
	}
	for _, path := range []string{"to-file", "dangling", "to-device"} {
		if err := Deliver(filepath.Join(foreign, path), []byte("new"), 0o600); err == nil {
			t.Errorf("Deliver follows %s", path)
		}
		// What replaces a link does not follow it.
		if err := WriteFile(filepath.Join(foreign, path), []byte("new"), 0o600); err != nil {
			t.Errorf("WriteFile to %s: %v", path, err)
		}
	}
	left, err := os.ReadDir(victims)
	if b, readErr := os.ReadFile(file); err != nil || readErr != nil || string(b) != "old" || len(left) != 2 {
		t.Errorf("the file has %q, the folder %v, %v", b, left, errors.Join(err, readErr))
	}
}

// TestOwnLinks: links of this user and of root are followed, up to a limit; a loop is an error.
func TestOwnLinks(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := errors.Join(os.Mkdir("folder", 0o700), os.Symlink("folder", "a"), os.Symlink(dir+"/a", "b"), os.Symlink("b/file", "c"), os.Symlink("loop", "loop")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"c", "./b//file", dir + "/a/../b/file"} {
		if err := Deliver(path, []byte(path), 0o600); err != nil {
			t.Fatal(path, err)
		}
		if b, err := os.ReadFile("folder/file"); err != nil || string(b) != path {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	if at, err := os.Lstat("c"); err != nil || at.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link was replaced: %v", err)
	}
	// A second name of a link of root can be in a folder of another user.
	if err := os.Link("c", "second"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"c", "second"} {
		if _, ok := errors.AsType[*AccessError](Deliver(path, nil, 0o600)); !ok {
			t.Errorf("%s, a link with two names, was followed", path)
		}
	}
	for path, want := range map[string]error{"loop": unix.ELOOP, "loop/x": unix.ELOOP, "folder": unix.EISDIR, "folder/": unix.EISDIR, ".": unix.EISDIR, "none/x": unix.ENOENT, "folder/file/x": unix.ENOTDIR, "": unix.EISDIR} {
		if err := Deliver(path, nil, 0o600); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", path, err, want)
		}
	}
}

// TestDeliverToWhatIsOpen: a link of the kernel leads to what this process has open.
func TestDeliverToWhatIsOpen(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	path := fmt.Sprintf("/proc/self/fd/%d", w.Fd())
	if err := Deliver(path, []byte("through"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 7)
	if _, err := r.Read(got); err != nil || string(got) != "through" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestWriteNew: a file that exists stays as it is.
func TestWriteNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := WriteNew(path, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteNew(path, []byte("two"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time: %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if b, readErr := os.ReadFile(path); string(b) != "one" || len(left) != 1 || errors.Join(err, readErr) != nil {
		t.Errorf("%q, %v, %v", b, left, err)
	}
}
