// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// case 6: nothing is served next to, or instead of, what another user put there.
func TestListenRefuses(t *testing.T) {
	socketAt := func(t *testing.T, path string, uid int) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
		if err := os.Chown(path, uid, -1); err != nil {
			t.Skipf("needs root: %v", err)
		}
	}
	for name, c := range map[string]struct {
		plant func(t *testing.T, dir, path string)
		want  string
	}{
		"symbolic link": {func(t *testing.T, dir, path string) {
			os.WriteFile(dir+"/target", nil, 0o600)
			os.Symlink(dir+"/target", path)
		}, "symbolic link"},
		"dangling link": {func(t *testing.T, dir, path string) { os.Symlink(dir+"/nowhere", path) }, "symbolic link"},
		"link to a socket of ours": {func(t *testing.T, dir, path string) {
			socketAt(t, dir+"/other", os.Getuid())
			os.Symlink(dir+"/other", path)
		}, "symbolic link"},
		"foreign owner": {func(t *testing.T, dir, path string) { socketAt(t, path, 4242) }, "socket of uid 4242"},
		"file":          {func(t *testing.T, dir, path string) { os.WriteFile(path, nil, 0o600) }, "a regular file is there"},
		"directory":     {func(t *testing.T, dir, path string) { os.Mkdir(path, 0o700) }, "a directory is there"},
		"alive": {func(t *testing.T, dir, path string) {
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}, "another program answers"},
		"locked": {func(t *testing.T, dir, path string) {
			l, err := Listen(path, 0o600, -1)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}, "has locked it: stop that process first"},
		"link for a lock":    {func(t *testing.T, dir, path string) { os.Symlink(dir+"/x", path+".lock") }, "a symbolic link is there"},
		"writable directory": {func(t *testing.T, dir, path string) { os.Chmod(dir, 0o777) }, "chmod go-w"},
		"sticky directory":   {func(t *testing.T, dir, path string) { os.Chmod(dir, 0o777|os.ModeSticky) }, "chmod go-w"},
		"foreign directory": {func(t *testing.T, dir, path string) {
			if err := os.Chown(dir, 4242, -1); err != nil {
				t.Skipf("needs root: %v", err)
			}
		}, "belongs to uid 4242"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tempDir(t)
			path := filepath.Join(dir, "s")
			c.plant(t, dir, path)
			before, _ := os.Lstat(path)
			l, err := Listen(path, 0o660, -1)
			if err == nil {
				l.Close()
				t.Fatal("it listens")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %q, want %q", err, c.want)
			}
			if after, _ := os.Lstat(path); before != nil && !os.SameFile(before, after) {
				t.Error("what was there is gone")
			}
		})
	}
	if _, err := Listen("relative", 0o600, -1); err == nil {
		t.Error("a relative path")
	}
	dir := tempDir(t)
	os.Symlink(dir, dir+"/link")
	if _, err := Listen(dir+"/link/s", 0o600, -1); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("linked directory: %v", err)
	}
}

// The mode is what was asked for, whatever the umask, and the socket that an earlier
// run left is replaced.
func TestListenModeAndStale(t *testing.T) {
	path := filepath.Join(tempDir(t), "s")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	for _, umask := range []int{0, 0o077, 0o777} {
		old := syscall.Umask(umask)
		l, err := Listen(path, 0o660, os.Getgid())
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		st, err := os.Lstat(path)
		if err != nil || st.Mode() != os.ModeSocket|0o660 {
			t.Errorf("umask %#o: %v %v", umask, st.Mode(), err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("after close: %v", err)
		}
	}
	// A socket that is not the one it made is left alone.
	l, err := Listen(path, 0o600, -1)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(path)
	os.WriteFile(path, nil, 0o600)
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Error("another's file was removed")
	}
}

// The file of a socket never has more permissions than it ends up with: strace would
// show it, this shows that bind itself takes the mode of the socket.
func TestBindTakesMode(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	path := filepath.Join(tempDir(t), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Fchmod(fd, 0o600), unix.Bind(fd, &unix.SockaddrUnix{Name: path})); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Lstat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
}

