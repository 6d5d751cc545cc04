// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
)

// found is what Find returns of a process, which is closed at the end of the test.
func found(t *testing.T, i *Identifier, pid int) *caller.Peer {
	t.Helper()
	p, err := i.Find(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Close() })
	return p
}

func newIdentifier(t *testing.T) *Identifier {
	t.Helper()
	i, err := New(Options{Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestFind: what is said of a process by its number is what is said of it when it connects.
func TestFind(t *testing.T) {
	i, l := newIdentifier(t), listenAt(t)
	h := start(t, l, "stay", nil)
	want, got := identify(t, i, accept(t, l)), found(t, i, h.cmd.Process.Pid)
	if got.PID != want.PID || got.UID != want.UID || got.GID != want.GID || got.Started != want.Started || got.Unit != want.Unit ||
		got.Group != want.Group || got.MountNamespace != want.MountNamespace || got.Method != evidence.MethodPidfd {
		t.Errorf("found %+v, which connected as %+v", got, want)
	}
	x, y := got.Process.Executable(t.Context()), want.Process.Executable(t.Context())
	if x.Digest == nil || *x.Digest != *y.Digest || x.Path != y.Path {
		t.Errorf("found with executable %+v, connected with %+v", x, y)
	}
	h.end()
	if err := got.Process.Running(); !errors.Is(err, caller.ErrGone) {
		t.Errorf("after its end: %v", err)
	}
	if _, err := i.Find(h.cmd.Process.Pid); !errors.Is(err, caller.ErrGone) {
		t.Errorf("found after its end: %v", err)
	}
}

// case 150: a process that ended and was not waited for is gone, and so is what no process can be.
func TestFindNothing(t *testing.T) {
	i, l := newIdentifier(t), listenAt(t)
	h := start(t, l, "stay", nil)
	accept(t, l)
	h.cmd.Process.Kill()
	dir := filepath.Join("/proc", strconv.Itoa(h.cmd.Process.Pid))
	eventually(t, "the helper is a zombie", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "stat"))
		tasks, _ := os.ReadDir(filepath.Join(dir, "task"))
		return err == nil && bytes.Contains(b, []byte(") Z ")) && len(tasks) == 1
	})
	thread := 0
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range tasks {
		if n, err := strconv.Atoi(x.Name()); err == nil && n != os.Getpid() {
			thread = n
		}
	}
	if thread == 0 {
		t.Fatal("this process has one thread: the test shows nothing of others")
	}
	for what, pid := range map[string]int{"a zombie": h.cmd.Process.Pid, "a thread": thread, "nothing": 0, "a group": -os.Getpid(), "too large": maxPID + 1, "this one with more bits than the kernel reads": 1<<32 + os.Getpid(), "largest": 1<<31 - 1} {
		if _, err := i.Find(pid); !errors.Is(err, caller.ErrGone) {
			t.Errorf("%s, %d: %v", what, pid, err)
		}
	}
}

// case 150: the number of a process that ended passes to another one. What was found before stays gone,
// and what is found now is the other.
func TestFindReused(t *testing.T) {
	needRoot(t)
	i, l := newIdentifier(t), listenAt(t)
	h := start(t, l, "stay", nil)
	accept(t, l)
	pid := h.cmd.Process.Pid
	before := found(t, i, pid)
	dir := before.Process.(*process).dir
	h.end()
	var next *exec.Cmd
	for end := time.Now().Add(patience); next == nil; {
		if time.Now().After(end) {
			t.Fatal("no process got the number again")
		}
		// The kernel gives out the number after this one next, if no other process starts first.
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", fmt.Append(nil, pid-1), 0o644); err != nil {
			t.Skipf("this kernel does not let the next number be chosen: %v", err)
		}
		c := exec.Command("sleep", "600")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if c.Process.Pid == pid {
			next = c
			break
		}
		c.Process.Kill()
		c.Wait()
	}
	t.Cleanup(func() { next.Process.Kill(); next.Wait() })
	if err := before.Process.Running(); !errors.Is(err, caller.ErrGone) {
		t.Errorf("the process that had the number before: %v", err)
	}
	if b, err := before.Process.(*process).read("stat", 4096); err == nil {
		t.Errorf("its folder (%v) shows the other process: %s", dir, b)
	}
	now := found(t, i, pid)
	if err := now.Process.Running(); err != nil || now.Started < before.Started {
		t.Errorf("found %+v: %v", now, err)
	}
	eventually(t, "the other process runs its program", func() bool {
		link, _ := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
		return filepath.Base(link) == "sleep" || filepath.Base(link) == "coreutils"
	})
	if x, y := found(t, i, pid).Process.Executable(t.Context()), before.Process.Executable(t.Context()); x.Digest == nil || y.Digest != nil && *x.Digest == *y.Digest {
		t.Errorf("found with executable %+v, and before with %+v", x, y)
	}
}

