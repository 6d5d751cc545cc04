// SPDX-License-Identifier: Apache-2.0

package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/durable/durabletest"
	"github.com/cvm-agentd/agentd/test/hangfs"
)

// helperEnv names what this test binary does as a child process.
const helperEnv = "AGENTD_DURABLE_HELPER"

func TestMain(m *testing.M) {
	what, path, _ := strings.Cut(os.Getenv(helperEnv), ":")
	switch what {
	case "":
		if err := hangfs.OwnNamespace(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	case "lock":
		d, err := durable.Open(path)
		if err == nil {
			err = d.Lock()
		}
		var locked *durable.LockedError
		if errors.As(err, &locked) {
			os.Stdout.WriteString("locked by " + strconv.Itoa(locked.PID))
			os.Exit(0)
		}
		os.Stdout.WriteString("not locked: ")
		if err != nil {
			os.Stdout.WriteString(err.Error())
		}
	case "stuck":
		beStuck(path)
	case "headless":
		beHeadless(path)
	case "write":
		if f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0); err != nil {
			os.Stdout.WriteString(err.Error())
		} else {
			f.Close()
			os.Stdout.WriteString("opened")
		}
	}
	os.Exit(0)
}

func helper(t *testing.T, what, path string, as *syscall.Credential) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"="+what+":"+path)
	if as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", what, err, out)
	}
	return string(out)
}

func private(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t *testing.T, path string) *durable.Dir {
	t.Helper()
	d, err := durable.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestFiles(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0)) // the umask must not be what denies other users access
	path := private(t)
	d := open(t, path)
	if _, err := d.Read("f", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read of nothing: %v", err)
	}
	content := func(want string) {
		t.Helper()
		if b, err := d.Read("f", 10); err != nil || string(b) != want {
			t.Errorf("content %q, %v, want %q", b, err, want)
		}
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	size := func(err error, got, want int64) {
		t.Helper()
		var s *durable.SizeError
		if !errors.As(err, &s) || s.Got != got || s.Want != want {
			t.Errorf("got %v, want a size error of %d and %d", err, got, want)
		}
	}
	ok(d.Append("f", 0, []byte("abc")))
	content("abc")
	ok(d.Append("f", 3, []byte("def")))
	content("abcdef")
	size(d.Append("f", 3, []byte("x")), 6, 3)
	size(d.Append("f", 0, []byte("x")), 6, 0)
	size(d.Truncate("f", 7), 6, 7)
	ok(d.Truncate("f", 6))
	ok(d.Truncate("f", 2))
	content("ab")
	ok(d.Replace("f", []byte("0123456789")))
	content("0123456789")
	_, err := d.Read("f", 9)
	size(err, 10, 9)
	if !errors.Is(err, syscall.EFBIG) {
		t.Errorf("too large is not EFBIG: %v", err)
	}
	ok(d.Replace("f", nil))
	content("")
	if err := d.Append("h", 1, []byte("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("append in the middle of nothing: %v", err)
	}
	entries, err := os.ReadDir(path)
	ok(err)
	for _, e := range entries {
		i, err := e.Info()
		ok(err)
		if i.Mode() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), i.Mode())
		}
		if strings.HasSuffix(e.Name(), ".new") {
			t.Errorf("%s is left", e.Name())
		}
	}
}

// A planted link is never followed, and a type that blocks is never opened.
func TestPlantedNames(t *testing.T) {
	path := private(t)
	d := open(t, path)
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("v"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, plant := range map[string]func(string) error{
		"symlink": func(p string) error { return os.Symlink(victim, p) },
		"fifo":    func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"folder":  func(p string) error { return os.Mkdir(p, 0o700) },
		"open":    func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o600), os.Chmod(p, 0o640)) },
	} {
		p := filepath.Join(path, name)
		if err := plant(p); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Read(name, 10); err == nil {
			t.Errorf("%s: read", name)
		}
		if err := d.Append(name, 0, []byte("x")); err == nil {
			t.Errorf("%s: appended", name)
		}
		if err := d.Truncate(name, 0); err == nil {
			t.Errorf("%s: truncated", name)
		}
	}
	// The temporary name of Replace may be planted too.
	if err := os.Symlink(victim, filepath.Join(path, ".f.new")); err != nil {
		t.Fatal(err)
	}
	if err := d.Replace("f", []byte("mine")); err != nil {
		t.Error(err)
	}
	if b, err := d.Read("f", 10); err != nil || string(b) != "mine" {
		t.Errorf("replaced by %q, %v", b, err)
	}
	if b, _ := os.ReadFile(victim); string(b) != "v" {
		t.Errorf("a file elsewhere was written: %q", b)
	}
	for _, name := range []string{"", ".", "..", "a/b", "../x", "a\x00"} {
		if err := d.Replace(name, nil); err == nil || !strings.Contains(err.Error(), "is not a file name") {
			t.Errorf("the name %q: %v", name, err)
		}
	}
	// The temporary name is five bytes longer, and 255 are the most (NAME_MAX).
	for n, want := range map[int]error{250: nil, 251: syscall.ENAMETOOLONG} {
		if err := d.Replace(strings.Repeat("x", n), nil); !errors.Is(err, want) {
			t.Errorf("a name of %d bytes: %v, want %v", n, err, want)
		}
	}
}

