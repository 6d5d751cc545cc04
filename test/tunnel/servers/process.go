// SPDX-License-Identifier: Apache-2.0

// Package servers runs servers of Debian as they are, nginx, PostgreSQL and stunnel, for tests of
// tunnels. They run in folders of their own, listen on this machine only, and not as root.
package servers

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Unpacked is the folder into which scripts/setup.sh takes programs out of packages.
const Unpacked = "/usr/local/lib/agentd-test-servers"

// Patience is how long a server may take for anything.
const Patience = 2 * time.Minute

// Program is a program of a package, and the environment that it needs.
type Program struct {
	Path string
	env  []string
}

// patterns are the paths of programs that are not in the PATH of each user.
var patterns = map[string]string{
	"nginx": "/usr/sbin/nginx", "stunnel": "/usr/bin/stunnel4", "curl": "/usr/bin/curl", "openssl": "/usr/bin/openssl",
	"postgres": "/usr/lib/postgresql/*/bin/postgres", "initdb": "/usr/lib/postgresql/*/bin/initdb", "psql": "/usr/lib/postgresql/*/bin/psql",
}

// Find returns a program that the machine has, or that was taken out of a package.
func Find(name string) (Program, error) {
	if files, err := filepath.Glob(patterns[name]); err == nil && len(files) > 0 {
		return Program{Path: files[len(files)-1]}, nil
	}
	if files, err := filepath.Glob(Unpacked + patterns[name]); err == nil && len(files) > 0 {
		libraries, err := filepath.Glob(Unpacked + "/usr/lib/*-linux-gnu*")
		if err != nil {
			return Program{}, err
		}
		more, err := filepath.Glob(Unpacked + "/lib/*-linux-gnu*")
		if err != nil {
			return Program{}, err
		}
		path := "LD_LIBRARY_PATH="
		for _, dir := range append(libraries, more...) {
			path += dir + ":"
		}
		return Program{Path: files[len(files)-1], env: []string{path[:len(path)-1]}}, nil
	}
	return Program{}, fmt.Errorf("%s is missing: `scripts/setup.sh tunnel` gets it", name)
}

// Asked names the environment variable that says that these tests are asked for.
const Asked = "AGENTD_TEST_SERVERS"

// Need returns programs. It skips a test that was not asked for.
func Need(tb testing.TB, names ...string) map[string]Program {
	tb.Helper()
	if os.Getenv(Asked) == "" {
		tb.Skip("runs servers of Debian: run `make test-tunnel`")
	}
	out, err := find(names...)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// IfThere returns programs. It skips a test that needs one which the machine does not have.
func IfThere(tb testing.TB, names ...string) map[string]Program {
	tb.Helper()
	out, err := find(names...)
	if err != nil {
		tb.Skip(err)
	}
	return out
}

func find(names ...string) (map[string]Program, error) {
	out := map[string]Program{}
	for _, name := range names {
		p, err := Find(name)
		if err != nil {
			return nil, err
		}
		out[name] = p
	}
	return out, nil
}

// Command returns a command that runs the program.
func (p Program) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.Path, args...)
	cmd.Env = append(os.Environ(), p.env...)
	return cmd
}

// Unprivileged has a command run as the user daemon, if this process is root.
func Unprivileged(cmd *exec.Cmd) error {
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := account()
	if err != nil {
		return err
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: gid}
	return nil
}

func account() (uid, gid uint32, err error) {
	u, err := user.Lookup("daemon")
	if err != nil {
		return 0, 0, err
	}
	id := func(s string) uint32 {
		n, failed := strconv.ParseUint(s, 10, 32)
		err = errors.Join(err, failed)
		return uint32(n)
	}
	uid, gid = id(u.Uid), id(u.Gid)
	return uid, gid, err
}

// Folder makes a folder that any user may enter, with a short path: those of sockets are. Its owner
// is the user of [Unprivileged]. It is removed after the test.
func Folder(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "agentd-s-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	if os.Geteuid() == 0 {
		uid, gid, err := account()
		if err == nil {
			err = os.Chown(dir, int(uid), int(gid))
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// Process is a running program.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of its end, valid after done
	out  *output
	end  syscall.Signal
}

// output keeps what a process printed. It may be read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Start starts a command, and returns when ready does not fail any more. After the test, or if this
// process is killed, the command gets the signal that ends it with its children.
func Start(tb testing.TB, cmd *exec.Cmd, end syscall.Signal, ready func() error) *Process {
	tb.Helper()
	p := &Process{cmd: cmd, done: make(chan struct{}), out: &output{}, end: end}
	cmd.WaitDelay = time.Second // for children that have its output
	cmd.Stdout, cmd.Stderr = p.out, p.out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = end
	started := make(chan error)
	go func() {
		// The kernel means the thread that started it by a parent's death.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if started <- err; err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.finish)
	var err error
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		select {
		case <-p.done:
			tb.Fatalf("%s ended: %v\n%s", cmd.Path, p.err, p.Output())
		default:
		}
		if err = ready(); err == nil {
			return p
		}
	}
	tb.Fatalf("%s is not ready after %v: %v\n%s", cmd.Path, Patience, err, p.Output())
	return nil
}

// Output returns what the process printed until now.
func (p *Process) Output() string { return p.out.String() }

// PID returns the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal.
func (p *Process) Signal(tb testing.TB, s os.Signal) {
	tb.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		tb.Fatal(err)
	}
}

// Kill ends the process as `kill -9` does, and returns when it has ended.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// Wait returns how the process ended.
func (p *Process) Wait(tb testing.TB) error {
	tb.Helper()
	select {
	case <-p.done:
	case <-time.After(Patience):
		tb.Fatalf("%s did not end after %v\n%s", p.cmd.Path, Patience, p.Output())
	}
	return p.err
}

// finish ends the process, and kills it if it does not end.
func (p *Process) finish() {
	p.cmd.Process.Signal(p.end)
	select {
	case <-p.done:
	case <-time.After(Patience):
		p.Kill()
	}
}

// Stop ends the process as systemd does, and returns how it ended.
func (p *Process) Stop(tb testing.TB) error {
	tb.Helper()
	p.Signal(tb, syscall.SIGTERM)
	return p.Wait(tb)
}
