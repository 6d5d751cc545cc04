// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/declared"
	"github.com/cvm-agentd/agentd/internal/fanotify"
	"github.com/cvm-agentd/agentd/internal/gatewire"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

const long = 2 * time.Minute // for what happens at once on a machine that is not busy

// bed is a machine with one guarded application, and a gate.
type bed struct {
	t        *testing.T
	commands string
	platform string // of another machine, whose test root this one has
	tpm      string
	dir      string // of the machine
	folder   string // of the application
	machine  *simulated.Machine
	gate     *exec.Cmd
}

// made is what all tests of this package use: it takes seconds to make.
type made struct {
	commands, platform string
}

var shared = sync.OnceValues(func() (made, error) {
	commands, done, err := simulated.Commands()
	if err != nil {
		return made{}, err
	}
	dir, err := os.MkdirTemp("", "agentd-gate-")
	if err != nil {
		return made{}, err
	}
	cleanup = func() { done(); os.RemoveAll(dir) }
	m, err := simulated.Start(commands, filepath.Join(dir, "m"), "")
	if err != nil {
		return made{}, err
	}
	return made{commands, filepath.Join(dir, "m", "platform")}, m.Stop()
})

var cleanup = func() {}

func TestMain(m *testing.M) {
	code := m.Run()
	cleanup()
	os.Exit(code)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newBed(t *testing.T, gate string) *bed {
	t.Helper()
	if testing.Short() {
		t.Skip("starts simulated machines: not with -short")
	}
	if g, err := fanotify.New(); err != nil {
		t.Skipf("permission events of the kernel (fanotify) are not permitted here: %v", err)
	} else {
		g.Close()
	}
	made, err := shared()
	if errors.Is(err, simulated.ErrNoTPM) {
		t.Skip(err)
	}
	must(t, err)
	root, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	b := &bed{t: t, commands: made.commands, platform: made.platform, tpm: swtpm.Start(t).Listen().Address(), dir: filepath.Join(root, "m"), folder: filepath.Join(root, "app")}
	must(t, errors.Join(os.Mkdir(b.folder, 0o755), os.MkdirAll(filepath.Join(b.dir, "apps.d"), 0o700)))
	b.put("program", "/bin/true")
	text := fmt.Sprintf("unit = \"app.service\"\nuser = \"root\"\ndirectories = [%q]\ngate = %s\n", b.folder, gate)
	must(t, os.WriteFile(filepath.Join(b.dir, "apps.d", "app.toml"), []byte(text), 0o600))
	b.startAgent()
	b.startGate()
	b.until("the gate guards the application", b.guarded)
	return b
}

// put copies a program into the application, as a package manager does.
func (b *bed) put(name, from string) {
	b.t.Helper()
	content, err := os.ReadFile(from)
	must(b.t, err)
	path := filepath.Join(b.folder, name)
	must(b.t, os.WriteFile(path+".new", content, 0o755))
	must(b.t, os.Rename(path+".new", path))
}

// command is what starts a program of the application. A shell does: a process of Go that starts a
// program itself stops as a whole, with its garbage collector, while the kernel waits for the gate.
func (b *bed) command(name string, args ...string) *exec.Cmd {
	return exec.Command("/bin/sh", append([]string{"-c", `exec "$0" "$@"`, filepath.Join(b.folder, name)}, args...)...)
}

// refused is the exit code of a shell that could not start a program.
const refused = 126

// run starts a program of the application.
func (b *bed) run(name string, args ...string) error {
	c := b.command(name, args...)
	if err := c.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	select {
	case err := <-done:
		if c.ProcessState.ExitCode() == refused {
			return syscall.EPERM
		}
		return err
	case <-time.After(long):
		c.Process.Kill()
		return errors.New("it does not end")
	}
}

func (b *bed) startAgent() {
	b.t.Helper()
	m, err := simulated.Start(b.commands, b.dir, b.platform, "--tpm", b.tpm, "--declare-identity-without-checking")
	if errors.Is(err, simulated.ErrNoTPM) {
		b.t.Skip(err)
	}
	must(b.t, err)
	b.machine = m
	b.t.Cleanup(func() {
		if !m.Ended() {
			m.Kill()
		}
	})
}

func (b *bed) startGate() {
	b.t.Helper()
	c := exec.Command(filepath.Join(b.commands, "agentd-gate"), "--socket", filepath.Join(b.dir, "gate.sock"))
	c.Env = append(os.Environ(), declared.Variable+"="+gatewire.Unit)
	must(b.t, c.Start())
	b.gate = c
	b.t.Cleanup(func() { // a stopped one would hold up whatever starts in the folder
		c.Process.Kill()
		c.Wait()
	})
}

// log returns the events of the log.
func (b *bed) log() (all []*pcr.Event) {
	b.t.Helper()
	l, err := b.machine.Client().Log(b.t.Context(), 0)
	must(b.t, err)
	records, err := pcr.DecodeLog(l.Records, 0)
	must(b.t, err)
	for _, r := range records {
		e, err := r.Event()
		must(b.t, err)
		all = append(all, e)
	}
	return all
}

// until waits until the log says something.
func (b *bed) until(what string, holds func([]*pcr.Event) bool) {
	b.t.Helper()
	for end := time.Now().Add(long); !holds(b.log()); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("not in %v: %s", long, what)
		}
	}
}

