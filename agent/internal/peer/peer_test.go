// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/boottime"
	"github.com/cvm-agentd/agentd/internal/caller"
)

// methods runs f with SO_PEERPIDFD if this kernel has it, and as on an older kernel
// (case 7).
func methods(t *testing.T, f func(t *testing.T, i *Identifier, method evidence.Method)) {
	for _, method := range []evidence.Method{evidence.MethodPidfd, evidence.MethodStartTime} {
		t.Run(string(method), func(t *testing.T) {
			i, err := New(Options{Timeout: patience})
			if err != nil {
				t.Fatal(err)
			}
			if method == evidence.MethodStartTime {
				i.pidfd = func(int) (int, error) { return -1, unix.ENOPROTOOPT }
			} else if !hasPidfd(t) {
				t.Skip("this kernel has no SO_PEERPIDFD")
			}
			f(t, i, method)
		})
	}
}

func hasPidfd(t *testing.T) bool {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	fd, err := peerPidfd(pair[0])
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
}

func identify(t *testing.T, i *Identifier, c *net.UnixConn) *caller.Peer {
	t.Helper()
	p, err := i.Identify(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Close() })
	return p
}

func TestPeer(t *testing.T) {
	methods(t, func(t *testing.T, i *Identifier, method evidence.Method) {
		l := listenAt(t)
		h := start(t, l, "stay", nil)
		p := identify(t, i, accept(t, l))
		if p.PID != h.cmd.Process.Pid || p.UID != uint32(os.Getuid()) || p.GID != uint32(os.Getgid()) || p.Method != method {
			t.Errorf("got %+v", p)
		}
		if p.Unit == "" && p.UnitReason == "" {
			t.Error("neither unit nor reason")
		}
		if now := boottime.Now(); p.Started > now || now-p.Started > uint64(patience.Milliseconds()) || p.Started%boottime.Tick != 0 {
			t.Errorf("started at %d ms, it is %d ms now", p.Started, now)
		}
		if err := p.Process.Running(); err != nil {
			t.Error(err)
		}
		self, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		x := p.Process.Executable(t.Context())
		if want := evidence.Digest(sha256.Sum256(self)); x.Digest == nil || *x.Digest != want || x.Covered {
			t.Errorf("executable %+v, want digest %s", x, want)
		}
		h.end()
		if err := p.Process.Running(); !errors.Is(err, caller.ErrGone) {
			t.Errorf("after its end: %v", err)
		}
	})
}

// case 1: the connection lives on in a child, the process that the kernel names is gone.
func TestParentExits(t *testing.T) {
	methods(t, func(t *testing.T, i *Identifier, _ evidence.Method) {
		l := listenAt(t)
		h := start(t, l, "fork and exit", nil)
		state, err := h.cmd.Process.Wait()
		if err != nil || !state.Success() {
			t.Fatal(state, err)
		}
		c := accept(t, l)
		if _, err := i.Identify(c); !errors.Is(err, caller.ErrGone) {
			t.Errorf("got %v, want %v", err, caller.ErrGone)
		}
		c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v; the child should still hold the connection, or this test shows nothing", err)
		}
	})
}

// case 1: the same for a process that has ended and was not waited for.
func TestZombie(t *testing.T) {
	methods(t, func(t *testing.T, i *Identifier, _ evidence.Method) {
		l := listenAt(t)
		h := start(t, l, "fork and exit", nil)
		dir := filepath.Join("/proc", strconv.Itoa(h.cmd.Process.Pid))
		eventually(t, "the helper is a zombie, and all of its threads are gone", func() bool {
			b, err := os.ReadFile(filepath.Join(dir, "stat"))
			tasks, _ := os.ReadDir(filepath.Join(dir, "task"))
			return err == nil && bytes.Contains(b, []byte(") Z ")) && len(tasks) == 1
		})
		if _, err := i.Identify(accept(t, l)); !errors.Is(err, caller.ErrGone) {
			t.Errorf("got %v, want %v", err, caller.ErrGone)
		}
	})
}

// case 2: exec after connect keeps unit and uid, and changes what is observed at most.
func TestExecAfterConnect(t *testing.T) {
	program := copyOfSelf(t)
	methods(t, func(t *testing.T, i *Identifier, _ evidence.Method) {
		l := listenAt(t)
		h := start(t, l, "exec", func(c *exec.Cmd) { c.Env = append(c.Env, trueEnv+"="+program) })
		p := identify(t, i, accept(t, l))
		if p.PID != h.cmd.Process.Pid || p.UID != uint32(os.Getuid()) {
			t.Errorf("got %+v", p)
		}
		if err := p.Process.Running(); err != nil {
			t.Error(err)
		}
		if x := p.Process.Executable(t.Context()); x.Path != program {
			t.Errorf("observed %+v, want %s, which it is by now", x, program)
		}
	})
}

