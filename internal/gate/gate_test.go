// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"crypto/sha256"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/fanotify"
	"github.com/cvm-agentd/agentd/internal/gatewire"
)

const long = 60 * time.Second // for what happens at once on a machine that is not busy

// needGate skips a test if the kernel gives no permission events here.
func needGate(t *testing.T) {
	t.Helper()
	g, err := fanotify.New()
	if err == nil {
		err = func() error {
			defer g.Close()
			fd, err := unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return g.Mark(fd)
		}()
	}
	if err != nil {
		t.Skipf("permission events of the kernel (fanotify) are not permitted here: %v", err)
	}
}

// agent is the other end of the gate's connection, as a test wants it.
type agent struct {
	t     *testing.T
	may   func(gatewire.Ask) (start, answer bool)
	rules gatewire.Rules

	mu     sync.Mutex
	conn   net.Conn // nil while it is away
	away   bool
	hellos []gatewire.Hello
	readys []gatewire.Ready
	asks   []gatewire.Ask
	gaps   []gatewire.Gap
	pongs  []uint64
	told   chan struct{} // of one: something of the above is new
}

func newAgent(t *testing.T, may func(gatewire.Ask) (start, answer bool), apps ...gatewire.App) *agent {
	return &agent{t: t, may: may, rules: gatewire.Rules{Generation: 1, Apps: apps}, told: make(chan struct{}, 1)}
}

// connect is for the gate.
func (a *agent) connect(context.Context) (net.Conn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away {
		return nil, errors.New("the agent is away")
	}
	ours, theirs := net.Pipe()
	a.conn = ours
	go a.serve(ours)
	return theirs, nil
}

// leave ends the connection, and lets none come until back.
func (a *agent) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.away = true
	a.conn.Close()
}

func (a *agent) back() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.away = false
}

func (a *agent) send(conn net.Conn, m *gatewire.ToGate) {
	if err := gatewire.Write(conn, m); err != nil {
		conn.Close()
	}
}

func (a *agent) serve(conn net.Conn) {
	out := make(chan *gatewire.ToGate, 1024) // a pipe has no room of its own
	defer close(out)
	go func() {
		for m := range out {
			a.send(conn, m)
		}
	}()
	for {
		var m gatewire.ToAgent
		if err := gatewire.Read(conn, &m); err != nil {
			return
		}
		a.mu.Lock()
		switch {
		case m.Hello != nil:
			a.hellos = append(a.hellos, *m.Hello)
			rules := a.rules
			out <- &gatewire.ToGate{Rules: &rules}
			for _, x := range m.Hello.Gaps {
				a.gaps = append(a.gaps, x)
				out <- &gatewire.ToGate{Noted: &gatewire.Noted{Number: x.Number}}
			}
		case m.Ready != nil:
			a.readys = append(a.readys, *m.Ready)
			out <- &gatewire.ToGate{Recorded: &gatewire.Recorded{Generation: m.Ready.Generation, Apps: m.Ready.Apps}}
		case m.Ask != nil:
			a.asks = append(a.asks, *m.Ask)
			if start, answer := a.may(*m.Ask); answer {
				out <- &gatewire.ToGate{Answer: &gatewire.Answer{ID: m.Ask.ID, Start: start}}
			}
		case m.Gap != nil:
			a.gaps = append(a.gaps, *m.Gap)
			out <- &gatewire.ToGate{Noted: &gatewire.Noted{Number: m.Gap.Number}}
		case m.Pong != nil:
			a.pongs = append(a.pongs, m.Pong.ID)
		}
		a.mu.Unlock()
		select {
		case a.told <- struct{}{}:
		default:
		}
	}
}

// wait waits until what holds.
func (a *agent) wait(what string, holds func() bool) {
	a.t.Helper()
	end := time.After(long)
	for {
		a.mu.Lock()
		ok := holds()
		a.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-a.told:
		case <-time.After(10 * time.Millisecond):
		case <-end:
			a.t.Fatalf("not in %v: %s", long, what)
		}
	}
}

// guarded runs a gate until the test ends, and waits until it guards n times.
func guarded(t *testing.T, a *agent, change func(*Config)) {
	t.Helper()
	c := Config{Connect: a.connect, Unit: func(int) string { return "" }, Deadline: long}
	if change != nil {
		change(&c)
	}
	var once sync.Once
	begun := make(chan struct{})
	c.Guarding = func(int) { once.Do(func() { close(begun) }) }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, c) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-begun:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	case <-time.After(long):
		t.Fatal("the gate does not begin")
	}
}

