// SPDX-License-Identifier: Apache-2.0

package durable_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/test/hangfs"
)

// beStuck locks a directory and waits for a file system that does not answer, in the first
// thread of the process or in another one.
func beStuck(path string) {
	runtime.LockOSThread() // package main runs in the first thread
	d, err := durable.Open(path)
	if err == nil {
		err = d.Lock()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("locked")
	wait := func() { _ = unix.Statfs(os.Getenv(helperEnv+"_MOUNT"), new(unix.Statfs_t)) }
	if os.Getenv(helperEnv+"_THREAD") == "other" {
		go wait()
		select {}
	}
	wait()
}

// stuck starts a process that locks path and gets stuck.
func stuck(t *testing.T, path, thread string, at *hangfs.FS) *exec.Cmd {
	t.Helper()
	before := at.Held(hangfs.Statfs)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"=stuck:"+path, helperEnv+"_MOUNT="+at.Path, helperEnv+"_THREAD="+thread)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("it said %q, %v", line, err)
	}
	for deadline := time.Now().Add(time.Minute); at.Held(hangfs.Statfs) == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not ask the file system")
		}
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

// case 89: a process that was killed and waits in the kernel does not keep the lock of its
// directory, whichever of its threads waits. One that is only stuck keeps it. So does its
// successor, also when the first one ends at last.
func TestLockOfAProcessThatCannotEnd(t *testing.T) {
	generations := 3
	if testing.Short() {
		generations = 1
	}
	for _, thread := range []string{"first", "other"} {
		t.Run(thread, func(t *testing.T) {
			path := private(t)
			hung, err := hangfs.Mount(t.TempDir())
			if errors.Is(err, hangfs.ErrImpossible) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer hung.Close() // ends every request, and who waits for it
			hung.Hang(hangfs.Statfs)
			for generation := range generations { // each locks another place than the one before
				p := stuck(t, path, thread, hung)
				d := open(t, path)
				var locked *durable.LockedError
				if err := d.Lock(); !errors.As(err, &locked) || locked.PID != p.Process.Pid {
					t.Fatalf("generation %d is alive: %v, want it to keep its lock", generation, err)
				}
				d.Close()
				if err := p.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			d := open(t, path)
			if err := d.Lock(); err != nil {
				t.Fatalf("with nothing but killed processes: %v", err)
			}
			mine := "locked by " + strconv.Itoa(os.Getpid())
			if out := helper(t, "lock", path, nil); out != mine {
				t.Errorf("another process finds %q, want %q", out, mine)
			}
			if names, err := d.Names(); err != nil || len(names) != 0 {
				t.Errorf("files %q, %v: the places of the lock are none", names, err)
			}
			holders, err := durable.Holders(path)
			if err != nil || len(holders) != generations+1 || holders[generations] != (durable.Holder{PID: os.Getpid()}) {
				t.Errorf("it belongs to %+v, %v: want this process to be the last of %d", holders, err, generations+1)
			}
			for _, h := range holders[:len(holders)-1] {
				if !h.Ended {
					t.Errorf("process %d was killed, and does not count as ended", h.PID)
				}
			}
			hung.Answer()
			deadline := time.Now().Add(time.Minute)
			for {
				if out := helper(t, "lock", path, nil); out != mine {
					t.Fatalf("after the others ended another process finds %q, want %q", out, mine)
				}
				fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
				if err != nil {
					t.Fatal(err)
				}
				free := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil
				unix.Close(fd)
				if free {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the killed processes do not end")
				}
			}
			d.Close()
			if out := helper(t, "lock", path, nil); out != "not locked: " {
				t.Errorf("after close another process finds %q", out)
			}
		})
	}
}

// A process whose first thread is gone, and whose others work, is alive.
func TestFirstThreadGone(t *testing.T) {
	path := private(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"=headless:"+path)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("it said %q, %v", line, err)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		var pid int
		var name string
		var state rune
		if _, err := fmt.Sscanf(string(stat), "%d %s %c", &pid, &name, &state); err == nil && state == 'Z' {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("its first thread is not gone: %s", stat)
		}
	}
	var locked *durable.LockedError
	if err := open(t, path).Lock(); !errors.As(err, &locked) {
		t.Errorf("got %v, want its lock to be kept", err)
	}
}

// beHeadless locks a directory and ends its first thread.
func beHeadless(path string) {
	runtime.LockOSThread()
	d, err := durable.Open(path)
	if err == nil {
		err = d.Lock()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("locked")
	go func() { select {} }()
	unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0) // of this thread alone
}

// A file is locked in the same way.
func TestLockFile(t *testing.T) {
	path := filepath.Join(private(t), "socket.lock")
	unlock, err := durable.LockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var locked *durable.LockedError
	if _, err := durable.LockFile(path); !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("again: %v, want this process to have it", err)
	}
	unlock()
	again, err := durable.LockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again()
	link := path + "-link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := durable.LockFile(link); !errors.Is(err, unix.ELOOP) {
		t.Errorf("through a link: %v", err)
	}
}
