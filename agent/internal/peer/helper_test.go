// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is its own helper: started with roleEnv set it plays one role, so
// that what is observed are real processes.
const (
	roleEnv   = "PEER_TEST_ROLE"
	socketEnv = "PEER_TEST_SOCKET"
	trueEnv   = "PEER_TEST_PROGRAM"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// play is what the other end does. It says "ready" on standard output when it has, and
// ends when standard input does.
func play(role string) error {
	switch role { // those that inherit the connection, or have passed it on
	case "hold":
		return hold()
	case "ask":
		return askAnyway()
	case "quiet":
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	fd, err := connect(os.Getenv(socketEnv))
	if err != nil {
		return err
	}
	switch role {
	case "stay":
	case "fork and exit":
		// The child has the connection on 3 and keeps it until its input ends.
		c := exec.Command("/proc/self/exe")
		c.Env = []string{roleEnv + "=hold"}
		c.Stdin, c.Stdout = os.Stdin, os.Stdout
		c.ExtraFiles = []*os.File{os.NewFile(uintptr(fd), "connection")}
		return c.Start()
	case "fork and ask":
		if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
			return err
		}
		c := exec.Command("/proc/self/exe")
		c.Env = []string{roleEnv + "=ask"}
		c.Stdin, c.Stdout = os.Stdin, os.Stdout
		c.ExtraFiles = []*os.File{os.NewFile(uintptr(fd), "connection")}
		return c.Start()
	case "exec":
		program := os.Getenv(trueEnv)
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return err
		}
		return syscall.Exec(program, []string{program}, []string{roleEnv + "=hold"})
	case "pass on and exec":
		// Standard output is a socket pair here: its other end gets the connection.
		if err := unix.Sendmsg(1, []byte("ready\n"), unix.UnixRights(fd), nil, 0); err != nil {
			return err
		}
		program := os.Getenv(trueEnv)
		return syscall.Exec(program, []string{program}, []string{roleEnv + "=quiet"})
	case "setuid":
		if err := syscall.Setgroups(nil); err != nil {
			return err
		}
		if err := errors.Join(syscall.Setgid(4242), syscall.Setuid(4242)); err != nil {
			return err
		}
	default:
		return fmt.Errorf("no such role")
	}
	return hold()
}

func hold() error {
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// askAnyway asks over the inherited connection once standard input says so.
func askAnyway() error {
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return err
	}
	c := os.NewFile(3, "connection")
	if _, err := io.WriteString(c, "GET /v1/self HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	_, err := io.Copy(os.Stdout, c)
	return err
}

func connect(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	return fd, unix.Connect(fd, &unix.SockaddrUnix{Name: path})
}

// patience is how long a test waits for what must come, and gives to what it starts: it
// ends only a test that fails.
const patience = 2 * time.Minute

// helper is a running helper.
type helper struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

// start starts a helper that connects to l, and waits until it is ready.
func start(t *testing.T, l *net.UnixListener, role string, change func(*exec.Cmd)) *helper {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{roleEnv + "=" + role, socketEnv + "=" + l.Addr().String()}
	var errs strings.Builder
	cmd.Stderr = &errs
	if change != nil {
		change(cmd)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out io.Reader
	if cmd.Stdout == nil {
		if out, err = cmd.StdoutPipe(); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h := &helper{cmd: cmd, stdin: stdin}
	t.Cleanup(h.end)
	if out != nil {
		line := make([]byte, len("ready\n"))
		if _, err := io.ReadFull(out, line); err != nil {
			cmd.Wait()
			t.Fatalf("helper %q did not get ready: %v: %s", role, err, errs.String())
		}
	}
	return h
}

func (h *helper) end() {
	h.stdin.Close()
	h.cmd.Wait()
}

// listenAt makes a socket that any uid may connect to.
func listenAt(t *testing.T) *net.UnixListener {
	t.Helper()
	dir, err := os.MkdirTemp("", "peer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	return l
}

func accept(t *testing.T, l *net.UnixListener) *net.UnixConn {
	t.Helper()
	l.SetDeadline(time.Now().Add(patience))
	c, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// eventually waits until f is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}