func TestInherit(t *testing.T) {
	dir := tempDir(t)
	listening := func(path string, mode os.FileMode) *os.File {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		if path[0] == '/' {
			os.Chmod(path, mode)
		}
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	l, err := Inherit(listening(dir+"/good", 0o600), dir+"/good", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if l.Path() != dir+"/good" {
		t.Error(l.Path())
	}
	l.Close()
	if _, err := os.Lstat(dir + "/good"); err != nil {
		t.Error("the parent's socket was removed")
	}
	if _, err := Inherit(listening(dir+"/elsewhere", 0o600), dir+"/good", 0o600); err == nil || !strings.Contains(err.Error(), "ListenStream=") {
		t.Errorf("another path: %v", err)
	}
	shared := filepath.Join(dir, "shared")
	if err := errors.Join(os.Mkdir(shared, 0o755), os.Chmod(shared, 0o777)); err != nil {
		t.Fatal(err)
	}
	if _, err := Inherit(listening(shared+"/s", 0o600), shared+"/s", 0o600); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("in a folder that others write to: %v", err)
	}
	moved := listening(dir+"/moved", 0o600)
	if err := errors.Join(os.Remove(dir+"/moved"), os.WriteFile(dir+"/moved", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Inherit(moved, dir+"/moved", 0o600); err == nil || !strings.Contains(err.Error(), "want a socket") {
		t.Errorf("something else in its place: %v", err)
	}
	if _, err := Inherit(listening(dir+"/open", 0o666), dir+"/open", 0o660); err == nil || !strings.Contains(err.Error(), "SocketMode=") {
		t.Errorf("too open: %v", err)
	}
	if _, err := Inherit(listening("@agentd-test-"+filepath.Base(dir), 0), dir+"/good", 0o660); err == nil || !strings.Contains(err.Error(), "abstract") {
		t.Errorf("abstract: %v", err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	f, _ := tcp.(*net.TCPListener).File()
	if _, err := Inherit(f, dir+"/good", 0o660); err == nil {
		t.Error("tcp")
	}
	file, err := os.Create(dir + "/file")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Inherit(file, dir+"/file", 0o660); err == nil {
		t.Error("a file")
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	if _, err := Inherit(os.NewFile(uintptr(pair[0]), "pair"), dir+"/good", 0o660); err == nil || !strings.Contains(err.Error(), "listening") {
		t.Errorf("not listening: %v", err)
	}
}

// case 87: a container gets only the client socket. Here that is a process with uid 0 in a
// mount namespace of its own, in which the directory contains only that socket.
func TestContainerRoot(t *testing.T) {
	for _, tool := range []string{"unshare", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	if err := exec.Command("unshare", "--mount", "true").Run(); err != nil {
		t.Skipf("no mount namespaces here: %v", err)
	}
	r := run(t, &fake{}, Limits{}, nil)
	dir := filepath.Dir(r.client)
	script := `set -e
		cp --attributes-only /dev/null "$1.new" && mount --bind "$1" "$1.new" && mkdir "$2.in"
		mount -t tmpfs none "$2.in" && touch "$2.in/c" && mount --move "$1.new" "$2.in/c" && mount --move "$2.in" "$2"
		for target in status apps; do curl -sS --noproxy "*" --unix-socket "$2/c" "http://a/v1/$target"; echo; done
		curl -sS --noproxy "*" --unix-socket "$2/a" http://a/v1/apps && echo reached || true`
	out, err := exec.Command("unshare", "--mount", "sh", "-c", script, "sh", r.client, dir).CombinedOutput()
	os.RemoveAll(dir + ".in")
	if err != nil {
		t.Skipf("cannot build a container here: %v: %s", err, out)
	}
	got := string(out)
	if !strings.Contains(got, `"version":"test"`) || !strings.Contains(got, `"code":"not-permitted"`) || strings.Contains(got, "reached") {
		t.Errorf("got %s", got)
	}
}