// guarded reports whether the last word about the gate is that it guards the application.
func (b *bed) guarded(all []*pcr.Event) bool {
	for _, e := range slices.Backward(all) {
		switch {
		case e.GateGap != nil, e.Type == pcr.EventAgent, e.Type == pcr.EventStop:
			return false
		case e.GateStart != nil:
			return len(e.GateStart.Apps) == 1
		}
	}
	return false
}

func gaps(all []*pcr.Event) (n int) {
	for _, e := range all {
		if e.GateGap != nil {
			n++
		}
	}
	return n
}

// attest asks for evidence, which says all that is in the log by then.
func (b *bed) attest() {
	b.t.Helper()
	nonce := make([]byte, 32)
	rand.Read(nonce)
	_, err := b.machine.Client().Evidence(b.t.Context(), api.EvidenceRequest{Nonce: nonce})
	must(b.t, err)
}

// TestEnforced: what the manifest did not list at the last measurement that was asked for does not
// start, and is in the log. A change of a file alone does not let it start. Case 126.
func TestEnforced(t *testing.T) {
	b := newBed(t, `"enforce"`)
	must(t, b.run("program"))
	b.put("other", "/bin/echo")
	for range 2 {
		if err := b.run("other"); !errors.Is(err, syscall.EPERM) {
			t.Errorf("it started: %v", err)
		}
		b.until("the change is measured", func(all []*pcr.Event) bool {
			return slices.ContainsFunc(all, func(e *pcr.Event) bool { return e.App != nil && len(e.App.Manifest) == 2 })
		})
	}
	if !slices.ContainsFunc(b.log(), func(e *pcr.Event) bool { return e.Exec != nil && e.Exec.Refused }) {
		t.Error("the refusal is not in the log")
	}
	_, err := b.machine.Admin().Measure(t.Context(), "app")
	must(t, err)
	must(t, b.run("other"))
	must(t, b.run("program"))
}

// TestRecordedFirst: what the manifest does not list is in the log before it starts. The program
// tells what the log said then.
func TestRecordedFirst(t *testing.T) {
	b := newBed(t, "true")
	b.put("other", "/bin/cat")
	before := len(b.log())
	out, err := b.command("other", filepath.Join(b.dir, "log", "measurements.cel")).Output()
	must(t, err)
	records, err := pcr.DecodeLog(out, 0)
	must(t, err)
	digest := b.digest("other")
	for _, r := range records[before:] {
		e, err := r.Event()
		must(t, err)
		if e.Exec != nil && e.Exec.Digest == digest || e.App != nil && slices.ContainsFunc(e.App.Manifest, func(f pcr.ManifestEntry) bool { return f.Digest == digest }) {
			return
		}
	}
	t.Errorf("it ran, and the log had %d records without it", len(records))
}

func (b *bed) digest(name string) (d [32]byte) {
	b.t.Helper()
	content, err := os.ReadFile(filepath.Join(b.folder, name))
	must(b.t, err)
	copy(d[:], pcr.SHA256.Sum(content))
	return d
}

// TestKilled: programs start when the gate is killed, and evidence that is asked for afterwards says
// so. A gate that is started again begins anew. Case 126.
func TestKilled(t *testing.T) {
	b := newBed(t, "true")
	must(t, b.gate.Process.Kill())
	b.gate.Wait()
	must(t, b.run("program"))
	b.attest()
	if n := gaps(b.log()); n != 1 {
		t.Errorf("%d gaps in the log", n)
	}
	b.startGate()
	b.until("the gate guards again", b.guarded)
}

// stopped waits until each thread of the gate is stopped.
func (b *bed) stopped() {
	b.t.Helper()
	for end := time.Now().Add(long); ; time.Sleep(5 * time.Millisecond) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", b.gate.Process.Pid))
		must(b.t, err)
		all := len(threads) > 0
		for _, thread := range threads {
			stat, err := os.ReadFile(thread)
			_, state, _ := strings.Cut(string(stat), ") ")
			all = all && err == nil && strings.HasPrefix(state, "T")
		}
		if all {
			return
		}
		if time.Now().After(end) {
			b.t.Fatal("the gate does not stop")
		}
	}
}

