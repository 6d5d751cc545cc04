// SPDX-License-Identifier: Apache-2.0

// Package simulated builds the commands of this module and runs simulated machines
// for tests: agentd-sim in a folder of its own, with swtpm as its TPM.
package simulated

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/client"
)

// Binaries names a folder with the commands, built before; without it each test
// process builds them.
const Binaries = "AGENTD_TEST_BINARIES"

// ErrNoTPM is returned if swtpm is not installed.
var ErrNoTPM = errors.New("swtpm is not installed: apt-get install swtpm")

// patience is how long a machine may take to start or to stop. Tests share their
// processors with other tests.
const patience = 2 * time.Minute

// Commands is a folder with agentd, agentctl and agentd-sim, and what ends its use.
func Commands() (dir string, done func(), err error) {
	if dir := os.Getenv(Binaries); dir != "" {
		return dir, func() {}, nil
	}
	dir, err = os.MkdirTemp("", "agentd-commands-")
	if err != nil {
		return "", nil, err
	}
	done = func() { os.RemoveAll(dir) }
	// Tests of another module need the commands as well, and its go.sum does not know
	// what they import.
	source, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		done()
		return "", nil, fmt.Errorf("find the source of the commands: %w", err)
	}
	cmd := exec.Command("go", "build", "-o", dir+"/", "./cmd/...")
	cmd.Dir = strings.TrimSpace(string(source))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		done()
		return "", nil, fmt.Errorf("build the commands: %w\n%s", err, out)
	}
	return dir, done, nil
}

const module = "github.com/cvm-agentd/agentd"

// A Machine is a running agentd-sim.
type Machine struct {
	Dir string // its folder

	cmd    *exec.Cmd
	done   chan struct{}
	err    error // of its end, valid after done
	output *output
}

// output keeps what the machine printed; it may be read while it is written.
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

// Start starts agentd-sim of the folder commands in dir, and returns when it is
// ready. If platform names the folder of an earlier machine's software
// platform, this one begins with a copy: making the keys of a test root takes seconds.
func Start(commands, dir, platform string, args ...string) (*Machine, error) {
	return StartUnder(nil, commands, dir, platform, args...)
}

// StartUnder does what Start does, with agentd-sim as the service of a manager, if that is not
// nil.
func StartUnder(manager *Manager, commands, dir, platform string, args ...string) (*Machine, error) {
	return StartChanged(nil, manager, commands, dir, platform, args...)
}

