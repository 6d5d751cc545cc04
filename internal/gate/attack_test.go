// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/gatewire"
)

// asked returns of which apps the agent was asked since the last call, ascending.
func (a *agent) asked() (apps []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range a.asks {
		apps = append(apps, x.App)
	}
	a.asks = nil
	slices.Sort(apps)
	return apps
}

// TestOtherMounts: a process that sees a guarded folder at another path, or another one at its path,
// is asked about by the app that the file belongs to. Case 126.
func TestOtherMounts(t *testing.T) {
	needGate(t)
	for _, program := range []string{"unshare", "mount"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	top := t.TempDir()
	one, two, free := filepath.Join(top, "one"), filepath.Join(top, "two"), filepath.Join(top, "free")
	for _, dir := range []string{one, two, free} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program(t, filepath.Join(one, "first"), "first")
	program(t, filepath.Join(two, "second"), "second")
	program(t, filepath.Join(free, "third"), "third")
	apps := []gatewire.App{app(one), app(two)}
	apps[0].App, apps[1].App = "one", "two"
	a := newAgent(t, all, apps...)
	guarded(t, a, nil)
	a.wait("the files are old enough not to have been renamed since", func() bool {
		var st unix.Stat_t
		return unix.Lstat(filepath.Join(two, "second"), &st) == nil && !changed(&st, time.Now().Add(-2*time.Second))
	})
	for _, c := range []struct {
		name, from, to, start, word string
		apps                        []string
	}{
		{"elsewhere", one, free, filepath.Join(free, "first"), "first", []string{"one"}},
		{"at the path of another app", two, one, filepath.Join(one, "second"), "second", []string{"two"}},
		{"another folder at the path of an app", free, one, filepath.Join(one, "third"), "third", nil},
		{"the file alone, by another name", filepath.Join(one, "first"), filepath.Join(free, "third"), filepath.Join(free, "third"), "first", nil},
	} {
		out, err := run("/usr/bin/env", "unshare", "-m", "/bin/sh", "-c", `mount --bind "$0" "$1" || exit 77; exec "$2"`, c.from, c.to, c.start)
		if err != nil && strings.Contains(err.Error(), "77") {
			t.Skipf("mounts are not permitted here: %v", err)
		}
		if err != nil || out != c.word {
			t.Errorf("%s: %q, %v", c.name, out, err)
		}
		if got := a.asked(); !slices.Equal(got, c.apps) { // docs/gate.md says that the last one is not seen
			t.Errorf("%s: asked about %v, want %v", c.name, got, c.apps)
		}
	}
}

// TestDeleted: a program that was deleted, and is started by a descriptor, is still the app's, however
// long ago that was.
func TestDeleted(t *testing.T) {
	needGate(t)
	folder := t.TempDir()
	path := filepath.Join(folder, "program")
	program(t, path, "deleted")
	a := newAgent(t, all, app(folder))
	guarded(t, a, nil)
	out, err := run("/bin/sh", "-c", `exec 3<"$0"; rm "$0"; exec /proc/self/fd/3`, path)
	if err != nil || out != "deleted" {
		t.Errorf("%q, %v", out, err)
	}
	if got := a.asked(); !slices.Equal(got, []string{"app"}) {
		t.Errorf("asked about %v", got)
	}
	var st unix.Stat_t
	if err := unix.Lstat(folder, &st); err != nil {
		t.Fatal(err)
	}
	r := &rules{folders: map[string][]claim{folder: {{owner: owner{app: "app"}, all: true}}}, ids: map[string]fileID{folder: {uint64(st.Dev), st.Ino}}}
	st.Ino, st.Ctim = 1, unix.Timespec{} // long ago
	for name, want := range map[string][]owner{"program (deleted)": {{app: "app"}}, "program": nil} {
		s := search{r: r, path: filepath.Join(folder, name), st: st, since: time.Now()}
		if got := s.owners(); !slices.Equal(got, want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	// The folder was renamed with what is in it: which program started is not sure.
	if err := os.Rename(folder, folder+".old"); err != nil {
		t.Fatal(err)
	}
	s := search{r: r, path: filepath.Join(folder+".old", "program"), st: st, since: time.Now()}
	if got := s.owners(); !slices.Equal(got, []owner{{app: "app", loose: true}}) {
		t.Errorf("in a folder that was renamed: %+v", got)
	}
}

// TestSilentFolder: a folder whose file system does not answer is asked once, and what may be in it
// is recorded for its app.
func TestSilentFolder(t *testing.T) {
	r := &rules{folders: map[string][]claim{"/silent": {{owner: owner{app: "app", enforce: true}, all: true}}}, ids: make(map[string]fileID)}
	r.silent.Store("/silent", true)
	s := search{r: r, path: "/elsewhere/program", since: time.Now()}
	if got := s.owners(); !slices.Equal(got, []owner{{app: "app", loose: true}}) {
		t.Errorf("%+v", got)
	}
	s.st.Ctim = unix.NsecToTimespec(time.Now().UnixNano())
	if got := s.moved(); !slices.Equal(got, []owner{{app: "app", loose: true}}) {
		t.Errorf("%+v", got)
	}
}

// TestFloodOfOneApp: more starts of one app than are decided at once, none of which is answered, do not
// hold up the start of another app. Case 126.
func TestFloodOfOneApp(t *testing.T) {
	needGate(t)
	if testing.Short() {
		t.Skip("starts hundreds of processes: not with -short")
	}
	flood, calm := t.TempDir(), t.TempDir()
	program(t, filepath.Join(flood, "program"), "flood")
	program(t, filepath.Join(calm, "program"), "calm")
	apps := []gatewire.App{app(flood), app(calm)}
	apps[0].App, apps[1].App = "flood", "calm"
	var answer atomic.Bool
	a := newAgent(t, func(x gatewire.Ask) (bool, bool) { return true, x.App == "calm" || answer.Load() }, apps...)
	guarded(t, a, nil)
	script := fmt.Sprintf(`i=0; while [ $i -lt %d ]; do (exec >/dev/null 2>&1; exec "$0") & i=$((i+1)); done; "$1"`, maxDeciding+maxOfApp)
	if out, err := run("/bin/sh", "-c", script, filepath.Join(flood, "program"), filepath.Join(calm, "program")); err != nil || out != "calm" {
		t.Errorf("%q, %v", out, err)
	}
	a.wait("as many questions as one app may have", func() bool {
		return len(a.asks) == maxOfApp+1
	})
	// Those that wait are answered now, and the others after them.
	answer.Store(true)
	a.leave()
	a.back()
	a.wait("all of them", func() bool { return len(a.asks) >= maxDeciding+maxOfApp+1 })
	if got := a.asked(); !slices.Contains(got, "calm") {
		t.Errorf("asked about %v", got)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.gaps) != 0 {
		t.Errorf("gaps %v", a.gaps)
	}
}

// TestSlowAgent: questions whose starts were decided at the deadline still wait for the agent, and the
// gate sends no more than it takes: it would end the connection, which is a gap of all apps.
func TestSlowAgent(t *testing.T) {
	g := &Gate{}
	l := newLink(g)
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	l.conn = ours
	for i := range gatewire.MaxAsked {
		if answer, _ := l.ask(owner{app: "app"}, "/program", evidence.Digest{byte(i)}, 1); answer == nil {
			t.Fatalf("question %d is not sent", i)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if start, err := l.may(ctx, owner{app: "app"}, "/program", evidence.Digest{1}, 1); start || !errors.Is(err, errNoAgent) {
		t.Errorf("%t, %v: one too many", start, err)
	}
	l.answer(&gatewire.Answer{ID: 1, Start: true})
	if answer, _ := l.ask(owner{app: "app"}, "/program", evidence.Digest{1}, 1); answer == nil {
		t.Error("it does not ask after an answer")
	}
}