// TestStopped: programs wait while the gate is stopped, evidence has a gap, and all goes on when the
// gate does. If it is killed then, as systemd's watchdog does, what waited starts. Case 126.
func TestStopped(t *testing.T) {
	b := newBed(t, "true")
	start := func() chan error {
		must(t, b.gate.Process.Signal(syscall.SIGSTOP))
		b.stopped()
		started := make(chan error, 1)
		go func() { started <- b.run("program") }()
		return started
	}
	started := start()
	b.attest()
	if n := gaps(b.log()); n != 1 {
		t.Errorf("%d gaps in the log", n)
	}
	select {
	case err := <-started:
		t.Errorf("it did not wait: %v", err)
	default:
	}
	must(t, b.gate.Process.Signal(syscall.SIGCONT))
	must(t, <-started)
	b.until("the gate guards again", b.guarded)
	started = start()
	must(t, b.gate.Process.Kill())
	must(t, <-started)
	b.attest()
	if n := gaps(b.log()); n != 2 {
		t.Errorf("%d gaps in the log", n)
	}
}

// TestAgentRestarts: the gate goes on without the agent, and says so to the next one, also if the
// agent was killed. A program that is not known waits for it. Case 126.
func TestAgentRestarts(t *testing.T) {
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprintf("kill %t", kill), func(t *testing.T) {
			b := newBed(t, "true")
			must(t, b.run("program"))
			if kill {
				b.machine.Kill()
			} else {
				must(t, b.machine.Stop())
			}
			must(t, b.run("program")) // it is known
			b.put("other", "/bin/echo")
			started := make(chan error, 1)
			go func() { started <- b.run("other") }()
			b.startAgent()
			must(t, <-started)
			b.until("the gate guards again", b.guarded)
			all := b.log()
			last := all[len(all)-1]
			for _, e := range all {
				if e.GateStart != nil {
					last = e
				}
			}
			// A machine that takes longer than the deadline to start has a gap, as documented.
			if n := gaps(all); n == 0 && !last.GateStart.Carried || n > 1 {
				t.Errorf("%d gaps, carried %t", n, last.GateStart.Carried)
			}
		})
	}
}

// TestDeclaredAnew: a declaration that brings folders and folders in them leaves no gap, and after
// `agentctl measure` programs of all of them are held up. Case 126.
func TestDeclaredAnew(t *testing.T) {
	b := newBed(t, `"enforce"`)
	first := b.folder
	b.folder = filepath.Join(filepath.Dir(b.folder), "more", "deep", "deeper")
	must(t, os.MkdirAll(b.folder, 0o755))
	b.put("listed", "/bin/true")
	text := fmt.Sprintf("unit = \"app.service\"\nuser = \"root\"\ndirectories = [%q, %q]\ngate = \"enforce\"\n", first, filepath.Join(filepath.Dir(first), "more"))
	must(t, os.WriteFile(filepath.Join(b.dir, "apps.d", "app.toml"), []byte(text), 0o600))
	_, err := b.machine.Admin().Reload(t.Context())
	must(t, err)
	_, err = b.machine.Admin().Measure(t.Context(), "app")
	must(t, err)
	if !b.guarded(b.log()) {
		t.Error("it is measured, and not guarded")
	}
	must(t, b.run("listed"))
	b.put("other", "/bin/echo")
	if err := b.run("other"); !errors.Is(err, syscall.EPERM) {
		t.Errorf("it started: %v", err)
	}
	if n := gaps(b.log()); n != 0 {
		t.Errorf("%d gaps in the log", n)
	}
}

// TestMeasureFromAProgramOfTheApp: what `ExecStartPre=agentctl measure` does, with agentctl in a
// guarded folder: neither waits for the other. Case 126.
func TestMeasureFromAProgramOfTheApp(t *testing.T) {
	b := newBed(t, "true")
	b.put("agentctl", filepath.Join(b.commands, "agentctl"))
	must(t, b.run("agentctl", "--admin", b.machine.AdminSocket(), "measure", "--app", "app"))
}

// TestUnitOfTheGate: nothing but the unit of the gate may be the gate.
func TestUnitOfTheGate(t *testing.T) {
	b := newBed(t, "true")
	c := exec.Command(filepath.Join(b.commands, "agentd-gate"), "--socket", filepath.Join(b.dir, "gate.sock"))
	c.Env = append(os.Environ(), declared.Variable+"=other.service")
	var said strings.Builder
	c.Stderr = &said
	must(t, c.Start())
	defer func() {
		c.Process.Kill()
		c.Wait()
	}()
	must(t, b.run("program"))
	if n := len(b.log()); n == 0 || !b.guarded(b.log()) {
		t.Errorf("the gate does not guard any more: %d records, %s", n, said.String())
	}
}
