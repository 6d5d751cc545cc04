// SPDX-License-Identifier: Apache-2.0

package coverage

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// bed is a machine that stays while its agent is restarted: a TPM, a service manager, and a
// folder of files.
type bed struct {
	t        *testing.T
	commands string
	tpm      string
	manager  *simulated.Manager
	machine  *simulated.Machine
	dir      string   // of the machine
	files    string   // of applications
	args     []string // of the agent, besides
}

func newBed(t *testing.T) *bed {
	t.Helper()
	if testing.Short() {
		t.Skip("starts simulated machines: not with -short")
	}
	commands, done, err := simulated.Commands()
	must(t, err)
	t.Cleanup(done)
	root, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	b := &bed{t: t, commands: commands, tpm: swtpm.Start(t).Listen().Address(), dir: filepath.Join(root, "m"), files: filepath.Join(root, "files")}
	must(t, errors.Join(os.Mkdir(b.files, 0o755), os.MkdirAll(filepath.Join(b.dir, "apps.d"), 0o700)))
	b.manager, err = simulated.NewManager(root)
	must(t, err)
	t.Cleanup(func() { b.manager.Close() })
	go b.manager.Run()
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start starts the agent.
func (b *bed) start() {
	b.t.Helper()
	m, err := simulated.StartUnder(b.manager, b.commands, b.dir, "", append([]string{"--product", "genoa", "--tpm", b.tpm}, b.args...)...)
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
	// An app of which the log says something is not pending after a restart, but not measured.
	pending := func(a api.App) bool {
		return a.State == api.AppPending || a.State != api.AppMeasured && a.Reading != nil
	}
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) { // the start does not wait for all
		apps, err := m.Admin().Apps(b.t.Context())
		must(b.t, err)
		if !slices.ContainsFunc(apps, pending) {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("not all are measured: %+v", apps)
		}
	}
}

// path is that of a file of an app, in folders of its own.
func (b *bed) path(app string, names ...string) string {
	return filepath.Join(append([]string{b.files, app, "home"}, names...)...)
}

// declare makes an app of one program, bin/main.
func (b *bed) declare(app string) {
	b.t.Helper()
	must(b.t, os.MkdirAll(b.path(app, "bin"), 0o755))
	p := b.path(app, "bin", "main")
	text := fmt.Sprintf("unit = \"%s.service\"\nuser = \"root\"\nfiles = [%q]\n", app, p)
	must(b.t, errors.Join(os.WriteFile(p, []byte("program of "+app), 0o755), os.Chmod(p, 0o755),
		os.WriteFile(filepath.Join(b.dir, "apps.d", app+".toml"), []byte(text), 0o600)))
}

// patience is how long a test waits for what must come.
const patience = 2 * time.Minute

// handed waits until the manager keeps a hand-over of exactly these apps.
func (b *bed) handed(apps ...string) {
	b.t.Helper()
	want := make(map[string]uint64)
	for _, app := range apps {
		want[app] = *b.app(app).Record
	}
	var last [][]byte
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		documents, err := b.manager.Documents()
		must(b.t, err)
		if last = documents; len(documents) != 1 {
			continue
		}
		var h struct {
			Apps []struct {
				App    string
				Record uint64
			}
		}
		must(b.t, json.Unmarshal(documents[0], &h))
		got := make(map[string]uint64)
		for _, x := range h.Apps {
			got[x.App] = x.Record
		}
		if maps.Equal(got, want) {
			return
		}
	}
	b.t.Fatalf("no hand-over of %v: %.300q", want, last)
}

// records are the events of the log.
func (b *bed) records() (out []*pcr.Event) {
	b.t.Helper()
	log, err := b.machine.Client().Log(b.t.Context(), 0)
	must(b.t, err)
	records, err := pcr.DecodeLog(log.Records, 0)
	must(b.t, err)
	for _, r := range records {
		e, err := r.Event()
		must(b.t, err)
		out = append(out, e)
	}
	return out
}

// said is what the log says of each app since the last start of the agent.
func (b *bed) said() map[string]string {
	b.t.Helper()
	out := make(map[string]string)
	for _, e := range b.records() {
		switch {
		case e.Type == pcr.EventAgent:
			clear(out)
		case e.App != nil:
			out[e.App.App] += "app; "
		case e.Same != nil:
			out[e.Same.App] += fmt.Sprintf("carried %t: %s; ", e.Same.Carried, e.Same.Reason)
		case e.Unmeasured != nil:
			out[e.Unmeasured.App] += "unmeasured: " + e.Unmeasured.Reason + "; "
		}
	}
	return out
}