// StartChanged does what StartUnder does, with a command that change has changed, if that is not
// nil.
func StartChanged(change func(*exec.Cmd) error, manager *Manager, commands, dir, platform string, args ...string) (*Machine, error) {
	if _, err := exec.LookPath("swtpm"); err != nil {
		return nil, ErrNoTPM
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := copyPlatform(dir, platform); err != nil {
		return nil, err
	}
	m := &Machine{Dir: dir, done: make(chan struct{}), output: &output{}}
	m.cmd = exec.Command(filepath.Join(commands, "agentd-sim"), append([]string{"--dir", dir}, args...)...)
	// A test process that is killed takes its machines with it.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	m.cmd.Stderr = m.output
	passed := func() {}
	if manager != nil {
		var err error
		if passed, err = manager.pass(m.cmd); err != nil {
			return nil, err
		}
	}
	defer passed()
	if change != nil {
		if err := change(m.cmd); err != nil {
			return nil, err
		}
	}
	if err := m.run(); err != nil {
		return nil, err
	}
	return m, nil
}

// run starts the process, and returns when the machine is ready.
func (m *Machine) run() error {
	stdout, err := m.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	started, ready := make(chan error), make(chan bool, 1)
	go func() {
		// The kernel means the thread that started it by a parent's death: this one
		// stays until the machine has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := m.cmd.Start()
		if started <- err; err != nil {
			return
		}
		ready <- waitReady(stdout)
		io.Copy(io.Discard, stdout)
		m.err = m.cmd.Wait()
		close(m.done)
	}()
	if err := <-started; err != nil {
		return err
	}
	select {
	case ok := <-ready:
		if ok {
			return nil
		}
		<-m.done
		return fmt.Errorf("agentd-sim did not start: %w\n%s", m.err, m.output)
	case <-time.After(patience):
		m.Kill()
		return fmt.Errorf("agentd-sim was not ready after %v\n%s", patience, m.output)
	}
}

// copyPlatform copies a software platform into the folder of a machine that has none.
func copyPlatform(dir, platform string) error {
	if _, err := os.Stat(filepath.Join(dir, "platform")); err != nil && platform != "" {
		if err := os.CopyFS(filepath.Join(dir, "platform"), os.DirFS(platform)); err != nil {
			return fmt.Errorf("copy the software platform: %w", err)
		}
		// The chip may be the same, the guest on it is another.
		if err := os.Remove(filepath.Join(dir, "platform", "launch")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func waitReady(r io.Reader) bool {
	s := bufio.NewScanner(r)
	for s.Scan() {
		if s.Text() == "ready" {
			return true
		}
	}
	return false
}

// Stop ends the machine as systemd would, and returns how it ended.
func (m *Machine) Stop() error {
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-m.done:
	case <-time.After(patience):
		m.Kill()
		return fmt.Errorf("agentd-sim did not end after %v\n%s", patience, m.output)
	}
	if m.err != nil {
		return fmt.Errorf("agentd-sim ended with %w\n%s", m.err, m.output)
	}
	return nil
}

// Kill ends the machine at once, as a power cut would.
func (m *Machine) Kill() {
	m.cmd.Process.Kill()
	<-m.done
}

// Off ends the machine at once, and waits until its TPM is off too, so that it can start again.
func (m *Machine) Off() error {
	m.Kill()
	f, err := os.Open(filepath.Join(m.Dir, "tpm", ".agentd-lock"))
	if err != nil {
		return nil // it has no TPM of its own
	}
	defer f.Close()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		// Not only by closing it: a process that another test is about to start may have it still.
		return errors.Join(err, unix.Flock(int(f.Fd()), unix.LOCK_UN))
	}
	return fmt.Errorf("the TPM of %s was not off after %v", m.Dir, patience)
}

// Ended reports whether the process has ended, however that came.
func (m *Machine) Ended() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// Reload sends the signal that has declarations read again.
func (m *Machine) Reload() error { return m.cmd.Process.Signal(syscall.SIGHUP) }

// PID is the number of the process, 0 if it was not started.
func (m *Machine) PID() int {
	if m.cmd == nil {
		return 0
	}
	return m.cmd.Process.Pid
}

// Output is what it printed to standard error.
func (m *Machine) Output() string { return m.output.String() }

// Socket, AdminSocket, Root and Policy are the files of the machine.
func (m *Machine) Socket() string      { return filepath.Join(m.Dir, "agentd.sock") }
func (m *Machine) AdminSocket() string { return filepath.Join(m.Dir, "admin.sock") }
func (m *Machine) Root() string        { return filepath.Join(m.Dir, "test-root.pem") }
func (m *Machine) Policy() string      { return filepath.Join(m.Dir, "policy.toml") }

// Client asks the machine's agent.
func (m *Machine) Client() *client.Client { return &client.Client{Socket: m.Socket()} }

// Admin administrates it.
func (m *Machine) Admin() *client.Admin { return &client.Admin{Socket: m.AdminSocket()} }

// Declare declares an application of the given files.
func (m *Machine) Declare(name string, files ...string) error {
	var quoted []string
	for _, f := range files {
		quoted = append(quoted, fmt.Sprintf("%q", f))
	}
	text := fmt.Sprintf("unit = \"%s.service\"\nuser = \"root\"\nfiles = [%s]\n", name, strings.Join(quoted, ", "))
	return os.WriteFile(filepath.Join(m.Dir, "apps.d", name+".toml"), []byte(text), 0o600)
}
