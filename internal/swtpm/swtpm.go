// SPDX-License-Identifier: Apache-2.0

// Package swtpm runs swtpm, a software TPM 2.0, as a child process. The child talks
// over one end of a socketpair that it inherits, so that there is no port and no
// path that another process could open. The child ends with this process, however that
// dies. For development and tests; a production daemon never
// links it.
package swtpm

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Program is the name that is looked up in PATH if Options names none.
const Program = "swtpm"

// stopWait is how long a child may take to end after its descriptor was closed.
const stopWait = 5 * time.Second

// ErrMissing is returned if swtpm is not installed.
var ErrMissing = errors.New("swtpm is not installed: apt-get install swtpm")

// Options says how to start swtpm.
type Options struct {
	Dir     string    // state directory, made with mode 0700 if it is missing
	Program string    // executable; Program in PATH if empty
	Log     io.Writer // destination of what swtpm prints; none if nil
}

// TPM is a running swtpm that was started with TPM2_Startup(CLEAR), and the one
// connection to it.
type TPM struct {
	*net.UnixConn // reads and writes honour deadlines

	cmd  *exec.Cmd
	done chan struct{} // closed when the child has ended
}

// Start starts swtpm on the state in o.Dir. Each start is a TPM reset: the reset
// count goes up and PCRs are reset. Two at once on one directory would overwrite
// each other's state, so a lock on the directory is held until the TPM has ended.
func Start(o Options) (*TPM, error) {
	program := o.Program
	if program == "" {
		program = Program
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, ErrMissing)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("start swtpm: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start swtpm: %w", err)
	}
	lock, err := lockDir(dir, stopWait)
	if err != nil {
		return nil, fmt.Errorf("start swtpm: %w", err)
	}
	ours, theirs, err := socketpair()
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("start swtpm: %w", err)
	}
	defer theirs.Close()

	// The child inherits theirs as descriptor 3 and the lock as 4: should this
	// process die, the directory stays locked until the child has ended too.
	cmd := exec.Command(path, "socket", "--tpm2", "--fd", "3",
		"--tpmstate", "dir=.", "--flags", "not-need-init,startup-clear")
	cmd.Dir = dir // not in the option: a comma in it would end the value
	cmd.ExtraFiles = []*os.File{theirs, lock}
	cmd.Stdout, cmd.Stderr = o.Log, o.Log
	t := &TPM{UnixConn: ours, cmd: cmd, done: make(chan struct{})}
	err = t.run()
	lock.Close()
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start swtpm: %w", err)
	}
	return t, nil
}

// run starts the child and collects it when it ends. Swtpm ends when its connection
// is closed, but not if it was about to answer; so it is also told by the kernel
// that its parent is gone. The kernel means the thread that started it by that, which
// therefore stays until the child has ended.
func (t *TPM) run() error {
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := t.cmd.Start()
		started <- err
		if err == nil {
			t.cmd.Wait()
			close(t.done)
		}
	}()
	return <-started
}

// Close closes the connection, asks the child to end and waits until it has. It is
// killed if it takes too long.
func (t *TPM) Close() error {
	err := t.UnixConn.Close()
	t.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended
	select {
	case <-t.done:
		return err
	case <-time.After(stopWait):
		return errors.Join(err, t.Kill())
	}
}

// Kill ends the child at once, as a power cut would.
func (t *TPM) Kill() error {
	err := t.cmd.Process.Kill()
	<-t.done
	t.UnixConn.Close()
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Done is closed when the child has ended, for whatever reason.
func (t *TPM) Done() <-chan struct{} { return t.done }

// Signal sends a signal to the child; tests stop and continue it.
func (t *TPM) Signal(s os.Signal) error { return t.cmd.Process.Signal(s) }

// lockDir locks the state directory through a file in it. It waits for a while: the
// child of a process that has just died may be about to end.
func lockDir(dir string, wait time.Duration) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, ".agentd-lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(wait)
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if time.Now().After(deadline) {
			f.Close()
			return nil, fmt.Errorf("state directory %s is in use by another swtpm: %w", dir, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// socketpair makes two connected stream sockets, the first for this process.
func socketpair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	f := os.NewFile(uintptr(fds[0]), "swtpm")
	defer f.Close()
	theirs := os.NewFile(uintptr(fds[1]), "swtpm-child")
	conn, err := net.FileConn(f)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return conn.(*net.UnixConn), theirs, nil
}