func (b *bed) app(name string) api.App {
	b.t.Helper()
	apps, err := b.machine.Admin().Apps(b.t.Context())
	must(b.t, err)
	i := slices.IndexFunc(apps, func(a api.App) bool { return a.Name == name })
	if i < 0 {
		b.t.Fatalf("app %s is not listed", name)
	}
	return apps[i]
}

// judge has the verifier look at evidence of now, by a policy that lists one app, and returns its
// exit code and what it prints.
func (b *bed) judge(app string) (int, string) {
	b.t.Helper()
	return b.judgeDigests(app, *b.app(app).Digest)
}

// judgeDigests does that with these digests.
func (b *bed) judgeDigests(app string, digests ...evidence.Digest) (int, string) {
	b.t.Helper()
	var listed []string
	for _, d := range digests {
		listed = append(listed, fmt.Sprintf("%q", d.String()))
	}
	nonce := bytes.Repeat([]byte{7}, 32)
	document, err := b.machine.Client().Evidence(b.t.Context(), api.EvidenceRequest{Nonce: nonce, Freshness: evidence.Fresh})
	must(b.t, err)
	policy, err := os.ReadFile(b.machine.Policy())
	must(b.t, err)
	rule := fmt.Sprintf("\ntolerate_unmeasured = true\ntolerate_gaps = true\n[[app]]\nname = %q\nunit = \"%s.service\"\nuser = \"root\"\ndigests = [%s]\n", app, app, strings.Join(listed, ", "))
	before, after, _ := strings.Cut(string(policy), "\n[[launch]]")
	rule, list, _ := strings.Cut(rule, "[[app]]")
	dir := b.t.TempDir()
	must(b.t, errors.Join(os.WriteFile(filepath.Join(dir, "policy.toml"), []byte(before+rule+"\n[[launch]]"+after+"\n[[app]]"+list), 0o600),
		os.WriteFile(filepath.Join(dir, "evidence.json"), document, 0o600)))
	cmd := exec.Command(filepath.Join(b.commands, "agentctl"), "verify", "--policy", filepath.Join(dir, "policy.toml"), "--nonce", hex.EncodeToString(nonce),
		"--trust-test-root-that-vouches-for-no-hardware", b.machine.Root(), filepath.Join(dir, "evidence.json"))
	out, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(out)
}

// change is what is done to the files of an app while no agent runs.
type change struct {
	do      func(b *bed, app string) error
	want    string // what the log then says: the beginning, or the end after an ellipsis
	without bool   // it is not handed over
}

const carried = "carried true: "

var changes = map[string]change{
	"untouched":  {do: func(*bed, string) error { return nil }, want: carried},
	"log-beside": {do: func(b *bed, app string) error { return os.WriteFile(b.path(app, "log"), nil, 0o600) }, want: carried},
	"touched": {do: func(b *bed, app string) error {
		now := time.Now()
		return os.Chtimes(b.path(app, "bin", "main"), now, now)
	}, want: `main" was changed, or replaced and put back`},
	"swapped-back": {do: func(b *bed, app string) error {
		p := b.path(app, "bin", "main")
		return errors.Join(os.WriteFile(p, []byte("evil"), 0o755), os.WriteFile(p, []byte("program of "+app), 0o755))
	}, want: `main" was changed, or replaced and put back`},
	"renamed-back": {do: func(b *bed, app string) error { return away(b.path(app, "bin", "main"), b.path(app, "kept")) },
		want: `main" was changed, or replaced and put back`},
	"folder-back": {do: func(b *bed, app string) error { return away(b.path(app, "bin"), b.path(app, "kept")) },
		want: `bin" may have been replaced and put back`},
	"folder-above-back": {do: func(b *bed, app string) error { return away(b.path(app), b.path(app)+"-kept") },
		want: `home" may have been replaced and put back`},
	"copied": {do: func(b *bed, app string) error {
		return errors.Join(os.Rename(b.path(app, "bin"), b.path(app, "kept")), os.CopyFS(b.path(app, "bin"), os.DirFS(b.path(app, "kept"))))
	}, want: `main" was changed, or replaced and put back`},
	"group-writable": {do: func(*bed, string) error { return nil }, want: "another user than root may write its files", without: true},
	"mode-back": {do: func(b *bed, app string) error {
		return errors.Join(os.Chmod(b.path(app, "bin", "main"), 0o775), os.Chmod(b.path(app, "bin", "main"), 0o755))
	}, want: `main" was changed, or replaced and put back`},
	"new-content": {do: func(b *bed, app string) error { return os.WriteFile(b.path(app, "bin", "main"), []byte("new"), 0o755) }, want: "app; "},
	"gone":        {do: func(b *bed, app string) error { return os.Remove(b.path(app, "bin", "main")) }, want: "unmeasured: "},
	"declared-otherwise": {do: func(b *bed, app string) error {
		p := filepath.Join(b.dir, "apps.d", app+".toml")
		text, err := os.ReadFile(p)
		return errors.Join(err, os.WriteFile(p, append(text, "# changed\n"...), 0o600))
	}, want: "app; "},
}