// cases 3 and 85: the process that a connection is passed to is not looked at; what is said is
// said of the process that connected, and a trusted program that it has become by now is an observation.
func TestPassedOn(t *testing.T) {
	program := copyOfSelf(t)
	methods(t, func(t *testing.T, i *Identifier, _ evidence.Method) {
		l := listenAt(t)
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pair[0])
		theirs := os.NewFile(uintptr(pair[1]), "pair")
		h := start(t, l, "pass on and exec", func(c *exec.Cmd) {
			c.Env = append(c.Env, trueEnv+"="+program)
			c.Stdout = theirs
		})
		theirs.Close()
		rights := make([]byte, unix.CmsgSpace(4))
		if _, n, _, _, err := unix.Recvmsg(pair[0], make([]byte, 16), rights, 0); err != nil || n == 0 {
			t.Fatal(n, err)
		}
		eventually(t, "the helper has become the other program", func() bool {
			link, _ := os.Readlink(filepath.Join("/proc", strconv.Itoa(h.cmd.Process.Pid), "exe"))
			return link == program
		})
		p := identify(t, i, accept(t, l))
		if p.PID != h.cmd.Process.Pid {
			t.Errorf("identified process %d, want %d, which connected; this test is %d", p.PID, h.cmd.Process.Pid, os.Getpid())
		}
		x := p.Process.Executable(t.Context())
		if x.Path != program || x.Covered {
			t.Errorf("observed %+v", x)
		}
		// And its end ends what the receiver can do.
		h.end()
		if err := p.Process.Running(); !errors.Is(err, caller.ErrGone) {
			t.Errorf("after its end: %v", err)
		}
	})
}

// case 4: the uid at connect is what counts.
func TestSetuidAfterConnect(t *testing.T) {
	needRoot(t)
	methods(t, func(t *testing.T, i *Identifier, _ evidence.Method) {
		l := listenAt(t)
		h := start(t, l, "setuid", nil)
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join("/proc", strconv.Itoa(h.cmd.Process.Pid), "task"), &st); err != nil {
			t.Fatal(err)
		}
		p := identify(t, i, accept(t, l))
		if p.UID != 0 || p.GID != 0 {
			t.Errorf("uid %d gid %d, want those at connect", p.UID, p.GID)
		}
	})
}

// case 5: root of a user namespace is the user outside.
func TestUserNamespace(t *testing.T) {
	needRoot(t)
	methods(t, func(t *testing.T, i *Identifier, _ evidence.Method) {
		l := listenAt(t)
		probe := exec.Command("/bin/true")
		probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
		if err := probe.Run(); err != nil {
			t.Skipf("no user namespaces here: %v", err)
		}
		start(t, l, "stay", func(c *exec.Cmd) {
			c.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 31337, Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 31338, Size: 1}},
				Credential:  &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
			}
		})
		if p := identify(t, i, accept(t, l)); p.UID != 31337 || p.GID != 31338 {
			t.Errorf("uid %d gid %d, want 31337 and 31338", p.UID, p.GID)
		}
	})
}

// An agent in a user namespace itself cannot tell the uids apart that it has no name for.
func TestUnnameableUID(t *testing.T) {
	i := &Identifier{foreign: true, overflow: 65534}
	if err := i.nameable(&unix.Ucred{Pid: 1, Uid: 65534}); !errors.Is(err, caller.ErrUnknown) {
		t.Errorf("uid outside the namespace: %v", err)
	}
	if err := i.nameable(&unix.Ucred{Pid: 0, Uid: 1}); !errors.Is(err, caller.ErrUnknown) {
		t.Errorf("process outside the pid namespace: %v", err)
	}
	if err := i.nameable(&unix.Ucred{Pid: 1, Uid: 0}); err != nil {
		t.Error(err)
	}
}

// case 15: an upgrade replaces the executable of a running process; a memfd has none.
func TestReplacedAndMemfd(t *testing.T) {
	i, err := New(Options{Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	l := listenAt(t)
	program := copyOfSelf(t)
	start(t, l, "exec", func(c *exec.Cmd) { c.Env = append(c.Env, trueEnv+"="+program) })
	next := copyOfSelf(t)
	if err := os.Rename(next, program); err != nil {
		t.Fatal(err)
	}
	x := identify(t, i, accept(t, l)).Process.Executable(t.Context())
	if x.State != evidence.ExecutableReplaced || x.Path != program || x.Digest == nil {
		t.Errorf("replaced: %+v", x)
	}

	fd, err := unix.MemfdCreate("trusted", 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	defer f.Close()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	if _, err := io.Copy(f, self); err != nil {
		t.Fatal(err)
	}
	start(t, l, "exec", func(c *exec.Cmd) {
		c.Env = append(c.Env, trueEnv+"=/proc/"+strconv.Itoa(os.Getpid())+"/fd/"+strconv.Itoa(fd))
	})
	x = identify(t, i, accept(t, l)).Process.Executable(t.Context())
	if x.State != evidence.ExecutableMemfd || x.Path != "/memfd:trusted" || x.Digest == nil {
		t.Errorf("memfd: %+v", x)
	}
}

// What is too large or takes too long to hash is unreadable, and costs no more than that.
func TestExecutableCaps(t *testing.T) {
	for name, o := range map[string]Options{
		"size": {MaxExecutable: 1 << 10},
		"time": {Timeout: time.Nanosecond},
	} {
		i, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		l := listenAt(t)
		start(t, l, "stay", nil)
		if x := identify(t, i, accept(t, l)).Process.Executable(t.Context()); x.State != evidence.ExecutableUnreadable || x.Digest != nil {
			t.Errorf("%s: %+v", name, x)
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// copyOfSelf is the test binary under a name of its own.
func copyOfSelf(t *testing.T) string {
	t.Helper()
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(filepath.Join(dir, "trusted"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Name()
}