// TestFindOther: processes of other users, and those in namespaces of their own, are found with the user
// that they have on the machine. A caller in a pid namespace of its own may not name processes.
func TestFindOther(t *testing.T) {
	needRoot(t)
	i, l := newIdentifier(t), listenAt(t)
	probe := exec.Command("/bin/true")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	if err := probe.Run(); err != nil {
		t.Skipf("no namespaces here: %v", err)
	}
	for _, c := range []struct {
		name     string
		uid, gid uint32
		own      bool // numbers
		attr     *syscall.SysProcAttr
	}{
		{"another user", 4242, 4243, false, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4242, Gid: 4243, NoSetGroups: true}}},
		{"root of a user namespace", 31337, 31338, false, &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 31337, Size: 1}}, GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 31338, Size: 1}},
			Credential: &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
		}},
		{"in a container", 0, 0, true, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}},
	} {
		h := start(t, l, "stay", func(cmd *exec.Cmd) { cmd.SysProcAttr = c.attr })
		connected := identify(t, i, accept(t, l))
		p := found(t, i, h.cmd.Process.Pid)
		if p.UID != c.uid || p.GID != c.gid || p.UID != connected.UID || p.GID != connected.GID || p.MountNamespace != connected.MountNamespace {
			t.Errorf("%s: uid %d, gid %d, want %d and %d; connected as %+v", c.name, p.UID, p.GID, c.uid, c.gid, connected)
		}
		if err := i.Numbers(connected); (err != nil) != c.own || err != nil && !errors.Is(err, caller.ErrUnknown) {
			t.Errorf("%s: numbers: %v", c.name, err)
		}
		h.end()
		if err := i.Numbers(connected); !errors.Is(err, caller.ErrGone) {
			t.Errorf("%s: numbers after its end: %v", c.name, err)
		}
	}
}

// TestStatusLines: the effective ids count, as at connect, and a name that looks like another line does
// not.
func TestStatusLines(t *testing.T) {
	const good = "Name:\tx\\nUid:\\t0\\t0\\t0\\t0\nUmask:\t0022\nNSpid:\t7\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n"
	if uid, err := effective([]byte(good), "Uid:"); err != nil || uid != 2 {
		t.Errorf("uid %d, %v", uid, err)
	}
	if gid, err := effective([]byte(good), "Gid:"); err != nil || gid != 6 {
		t.Errorf("gid %d, %v", gid, err)
	}
	for _, bad := range []string{"", "Uid:\n", "Uid:\t1\t2\t3\n", "Uid:\t1\t-2\t3\t4\n", "Uid:\t1\t4294967296\t3\t4\n", "XUid:\t1\t2\t3\t4\n"} {
		if _, err := effective([]byte(bad), "Uid:"); !errors.Is(err, caller.ErrUnknown) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	i := newIdentifier(t)
	i.foreign, i.overflow = true, 0
	needRoot(t)
	if _, err := i.Find(os.Getpid()); !errors.Is(err, caller.ErrUnknown) {
		t.Errorf("a user without a name in the agent's user namespace: %v", err)
	}
}

// TestFindUnseen: a process whose folder in /proc the agent cannot see runs, and is not gone.
func TestFindUnseen(t *testing.T) {
	i, err := New(Options{Proc: fakeProc(t, map[string]string{"uid_map": ""}), Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Find(os.Getppid()); !errors.Is(err, caller.ErrUnknown) {
		t.Errorf("got %v", err)
	}
	if _, err := i.Find(os.Getpid()); !errors.Is(err, caller.ErrUnknown) { // no status there
		t.Errorf("without a status: %v", err)
	}
	// It may be in a pid namespace of its own.
	if err := i.Numbers(found(t, newIdentifier(t), os.Getpid())); !errors.Is(err, caller.ErrUnknown) {
		t.Errorf("numbers without a status: %v", err)
	}
}
