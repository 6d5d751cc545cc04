// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// open makes a socket with a short path, until the test ends.
func open(t *testing.T) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "socket-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "s")
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return path
}

// TestListen checks that only a socket of this user on which no program answers is replaced, and
// that the mode is 0600 whatever the umask is.
func TestListen(t *testing.T) {
	there := open(t)
	if at, err := os.Lstat(there); err != nil || at.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", at.Mode(), err)
	}
	if _, err := Listen(t.Context(), there); err == nil || !strings.Contains(err.Error(), "another program answers") {
		t.Errorf("a second program: %v", err)
	}
	dir := filepath.Dir(there)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(there, link); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	writable := filepath.Join(dir, "writable")
	if err := os.Mkdir(writable, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(writable, 0o777); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{file: false, link: false, stale: true, filepath.Join(writable, "s"): false, "relative": false, filepath.Join(dir, "none", "s"): false} {
		l, err := Listen(t.Context(), path)
		if (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
		if err == nil {
			l.Close()
		}
	}
	if kept, err := os.ReadFile(file); err != nil || string(kept) != "kept" {
		t.Errorf("the file that was there: %q, %v", kept, err)
	}
}

// A number of descriptors that no unit of ours leads to is refused before anything is made
// for each of them, and so is one that counts descriptors which are not open.
func TestCountOfPassed(t *testing.T) {
	own := strconv.Itoa(os.Getpid())
	for _, c := range []struct{ pid, fds, want string }{
		{own, "2147483647", "at most 144"},
		{own, "145", "at most 144"},
		{own, "-1", "at most 144"},
		{own, "", "at most 144"},
		{own, "two", "at most 144"},
		{own, strings.Repeat("9", 1000), "at most 144"},
		{"1", "2147483647", ""}, // for another process
		{"", "2147483647", ""},
		{own, "0", ""},
	} {
		t.Setenv("LISTEN_PID", c.pid)
		t.Setenv("LISTEN_FDS", c.fds)
		err := CountPassed(144)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || len(err.Error()) > 200) {
			t.Errorf("LISTEN_PID %q, LISTEN_FDS %.20q: %v, want %q", c.pid, c.fds, err, c.want)
		}
	}
	t.Setenv("LISTEN_PID", own)
	t.Setenv("LISTEN_FDS", "144")
	if err := CountPassed(144); err == nil || !strings.Contains(err.Error(), "is not open") {
		t.Errorf("144 descriptors, of which some are not open: %v", err)
	}
}

// TestPassedKinds: only a stream socket that listens becomes a listener.
func TestPassedKinds(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	path := filepath.Join(filepath.Dir(open(t)), "other")
	made, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	connected, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connected.Close()
	plain, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for _, c := range []struct {
		name string
		of   any
		want string // of the error; empty: it is taken
	}{
		{"tcp", tcp, ""}, {"unix", made, ""}, {"udp", udp, "a stream socket"},
		{"connected", connected, "that listens"}, {"a folder", plain, "want sockets"},
	} {
		f, is := c.of.(*os.File)
		if !is {
			if f, err = c.of.(interface{ File() (*os.File, error) }).File(); err != nil {
				t.Fatal(err)
			}
			defer f.Close()
		}
		l, err := listener(f)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if err == nil {
			l.Close()
		}
	}
}