func TestDirectoryRefused(t *testing.T) {
	base := t.TempDir()
	path := private(t)
	link := filepath.Join(base, "link")
	file := filepath.Join(base, "file")
	if err := errors.Join(os.Symlink(path, link), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]error{link: syscall.ENOTDIR, file: syscall.ENOTDIR, filepath.Join(base, "none"): fs.ErrNotExist} {
		if d, err := durable.Open(p); err == nil {
			d.Close()
			t.Errorf("%s was opened", p)
		} else if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", p, err, want)
		}
	}
	for _, mode := range []os.FileMode{0o750, 0o701, 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var access *durable.AccessError
		if _, err := durable.Open(path); !errors.As(err, &access) {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	t.Run("foreign owner", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("only root can give a directory to another user")
		}
		if err := errors.Join(os.Chmod(path, 0o700), os.Chown(path, 65534, 65534)); err != nil {
			t.Fatal(err)
		}
		var access *durable.AccessError
		if _, err := durable.Open(path); !errors.As(err, &access) || !strings.Contains(err.Error(), "uid 65534") {
			t.Errorf("%v", err)
		}
	})
}

// case 33
func TestAnotherUserWrites(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	path := private(t)
	if err := open(t, path).Append("log", 0, []byte("x")); err != nil {
		t.Fatal(err)
	}
	// Not even if every user can search the directories above.
	for p := path; p != "/"; p = filepath.Dir(p) {
		if i, err := os.Stat(p); err == nil && i.Mode()&0o001 == 0 && p != path {
			t.Cleanup(func() { os.Chmod(p, i.Mode()) })
			if err := os.Chmod(p, i.Mode()|0o005); err != nil {
				t.Fatal(err)
			}
		}
	}
	otherUser := &syscall.Credential{Uid: 65534, Gid: 65534}
	file := filepath.Join(path, "log")
	if out := helper(t, "write", file, otherUser); !strings.Contains(out, "permission denied") {
		t.Errorf("another user: %s", out)
	}
	if err := os.Chmod(path, 0o711); err != nil {
		t.Fatal(err)
	}
	if out := helper(t, "write", file, otherUser); !strings.Contains(out, "permission denied") {
		t.Errorf("another user, in an open directory: %s", out)
	}
	if out := helper(t, "write", file, nil); out != "opened" {
		t.Errorf("the owner: %s", out)
	}
}