// away puts what is at p elsewhere for a moment, with something else in its place.
func away(p, other string) error {
	return errors.Join(os.Rename(p, other), os.Mkdir(p, 0o755), os.Remove(p), os.Rename(other, p))
}

// TestRestart restarts the agent in order, then kills it and changes what each app is made of, and
// then restarts it without what systemd kept. Coverage goes on exactly if nothing can have been
// different while no agent looked, and the log says why or why not. Case 98.
func TestRestart(t *testing.T) {
	b := newBed(t)
	var all []string
	for app, c := range changes {
		b.declare(app)
		if c.without {
			must(t, os.Chmod(b.path(app, "bin", "main"), 0o775))
		} else {
			all = append(all, app)
		}
	}
	b.start()
	b.handed(all...)
	began := b.app("untouched")
	if began.Covered == nil || began.Covered.Carried != 0 {
		t.Fatalf("covered %+v", began.Covered)
	}

	must(t, b.machine.Stop())
	b.start()
	events := b.records()
	stop := slices.IndexFunc(events, func(e *pcr.Event) bool { return e.Type == pcr.EventStop })
	if stop < 0 || stop+1 == len(events) || events[stop+1].Type != pcr.EventAgent {
		t.Errorf("record %d of %d is the stop: an agent-start follows it", stop, len(events))
	}
	for app, said := range b.said() {
		want := carried + "the agent was stopped; files"
		if changes[app].without {
			want = "carried false: the agent was stopped, and it did not hand the app over"
		}
		if !strings.HasPrefix(said, want) {
			t.Errorf("after a restart in order, the log says of %s: %s", app, said)
		}
	}
	if a := b.app("untouched"); a.Covered == nil || a.Covered.Since != began.Covered.Since || a.Covered.Record != began.Covered.Record || a.Covered.Carried != 1 {
		t.Errorf("covered %+v, began as %+v", a.Covered, began.Covered)
	}

	b.handed(all...)
	b.machine.Kill()
	for app, c := range changes {
		must(t, c.do(b, app))
	}
	b.start()
	said := b.said()
	for app, c := range changes {
		switch got := said[app]; {
		case c.want == carried && !strings.HasPrefix(got, carried+"the agent ended without a record of it; files"),
			strings.HasSuffix(c.want, "; ") && got != c.want,
			c.want == "unmeasured: " && !strings.HasPrefix(got, c.want),
			!strings.Contains(got, c.want):
			t.Errorf("killed, then %s: the log says %q, want %q", app, got, c.want)
		}
	}
	if a := b.app("untouched"); a.Covered == nil || a.Covered.Since != began.Covered.Since || a.Covered.Carried != 2 {
		t.Errorf("killed: covered %+v, began as %+v", a.Covered, began.Covered)
	}
	if a := b.app("touched"); a.Covered == nil || a.Covered.Since <= began.Covered.Since || a.Covered.Carried != 0 {
		t.Errorf("touched: covered %+v, began as %+v", a.Covered, began.Covered)
	}
	list := exec.Command(filepath.Join(b.commands, "agentctl"), "app", "list", "--admin", b.machine.AdminSocket())
	if out, err := list.Output(); err != nil || !strings.Contains(string(out), fmt.Sprintf("covered since record %d, over 2 interruptions in which nothing can have changed", began.Covered.Record)) {
		t.Errorf("agentctl app list prints %s, %v", out, err)
	}
	if code, out := b.judge("untouched"); code != 0 {
		t.Errorf("the verifier says of coverage that was carried: exit %d, %s", code, out)
	}
	if code, out := b.judge("touched"); code != 5 || !strings.Contains(out, "policy.app-covered") {
		t.Errorf("the verifier says of coverage that began anew: exit %d, %s", code, out)
	}
	if a := b.app("gone"); a.Covered != nil || a.State != api.AppUnmeasured {
		t.Errorf("gone: %+v", a)
	}

	must(t, b.machine.Stop())
	b.manager.Empty()
	b.start()
	if got := b.said()["untouched"]; got != "carried false: the agent was stopped, and it handed nothing over; " {
		t.Errorf("without a hand-over, the log says %q", got)
	}
}