// program makes a program that says a word, and returns its digest.
func program(t *testing.T, path, word string) evidence.Digest {
	t.Helper()
	b := speaker(t, word)
	if err := os.WriteFile(path+".new", b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}

func all(gatewire.Ask) (start, answer bool) { return true, true }

// app is one app with all of a folder.
func app(folder string) gatewire.App {
	return gatewire.App{App: "app", Folders: []gatewire.Folder{{Path: folder}}}
}

func enforced(a gatewire.App) gatewire.App { a.Enforce = true; return a }

// TestStartIsAsked: the agent is asked for the digest of what runs before it runs, once per start,
// and its answer is what happens. Case 126.
func TestStartIsAsked(t *testing.T) {
	needGate(t)
	folder := t.TempDir()
	path := filepath.Join(folder, "program")
	good := program(t, path, "good")
	a := newAgent(t, func(x gatewire.Ask) (bool, bool) { return x.Digest == good, true }, app(folder))
	guarded(t, a, nil)
	if out, err := run(path); err != nil || out != "good" {
		t.Fatalf("%q, %v", out, err)
	}
	evil := program(t, path, "evil")
	if out, err := run(path); !errors.Is(err, syscall.EPERM) || out != "" {
		t.Errorf("a program that may not start: %q, %v", out, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.asks) != 2 || a.asks[0].Digest != good || a.asks[1].Digest != evil || a.asks[0].Path != path || a.asks[0].App != "app" || a.asks[0].Loose {
		t.Errorf("asked %+v", a.asks)
	}
	if len(a.gaps) != 0 {
		t.Errorf("gaps %+v", a.gaps)
	}
}

// TestSwaps: while two programs are renamed over each other's name all the time, what was asked of a
// process is what that process runs. Case 12.
func TestSwaps(t *testing.T) {
	needGate(t)
	rounds := 10000
	if testing.Short() {
		rounds = 500
	}
	folder := t.TempDir()
	word := make(map[evidence.Digest]string)
	for _, w := range []string{"alpha", "omega"} {
		word[program(t, filepath.Join(folder, w), w)] = w
	}
	a := newAgent(t, all, app(folder))
	guarded(t, a, nil)
	path := filepath.Join(folder, "program")
	stop, stopped := make(chan struct{}), make(chan int)
	go func() { // swaps as quickly as it can
		n := 0
		for {
			for _, w := range []string{"alpha", "omega"} {
				_ = os.Link(filepath.Join(folder, w), path+".new")
				_ = os.Rename(path+".new", path)
				_ = os.Remove(path + ".new") // rename does nothing if both are one file
				n++
			}
			select {
			case <-stop:
				stopped <- n
				return
			default:
			}
		}
	}()
	ran := make(map[int]string)
	seen := make(map[string]int)
	for n := 0; n < rounds/10; { // each process is one in ten swaps: a process costs as much
		r, err := start(path)
		if errors.Is(err, syscall.ENOENT) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		ran[r.PID], seen[r.Out] = r.Out, seen[r.Out]+1
		n++
	}
	close(stop)
	swaps := <-stopped
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range a.asks {
		if w := ran[x.PID]; w != "" && w != word[x.Digest] {
			t.Errorf("process %d: asked for %q, and it ran %q", x.PID, word[x.Digest], w)
		}
		delete(ran, x.PID)
	}
	if len(ran) != 0 || len(a.gaps) != 0 {
		t.Errorf("%d processes without a question; gaps %v", len(ran), a.gaps)
	}
	t.Logf("%d swaps, started %v", swaps, seen)
}

// TestWriter: a file that is open for writing does not start, and one that a writer wants to open
// keeps its content until the program has started.
func TestWriter(t *testing.T) {
	needGate(t)
	folder := t.TempDir()
	path := filepath.Join(folder, "program")
	good := program(t, path, "good")
	a := newAgent(t, all, app(folder))
	guarded(t, a, func(c *Config) { c.Patience = 300 * time.Millisecond })
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := run(path); err == nil {
		t.Errorf("a file that is open for writing ran: %q", out)
	}
	w.Close()
	if out, err := run(path); err != nil || out != "good" {
		t.Errorf("%q, %v", out, err)
	}
	// Now there is a lease. A writer waits for its end, and then what it wrote is hashed again.
	if w, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("more"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if out, err := run(path); err != nil || out != "good" {
		t.Errorf("%q, %v", out, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.asks); n != 2 || a.asks[0].Digest != good || a.asks[1].Digest == good || len(a.gaps) != 0 {
		t.Errorf("asked %+v, gaps %+v", a.asks, a.gaps)
	}
}

// TestAgentAway: while the agent is away, what it knew starts, and the rest waits for it. At the
// deadline it starts with a gap, or does not start if it is enforced. Case 126.
func TestAgentAway(t *testing.T) {
	needGate(t)
	free, strict := t.TempDir(), t.TempDir()
	a := newAgent(t, all, app(free), gatewire.App{App: "strict", Enforce: true, Folders: []gatewire.Folder{{Path: strict}}})
	guarded(t, a, func(c *Config) { c.Deadline = 2 * time.Second })
	for _, folder := range []string{free, strict} {
		program(t, filepath.Join(folder, "known"), "known")
		if out, err := run(filepath.Join(folder, "known")); err != nil || out != "known" {
			t.Fatalf("%q, %v", out, err)
		}
	}
	a.leave()
	for _, folder := range []string{free, strict} {
		if out, err := run(filepath.Join(folder, "known")); err != nil || out != "known" {
			t.Errorf("%q, %v", out, err)
		}
		program(t, filepath.Join(folder, "other"), "other")
	}
	if out, err := run(filepath.Join(strict, "other")); !errors.Is(err, syscall.EPERM) {
		t.Errorf("enforced, without the agent: %q, %v", out, err)
	}
	if out, err := run(filepath.Join(free, "other")); err != nil || out != "other" {
		t.Errorf("%q, %v", out, err)
	}
	a.back()
	a.wait("a gap of the one app", func() bool { return len(a.gaps) == 1 })
	a.mu.Lock()
	defer a.mu.Unlock()
	if x := a.gaps[0]; x.App != "app" || !strings.Contains(x.Reason, "other") {
		t.Errorf("gap %+v", x)
	}
	if h := a.hellos[len(a.hellos)-1]; !slices.Equal(h.Held, []gatewire.Held{{App: "strict", Enforce: true}}) {
		t.Errorf("held %+v", h.Held)
	}
}

// TestAgentRestarts: a start waits for the agent that comes back, and nothing is a gap. The gate
// says what it went on with.
func TestAgentRestarts(t *testing.T) {
	needGate(t)
	folder := t.TempDir()
	a := newAgent(t, all, app(folder))
	guarded(t, a, nil)
	program(t, filepath.Join(folder, "program"), "late")
	a.leave()
	type result struct {
		out string
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := run(filepath.Join(folder, "program"))
		done <- result{out, err}
	}()
	select {
	case r := <-done:
		t.Fatalf("it did not wait: %+v", r)
	case <-time.After(50 * time.Millisecond):
	}
	a.back()
	if r := <-done; r.err != nil || r.out != "late" {
		t.Errorf("%+v", r)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if h := a.hellos[len(a.hellos)-1]; len(a.gaps) != 0 || !slices.Equal(h.Held, []gatewire.Held{{App: "app"}}) || len(h.Gaps) != 0 {
		t.Errorf("gaps %v, hello %+v", a.gaps, h)
	}
}

// TestConnectionCutInAQuestion: the decisions that wait for an answer ask again.
func TestConnectionCutInAQuestion(t *testing.T) {
	needGate(t)
	folder := t.TempDir()
	var answers bool
	a := newAgent(t, nil, app(folder))
	a.may = func(gatewire.Ask) (bool, bool) { return true, answers }
	guarded(t, a, nil)
	program(t, filepath.Join(folder, "program"), "word")
	done := make(chan error, 1)
	go func() { _, err := run(filepath.Join(folder, "program")); done <- err }()
	a.wait("the question", func() bool { return len(a.asks) == 1 })
	a.leave()
	a.mu.Lock()
	answers = true
	a.mu.Unlock()
	a.back()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestWhatTheGateDoesNotSee: docs/gate.md lists it. Case 126.
func TestWhatTheGateDoesNotSee(t *testing.T) {
	needGate(t)
	folder := t.TempDir()
	script, path := filepath.Join(folder, "script"), filepath.Join(folder, "program")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho script\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	program(t, path, "program")
	a := newAgent(t, func(gatewire.Ask) (bool, bool) { return false, true }, enforced(app(folder)))
	guarded(t, a, nil)
	if out, err := run(script); !errors.Is(err, syscall.EPERM) {
		t.Errorf("a script is seen: %q, %v", out, err)
	}
	if out, err := run("/bin/sh", script); err != nil || out != "script" {
		t.Errorf("sh FILE is not: %q, %v", out, err)
	}
	if out, err := run(path); !errors.Is(err, syscall.EPERM) {
		t.Errorf("a program is seen: %q, %v", out, err)
	}
	dynamic := filepath.Join(folder, "true")
	if b, err := os.ReadFile("/bin/true"); err != nil {
		t.Fatal(err)
	} else if err := os.WriteFile(dynamic, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := run(dynamic); !errors.Is(err, syscall.EPERM) {
		t.Errorf("a program is seen: %v", err)
	}
	for _, loader := range []string{"/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"} {
		if _, err := os.Stat(loader); err != nil {
			continue
		}
		if out, err := run(loader, dynamic); err != nil {
			t.Errorf("ld.so PROGRAM is not: %q, %v", out, err)
		}
	}
	outside := filepath.Join(t.TempDir(), "link")
	if err := os.Link(path, outside); err != nil {
		t.Fatal(err)
	}
	if out, err := run(outside); err != nil || out != "program" {
		t.Errorf("a hard link elsewhere is not: %q, %v", out, err)
	}
}

// TestNeverHeldUp: what runs in the units of agent and gate starts without the agent: it could
// not answer before it started. Case 126.
func TestNeverHeldUp(t *testing.T) {
	needGate(t)
	for _, unit := range []string{gatewire.Agent, gatewire.Unit} {
		folder := t.TempDir()
		program(t, filepath.Join(folder, "agentd"), "agent")
		a := newAgent(t, func(gatewire.Ask) (bool, bool) { return false, false }, enforced(app(folder)))
		guarded(t, a, func(c *Config) { c.Unit = func(int) string { return unit } })
		if out, err := run(filepath.Join(folder, "agentd")); err != nil || out != "agent" {
			t.Errorf("%s: %q, %v", unit, out, err)
		}
		a.mu.Lock()
		if len(a.asks) != 0 {
			t.Errorf("%s: asked %+v", unit, a.asks)
		}
		a.mu.Unlock()
	}
}

// TestOtherPrograms: a program of a guarded folder that belongs to no app starts without a question,
// also while it is installed.
func TestOtherPrograms(t *testing.T) {
	needGate(t)
	folder := t.TempDir()
	path := filepath.Join(folder, "program")
	good := program(t, path, "good")
	other := gatewire.App{App: "app", Enforce: true, Folders: []gatewire.Folder{{Path: folder, Names: []string{"program"}}}}
	a := newAgent(t, func(x gatewire.Ask) (bool, bool) { return x.Digest == good, true }, other)
	guarded(t, a, nil)
	if out, err := run(path); err != nil || out != "good" {
		t.Errorf("%q, %v", out, err)
	}
	old := time.Now().Add(-time.Hour)
	moved := func(r *rules, since time.Time) []owner { return (&search{r: r, since: since}).moved() }
	r := &rules{folders: map[string][]claim{folder: {{owner: owner{app: "app"}, names: map[string]bool{"program": true}}}}}
	if got := moved(r, old); !slices.Equal(got, []owner{{app: "app", loose: true}}) {
		t.Errorf("a name that was changed since then: %+v", got)
	}
	if got := moved(r, time.Now().Add(time.Hour)); got != nil {
		t.Errorf("a name that was not changed since then: %+v", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := moved(r, old); len(got) != 1 {
		t.Errorf("a name that is gone: %+v", got)
	}
}

// TestFolderReplaced: another folder at the path of a guarded one is guarded with the next rules,
// and what started of it before is a gap of the app.
func TestFolderReplaced(t *testing.T) {
	needGate(t)
	top := t.TempDir()
	folder := filepath.Join(top, "app")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, func(gatewire.Ask) (bool, bool) { return false, true }, app(folder))
	guarded(t, a, nil)
	if err := os.Rename(folder, filepath.Join(top, "old")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	program(t, filepath.Join(folder, "program"), "word")
	a.mu.Lock()
	a.rules.Generation++
	a.mu.Unlock()
	go a.send(a.conn, &gatewire.ToGate{Rules: &a.rules})
	a.wait("a gap, and then readiness", func() bool { return len(a.gaps) == 1 && len(a.readys) == 2 })
	if out, err := run(filepath.Join(folder, "program")); !errors.Is(err, syscall.EPERM) {
		t.Errorf("the new folder is not guarded: %q, %v", out, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if x := a.gaps[0]; x.App != "app" || !strings.Contains(x.Reason, folder) {
		t.Errorf("gap %+v", x)
	}
}

// TestNewName: a program of a guarded folder that becomes one of the app, as the new target of a link,
// may have started before, so that there is a gap. The same names again are none.
func TestNewName(t *testing.T) {
	needGate(t)
	folder := t.TempDir()
	named := func(names ...string) gatewire.App {
		x := app(folder)
		x.Folders[0].Names = names
		return x
	}
	other := named("else")
	other.App = "other"
	a := newAgent(t, all, named("one", "two"), other)
	guarded(t, a, nil)
	for i, c := range []struct {
		rules []gatewire.App
		gaps  int
	}{
		{[]gatewire.App{named("one"), other}, 0},
		{[]gatewire.App{named("one", "three"), other}, 1},
		{[]gatewire.App{named("one", "three"), other}, 1},
	} {
		a.mu.Lock()
		a.rules.Generation++
		a.rules.Apps = c.rules
		rules, conn := a.rules, a.conn
		a.mu.Unlock()
		go a.send(conn, &gatewire.ToGate{Rules: &rules})
		a.wait("readiness", func() bool { return len(a.readys) == i+2 })
		a.mu.Lock()
		if len(a.gaps) != c.gaps {
			t.Errorf("rules %d: gaps %+v, want %d", i, a.gaps, c.gaps)
		}
		a.mu.Unlock()
	}
}

// TestClaim: what an app claimed of a folder is known by name, and another app's claims are not its own.
func TestClaim(t *testing.T) {
	of := func(app string, names ...string) claim {
		c := claim{owner: owner{app: app}, all: len(names) == 0, names: make(map[string]bool)}
		for _, name := range names {
			c.names[name] = true
		}
		return c
	}
	r := &rules{folders: map[string][]claim{"/d": {of("app", "one"), of("app", "two"), of("whole"), of("other", "three")}}}
	for _, c := range []struct {
		folder string
		claim  claim
		want   bool
	}{
		{"/d", of("app", "one", "two"), true},
		{"/d", of("app", "three"), false},
		{"/d", of("app"), false},
		{"/d", of("whole", "three"), true},
		{"/d", of("whole"), true},
		{"/d", of("another", "one"), false},
		{"/e", of("app", "one"), false},
	} {
		if got := r.claim(c.folder, c.claim); got != c.want {
			t.Errorf("%s %+v: %t", c.folder, c.claim, got)
		}
	}
}

// TestCannotBeGuarded: a folder on a file system that another program serves is refused by name.
func TestCannotBeGuarded(t *testing.T) {
	needGate(t)
	a := newAgent(t, all, app("/proc/self"), app(t.TempDir()))
	a.rules.Apps[0].App, a.rules.Apps[1].App = "gone", "here"
	a.rules.Apps[0].Folders[0].Path = filepath.Join(t.TempDir(), "nothing")
	guarded(t, a, nil)
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.readys[0]; !slices.Equal(r.Apps, []string{"gone", "here"}) { // a folder that is not there starts nothing
		t.Errorf("ready %+v", r)
	}
}

// TestWriteLease: a program that has a write lease on a file in a guarded folder cannot stop the gate.
func TestWriteLease(t *testing.T) {
	needGate(t)
	folder := t.TempDir()
	path := filepath.Join(folder, "leased")
	program(t, path, "leased")
	program(t, filepath.Join(folder, "program"), "free")
	a := newAgent(t, all, app(folder))
	guarded(t, a, nil)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("the file system gives no write lease: %v", err)
	}
	if out, err := run(path); err == nil {
		t.Errorf("it started: %q", out)
	}
	if out, err := run(filepath.Join(folder, "program")); err != nil || out != "free" {
		t.Errorf("%q, %v", out, err)
	}
}

// TestPing: the answer comes after all that was to be said before.
func TestPing(t *testing.T) {
	needGate(t)
	a := newAgent(t, all, app(t.TempDir()))
	guarded(t, a, nil)
	go a.send(a.conn, &gatewire.ToGate{Ping: &gatewire.Ping{ID: 7}})
	a.wait("the answer", func() bool { return slices.Equal(a.pongs, []uint64{7}) })
}
