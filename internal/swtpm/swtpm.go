// Package swtpm runs swtpm, a software TPM 2.0, as a child process. The child talks
// over one end of a socketpair that it inherits, so that there is no port and no
// path that anybody else could open, and it ends when the other end is closed: also
// when this process dies. For development and tests; a production daemon never
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
	"time"

	"golang.org/x/sys/unix"
)

// Program is the name that is looked up in PATH where Options has none.
const Program = "swtpm"

// stopWait is how long a child may take to end after its descriptor was closed.
const stopWait = 5 * time.Second

// ErrMissing is returned where swtpm is not installed.
var ErrMissing = errors.New("swtpm is not installed: apt-get install swtpm")

// Options says how to start swtpm.
type Options struct {
	Dir     string    // state directory, made with mode 0700 where it is missing
	Program string    // executable; Program in PATH where empty
	Log     io.Writer // what swtpm prints; dropped where nil
}

// TPM is a running swtpm that was started with TPM2_Startup(CLEAR), and the one
// connection to it.
type TPM struct {
	net.Conn // reads and writes honour deadlines

	cmd  *exec.Cmd
	done chan struct{} // closed when the child has ended
	err  error         // why it ended, valid after done
}

// Start starts swtpm on the state in o.Dir. Each start is a TPM reset: the reset
// count goes up and PCRs start anew. Two at once on one directory would overwrite
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
	lock, err := lockDir(dir)
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
		"--tpmstate", "dir="+dir, "--flags", "not-need-init,startup-clear")
	cmd.ExtraFiles = []*os.File{theirs, lock}
	cmd.Stdout, cmd.Stderr = o.Log, o.Log
	err = cmd.Start()
	lock.Close()
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start swtpm: %w", err)
	}
	t := &TPM{Conn: ours, cmd: cmd, done: make(chan struct{})}
	go func() {
		t.err = cmd.Wait()
		close(t.done)
	}()
	return t, nil
}

// Close closes the connection and waits until the child has ended. It is killed
// where it does not end by itself.
func (t *TPM) Close() error {
	err := t.Conn.Close()
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
	t.Conn.Close()
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Done is closed when the child has ended, for whatever reason.
func (t *TPM) Done() <-chan struct{} { return t.done }

// Signal sends a signal to the child; tests stop and continue it.
func (t *TPM) Signal(s os.Signal) error { return t.cmd.Process.Signal(s) }

// lockDir locks the state directory through a file in it.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, ".agentd-lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(stopWait)
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if time.Now().After(deadline) {
			f.Close()
			return nil, fmt.Errorf("state directory %s is in use by another swtpm: %w", dir, err)
		}
		time.Sleep(5 * time.Millisecond) // the previous child may be about to end
	}
}

// socketpair makes two connected stream sockets, the first for this process.
func socketpair() (net.Conn, *os.File, error) {
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
	return conn, theirs, nil
}