// case 89
func TestLock(t *testing.T) {
	path := private(t)
	d := open(t, path)
	if err := d.Lock(); err != nil {
		t.Fatal(err)
	}
	if err := d.Lock(); err != nil {
		t.Errorf("again by the same: %v", err)
	}
	want := "locked by " + strconv.Itoa(os.Getpid())
	if out := helper(t, "lock", path, nil); out != want {
		t.Errorf("another process finds %q, want %q", out, want)
	}
	// Emptying the directory does not free it.
	if err := os.Remove(filepath.Join(path, "lock")); err != nil {
		t.Fatal(err)
	}
	if out := helper(t, "lock", path, nil); out != want {
		t.Errorf("another process finds %q", out)
	}
	for _, not := range []string{"", "x", "99999999999999999999", strings.Repeat("1", 33)} {
		if err := os.WriteFile(filepath.Join(path, "lock"), []byte(not), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := helper(t, "lock", path, nil); out != want {
			t.Errorf("with %q in the lock file another process finds %q", not, out)
		}
	}
	d.Close()
	if out := helper(t, "lock", path, nil); out != "not locked: " {
		t.Errorf("after close another process finds %q", out)
	}
}

// TestReplaceCrash breaks every system call of a replace in every way: a file has its
// old content or its new one, whatever happens next.
func TestReplaceCrash(t *testing.T) {
	n := 0
	for _, mode := range durabletest.Modes {
		for k := 1; ; k++ {
			var f durabletest.Faults
			disk := durabletest.NewDisk(&f)
			d := disk.Open()
			if err := d.Replace("f", []byte("old content")); err != nil {
				t.Fatal(err)
			}
			f.Break(k, mode, syscall.ENOSPC)
			err, killed := replace(d, "new")
			if _, broken := f.Steps(); broken == "" {
				break
			}
			n++
			f.Break(0, durabletest.None, nil)
			look := func(when string) {
				got := disk.Get("f")
				if !bytes.Equal(got, []byte("old content")) && !bytes.Equal(got, []byte("new")) {
					t.Errorf("%v at %d, %s: %q", mode, k, when, got)
				}
				if err == nil && !killed && string(got) != "new" {
					t.Errorf("%v at %d, %s: success was told, content is %q", mode, k, when, got)
				}
			}
			look("at once")
			disk.PowerCut()
			look("after a power cut")
			if err := disk.Open().Replace("f", []byte("next")); err != nil || string(disk.Get("f")) != "next" {
				t.Errorf("%v at %d: the next replace says %v", mode, k, err)
			}
		}
	}
	t.Logf("%d crashes of a replace", n)
	if n < 50 {
		t.Errorf("only %d", n)
	}
}

func replace(d *durable.Dir, content string) (err error, killed bool) {
	defer func() { killed = recover() != nil }()
	return d.Replace("f", []byte(content)), false
}

// What was appended with success is there after a power cut, and so is its name.
func TestAppendIsDurable(t *testing.T) {
	var f durabletest.Faults
	disk := durabletest.NewDisk(&f)
	d := disk.Open()
	for i, b := range []string{"a", "b", "c"} {
		if err := d.Append("f", int64(i), []byte(b)); err != nil {
			t.Fatal(err)
		}
		disk.PowerCut()
		if got, want := string(disk.Get("f")), "abc"[:i+1]; got != want {
			t.Errorf("after %d appends: %q", i+1, got)
		}
	}
	if err := d.Truncate("f", 1); err != nil {
		t.Fatal(err)
	}
	disk.PowerCut()
	if got := string(disk.Get("f")); got != "a" {
		t.Errorf("after a truncate: %q", got)
	}
	if err := d.Remove("f"); err != nil {
		t.Fatal(err)
	}
	disk.PowerCut()
	if got := disk.Get("f"); got != nil {
		t.Errorf("after it was removed: %q", got)
	}
}

func TestRemoveAndNames(t *testing.T) {
	path := t.TempDir()
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := durable.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Lock(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b", "a", ".left.new", ".kept", "kept.new"} {
		if err := os.WriteFile(filepath.Join(path, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // each listing begins at the beginning
		if names, err := d.Names(); err != nil || !slices.Equal(names, []string{".kept", "a", "b", "kept.new"}) {
			t.Errorf("%q, %v", names, err)
		}
	}
	if err := d.Remove("a"); err != nil {
		t.Error(err)
	}
	if err := d.Remove("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed twice: %v", err)
	}
	if err := d.Remove("../b"); err == nil {
		t.Error("a file elsewhere was removed")
	}
	if names, err := d.Names(); err != nil || !slices.Equal(names, []string{".kept", "b", "kept.new"}) {
		t.Errorf("%q, %v", names, err)
	}
}

// TestInMemory: what a boot empties is told from what it does not, as stat(1) tells it.
func TestInMemory(t *testing.T) {
	for _, parent := range []string{".", "/dev/shm"} {
		path, err := os.MkdirTemp(parent, "durable-")
		if err != nil {
			t.Skip(err)
		}
		defer os.Remove(path)
		kind, err := exec.Command("stat", "--file-system", "--format=%T", path).Output()
		if err != nil {
			t.Skip(err)
		}
		d := open(t, path)
		got, err := d.InMemory()
		if want := string(kind) == "tmpfs\n" || string(kind) == "ramfs\n"; err != nil || got != want {
			t.Errorf("%s: %t, %v, and it is on %s", path, got, err, kind)
		}
	}
}
