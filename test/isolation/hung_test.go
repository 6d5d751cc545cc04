// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/test/hangfs"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// A hung app has its file on a file system that stops answering at one kind of request.
type hung struct {
	*hangfs.FS
	op   hangfs.Op
	name string // of the app
	path string // of its file
}

// hang mounts a file system and declares an app on it, which is never measured: the agent
// refuses files that another program serves. It finds that out by asking. If beneath is set
// the app's file is on an overlay over the file system, which the agent does not refuse.
func (m *machine) hang(op hangfs.Op, beneath bool) *hung {
	m.t.Helper()
	return m.hangAs(op.String(), op, beneath)
}

// hangAs does so for one of several with the same request.
func (m *machine) hangAs(name string, op hangfs.Op, beneath bool) *hung {
	m.t.Helper()
	h := &hung{op: op, name: "hung-" + name}
	dir := filepath.Join(m.files, h.name)
	must(m.t, os.Mkdir(dir, 0o755))
	var err error
	h.FS, err = hangfs.Mount(dir)
	if errors.Is(err, hangfs.ErrImpossible) {
		m.t.Skip(err)
	}
	must(m.t, err)
	m.t.Cleanup(func() {
		if err := h.Close(); err != nil {
			m.t.Error(err)
		}
	})
	if beneath {
		empty, top := filepath.Join(m.files, "empty-"+name), filepath.Join(m.files, "over-"+name)
		must(m.t, errors.Join(os.Mkdir(empty, 0o755), os.Mkdir(top, 0o755)))
		if b, err := exec.Command("mount", "-t", "overlay", "overlay", "-o", "lowerdir="+dir+":"+empty, top).CombinedOutput(); err != nil {
			m.t.Skipf("mount an overlay: %v: %s", err, b)
		}
		m.t.Cleanup(func() { syscall.Unmount(top, syscall.MNT_DETACH) })
		dir = top
	}
	key, file := "files", hangfs.File
	switch op {
	case hangfs.Readdir, hangfs.Opendir:
		key, file = "directories", hangfs.Folder
	case hangfs.Readlink:
		file = hangfs.Link
	}
	h.path = filepath.Join(dir, file)
	h.Hang(op)
	m.declareAs(key, h.name, "root", []string{h.path})
	return h
}

// app is what the agent says of an app.
func (m *machine) app(name string) api.App {
	m.t.Helper()
	all, err := m.Admin().Apps(m.t.Context())
	must(m.t, err)
	for _, a := range all {
		if a.Name == name {
			return a
		}
	}
	return api.App{}
}

// saysHung reports whether the agent says that the file system of h does not answer.
func (m *machine) saysHung(h *hung) bool {
	a := m.app(h.name)
	return a.State != api.AppMeasured && strings.Contains(a.Reason, "does not answer") && strings.Contains(a.Reason, filepath.Dir(h.path))
}

