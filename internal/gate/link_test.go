// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/gatewire"
)

// newTestLink returns a link whose messages go nowhere, of a gate without events of the kernel.
func newTestLink(t *testing.T) (*link, net.Conn) {
	t.Helper()
	g := &Gate{c: Config{Log: slog.New(slog.DiscardHandler)}}
	g.rules.Store(&rules{})
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	g.link = newLink(g)
	return g.link, ours
}

// TestRulesEndWhatIsHeld: an app that the rules do not name any more, or otherwise, is not held from
// then on, also if the agent ends before it has recorded that. What is enforced is asked for again.
func TestRulesEndWhatIsHeld(t *testing.T) {
	l, conn := newTestLink(t)
	loop := filepath.Join(t.TempDir(), "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	l.held = map[string]bool{"kept": false, "strict": true, "looser": true, "failed": false, "gone": false}
	for app := range l.held {
		l.learn(known{app: app})
	}
	l.take(t.Context(), conn, &gatewire.Rules{Generation: 1, Apps: []gatewire.App{
		{App: "kept"}, {App: "strict", Enforce: true}, {App: "looser"}, {App: "failed", Folders: []gatewire.Folder{{Path: loop}}},
	}})
	if want := map[string]bool{"kept": false, "strict": true}; !maps.Equal(l.held, want) {
		t.Errorf("held %v, want %v", l.held, want)
	}
	for app, want := range map[string]bool{"kept": true, "strict": false, "looser": true} {
		if l.known[known{app: app}] != want {
			t.Errorf("%s: known %t, want %t", app, !want, want)
		}
	}
}

// TestGapIsSentAgain: the note of a gap is none of another one of the same app after it.
func TestGapIsSentAgain(t *testing.T) {
	l, _ := newTestLink(t)
	l.gap("app", "first")
	l.gap("app", "second")
	l.noted(1)
	if x := l.gaps["app"]; x.Number != 2 || x.Reason != "first" {
		t.Errorf("%+v", x)
	}
	l.noted(2)
	if len(l.gaps) != 0 {
		t.Errorf("%+v", l.gaps)
	}
}

// TestAnswers: a program that could not be recorded is a gap, which the gate keeps; and a yes to one
// that may be no program of the app is none to one that is.
func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		a      owner
		answer gatewire.Answer
		start  bool
		err    error
		learnt bool
	}{
		"yes":          {owner{app: "app"}, gatewire.Answer{Start: true}, true, nil, true},
		"no":           {owner{app: "app"}, gatewire.Answer{}, false, nil, false},
		"loose":        {owner{app: "app", loose: true}, gatewire.Answer{Start: true}, true, nil, false},
		"not recorded": {owner{app: "app"}, gatewire.Answer{Start: true, Gap: true}, false, errNoRecord, false},
	} {
		l, conn := newTestLink(t)
		l.conn = conn
		type result struct {
			start bool
			err   error
		}
		done := make(chan result, 1)
		ctx, cancel := context.WithTimeout(t.Context(), long)
		go func() {
			start, err := l.may(ctx, c.a, "/program", evidence.Digest{1}, 1)
			done <- result{start, err}
		}()
		for sent := false; !sent && sleep(ctx, 1); {
			l.mu.Lock()
			sent = len(l.asked) == 1
			l.mu.Unlock()
		}
		c.answer.ID = 1
		l.answer(&c.answer)
		if r := <-done; r.start != c.start || !errors.Is(r.err, c.err) || l.known[known{"app", evidence.Digest{1}}] != c.learnt {
			t.Errorf("%s: %t, %v, known %v", name, r.start, r.err, l.known)
		}
		cancel()
		l.conn = nil
		if start := l.g.without(t.Context(), []owner{c.a}, "/program", errNoRecord); !start || !strings.Contains(l.gaps["app"].Reason, "could not record") {
			t.Errorf("%s: %t, %+v", name, start, l.gaps)
		}
	}
}

// TestKernelKeepsWritersAway: the gate gives a lease back when a program has started, since the kernel
// lets none write to its file from then on.
func TestKernelKeepsWritersAway(t *testing.T) {
	needGate(t)
	b, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sleep")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(path, "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	if f, err := os.OpenFile(path, os.O_WRONLY, 0); !errors.Is(err, unix.ETXTBSY) {
		t.Errorf("the file of a program that runs can be written: %v", err)
		f.Close()
	}
}

// TestFolderOfSystemd: the folder of what systemd starts each unit with is known by what it is, and without
// that program there is none.
func TestFolderOfSystemd(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	id := func(path string) fileID {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return fileID{uint64(st.Dev), st.Ino}
	}
	if err := errors.Join(os.WriteFile(filepath.Join(one, "executor"), nil, 0o755), os.Symlink(one, link)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		folder, program string
		want            bool
	}{
		{one, filepath.Join(one, "executor"), true},
		{link, filepath.Join(one, "executor"), true},
		{one, filepath.Join(link, "executor"), true},
		{two, filepath.Join(one, "executor"), false},
		{one, filepath.Join(one, "other"), false},
	} {
		if got := starts(id(c.folder), c.program); got != c.want {
			t.Errorf("%s, %s: %t", c.folder, c.program, got)
		}
	}
	defer func(before string) { executor = before }(executor)
	executor = filepath.Join(one, "executor")
	l, conn := newTestLink(t)
	l.take(t.Context(), conn, &gatewire.Rules{Generation: 1, Apps: []gatewire.App{app(one)}})
	if len(l.ready.Apps) != 0 || len(l.ready.Failed) != 1 || !strings.Contains(l.ready.Failed[0].Reason, executor) {
		t.Errorf("%+v", l.ready)
	}
}