// Case 107: a file system that hangs below one app, at whatever is asked of it, delays no other
// app, no reload and no start. The app is named, and is looked at again when the file system
// answers.
func TestHungFileSystem(t *testing.T) {
	m := prepare(t, setup{config: "[measurement]\nanswer_timeout = \"1s\"\n"})
	changed := m.measureChanged()
	m.start()
	work := m.measure()
	before := map[string]account{"measure": start(t, work).end(false), "measure changed": start(t, changed).end(false)}
	var all []*hung
	for _, op := range []hangfs.Op{hangfs.Lookup, hangfs.Getattr, hangfs.Statfs} {
		all = append(all, m.hang(op, false))
	}
	for _, op := range []hangfs.Op{hangfs.Open, hangfs.Read, hangfs.Opendir, hangfs.Readdir, hangfs.Readlink} {
		all = append(all, m.hang(op, true))
	}
	must(t, m.Reload())
	for _, h := range all {
		until(t, "the agent waits for "+h.op.String(), func() bool { return h.Held(h.op) > 0 })
	}
	m.within(before["measure"], 5, work)
	m.within(before["measure changed"], 5, changed)
	for _, h := range all {
		until(t, h.name+" is named", func() bool { return m.saysHung(h) })
		began := time.Now()
		if _, err := m.Admin().Measure(t.Context(), h.name); err == nil || !strings.Contains(err.Error(), "does not answer") {
			t.Errorf("measure of %s: %v after %v", h.name, err, time.Since(began))
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // for which a reload waits if it does wait
	defer cancel()
	if _, err := m.Admin().Reload(ctx); err != nil {
		t.Errorf("reload: %v", err)
	}
	for _, command := range [][]string{{"status"}, {"app", "list"}} {
		if text := m.agentctl(command...); !strings.Contains(text, all[0].name) {
			t.Errorf("agentctl %v does not name %s:\n%s", command, all[0].name, text)
		}
	}
	for _, h := range all {
		h.Answer()
		until(t, h.name+" is looked at again", func() bool { return !m.saysHung(h) })
	}
}

// Case 107: more apps whose files hang than there are turns of hashing delay another app that changed for
// a moment, long before the agent gives them up.
func TestHungFilesKeepNoTurns(t *testing.T) {
	const patience = 20 * time.Second
	m := prepare(t, setup{config: fmt.Sprintf("[measurement]\nanswer_timeout = %q\n", patience)})
	changed := m.measureChanged()
	m.start()
	before := start(t, changed).end(false)
	var all []*hung
	for i := range 2*runtime.NumCPU() + 2 {
		all = append(all, m.hangAs(strconv.Itoa(i), hangfs.Read, true))
	}
	must(t, m.Reload())
	for _, h := range all {
		until(t, "the agent waits for "+h.name, func() bool { return h.Held(hangfs.Read) > 0 })
	}
	during := start(t, changed).end(false)
	t.Logf("median %v before, %v now; the longest %v", before.median(), during.median(), during.percentile(99))
	if during.median() > 5*before.median() || during.percentile(99) > patience/4 || len(during.Refused) > 0 {
		t.Errorf("median %v before, %v now; the longest %v; refused %v", before.median(), during.median(), during.percentile(99), during.Refused)
	}
	for _, h := range all {
		h.Answer()
	}
}

// agentctl runs the command for this machine and returns what it prints.
func (m *machine) agentctl(args ...string) string {
	m.t.Helper()
	c := exec.Command(filepath.Join(shared.commands, "agentctl"), args...)
	c.Env = append(os.Environ(), "AGENTD_SOCKET="+m.Socket(), "AGENTD_ADMIN_SOCKET="+m.AdminSocket())
	b, _ := c.CombinedOutput() // its exit code says how the machine is
	return string(b)
}

// within runs work, of which nothing may be refused, and whose median is at most limit times
// that of before.
func (m *machine) within(before account, limit float64, work party) {
	m.t.Helper()
	best := 0.0
	for n := range tries {
		during := start(m.t, work).end(false)
		ratio := float64(during.median()) / float64(max(before.median(), time.Microsecond))
		m.t.Logf("%s: median %v before, %v now (%d): %.1f times", work.Path, before.median(), during.median(), len(during.Times), ratio)
		if len(before.Refused) > 0 || len(during.Refused) > 0 {
			m.t.Errorf("%s: refused before: %v, now: %v", work.Path, before.Refused, during.Refused)
			return
		}
		if n == 0 || ratio < best {
			best = ratio
		}
		if best <= limit {
			return
		}
	}
	m.t.Errorf("%s: %.1f times as long as before, want at most %g", work.Path, best, limit)
}

// Case 107: an agent that is stopped or killed while a thread of it waits in the kernel for an
// answer keeps the next one from nothing. It starts while the app hangs.
func TestStartAfterHung(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"stopped": syscall.SIGTERM, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			m := prepare(t, setup{config: "[measurement]\nanswer_timeout = \"1s\"\n"})
			tpm := swtpm.Start(t).Listen()
			m.args = append(m.args, "--tpm", tpm.Address())
			var agents []*simulated.Machine
			t.Cleanup(func() { // after the file system has ended
				for _, x := range agents {
					if !x.Ended() {
						x.Kill()
					}
				}
			})
			h := m.hang(hangfs.Getattr, false)
			t.Cleanup(func() { // before the file system ends
				if t.Failed() {
					t.Logf("threads of the agent:\n%s\nit said:\n%s", threads(m.PID()), m.Output())
				}
			})
			for range 2 {
				held := h.Held(h.op)
				began := time.Now()
				agents = append(agents, m.launch())
				t.Logf("ready after %v", time.Since(began))
				until(t, "the agent waits for the file system", func() bool { return h.Held(h.op) > held })
				work := m.measure()
				work.For = 0
				if a := start(t, work).end(false); len(a.Refused) > 0 {
					t.Errorf("measure: %v", a.Refused)
				}
				must(t, syscall.Kill(m.PID(), signal))
				until(t, "the agent has ended, but for a thread", func() bool { return durable.Ended(m.PID()) })
				if m.Ended() {
					t.Error("the agent has ended: nothing of it waits for the file system")
				}
				tpm.Disconnect() // as the device does
			}
			work := m.measure()
			agents = append(agents, m.launch())
			if a := start(t, work).end(false); len(a.Refused) > 0 {
				t.Errorf("measure: %v", a.Refused)
			}
		})
	}
}

// threads returns what the kernel says of each thread of a process: its first thread may be the
// one that waits, and is not gone then.
func threads(pid int) string {
	all, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "status"))
	var text strings.Builder
	for _, name := range all {
		b, _ := os.ReadFile(name) // it may have ended by now
		for line := range strings.Lines(string(b)) {
			if key, value, _ := strings.Cut(line, ":"); key == "Pid" || key == "State" || key == "SigPnd" || key == "ShdPnd" {
				text.WriteString(key + " " + strings.TrimSpace(value) + "  ")
			}
		}
		text.WriteString("\n")
	}
	return text.String()
}
