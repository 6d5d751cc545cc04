// SPDX-License-Identifier: Apache-2.0

package caller

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
)

func TestUnitOf(t *testing.T) {
	for _, c := range []struct{ path, want string }{
		{"/system.slice/billing.service", "billing.service"},
		{"/system.slice/billing.service/worker/deeper.service", "billing.service"},
		{"/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"},
		// case 86: the unit of a user's own manager is that user's, whatever it is called
		{"/user.slice/user-1000.slice/user@1000.service/app.slice/billing.service", "user@1000.service"},
		{"/user.slice/user-1000.slice/session-3.scope", "session-3.scope"},
		{"/init.scope", "init.scope"},
		{"/machine.slice/libpod-aa.scope/system.slice/billing.service", "libpod-aa.scope"},
		{"/system.slice/ssh.socket", "ssh.socket"},
		// systemd's escapes
		{"/system.slice/_cpu.service", "cpu.service"},
		{"/system.slice/__under.service", "_under.service"},
		{`/system.slice/dev-disk\x2dby.service`, `dev-disk\x2dby.service`},

		{"/", ""},
		{"", ""},
		{"system.slice/billing.service", ""},
		{"/system.slice", ""},
		{"/..", ""},
		{"/../../system.slice/billing.service", ""},
		{"/system.slice/billing.service/..", ""},
		{"/system.slice/./billing.service", ""},
		{"/system.slice//billing.service", ""},
		{"/system.slice/billing.service (deleted)", ""},
		{"/system.slice/billing", ""},
		{"/docker/0123abcd", ""},
		{"/docker/billing.service", ""},
		{"/a@b.slice/billing.service", ""},
		{"/system.slice/.service", ""},
		{"/system.slice/_.service", ""},
		{"/system.slice/@x.service", ""},
		{"/system.slice/getty@.service", ""},
		{"/system.slice/bill ing.service", ""},
		{"/system.slice/bill\x1bing.service", ""},
		{"/system.slice/bíll.service", ""},
		{"/system.slice/billing.timer", ""},
		{"/system.slice/" + strings.Repeat("a", 248) + ".service", ""},
	} {
		got, err := UnitOf(c.path)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("UnitOf(%q) = %q, %v; want %q", c.path, got, err, c.want)
		}
		if err != nil && !errors.Is(err, ErrNoUnit) {
			t.Errorf("UnitOf(%q): %v is not ErrNoUnit", c.path, err)
		}
	}
}

func TestHierarchy(t *testing.T) {
	hybrid := "9:name=systemd:/system.slice/a.service\n8:pids:/x\n0::/system.slice/b.service\n"
	for _, c := range []struct {
		h             Hierarchy
		content, want string
	}{
		{Unified, "0::/system.slice/a.service\n", "/system.slice/a.service"},
		{Unified, hybrid, "/system.slice/b.service"},
		{Legacy, hybrid, "/system.slice/a.service"},
		{Legacy, "12:name=systemd:/system.slice/with:colon.service\n", "/system.slice/with:colon.service"},
		{Unified, "0::/a:name=systemd:/b\n", "/a:name=systemd:/b"},
		{Legacy, "0::/a:name=systemd:/b\n", ""}, // a cgroup's name is not a line of its own
		{Legacy, "3:cpu:/a:name=systemd:/b\n", ""},
		{Unified, "1:name=systemd:/a\n", ""},
		{Unified, "0::/a\n0::/b\n", ""},
		{Unified, "", ""},
	} {
		got, err := c.h.Path([]byte(c.content))
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q.Path(%q) = %q, %v; want %q", c.h, c.content, got, err, c.want)
		}
	}
}

func FuzzUnit(f *testing.F) {
	f.Add([]byte("0::/user.slice/user-1000.slice/user@1000.service/app.slice/billing.service\n"))
	f.Add([]byte("9:name=systemd:/system.slice/a.service\n0::/\n"))
	f.Add([]byte("0::/../__x.service"))
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, h := range []Hierarchy{Unified, Legacy} {
			path, err := h.Path(content)
			if err != nil {
				continue
			}
			unit, err := UnitOf(path)
			if err != nil {
				if unit != "" {
					t.Fatalf("%q with %v", unit, err)
				}
				continue
			}
			// Whatever came in, what comes out can stand in a statement.
			s := evidence.Statement{
				Type: evidence.StatementType, Nonce: make([]byte, 16), Salt: make([]byte, 16), Freshness: evidence.Fresh,
				Caller: evidence.Caller{PID: 1, Unit: unit, UnitStarted: new(uint64), Method: evidence.MethodPidfd},
			}
			if err := s.Check(); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(path, "..") && strings.Contains(path, "/../") {
				t.Fatalf("unit %q from %q", unit, path)
			}
		}
	})
}

func TestImage(t *testing.T) {
	for _, c := range []struct {
		link  string
		links uint64
		state evidence.ExecutableState
		path  string
	}{
		{"/usr/bin/billing", 1, evidence.ExecutableFile, "/usr/bin/billing"},
		{"/usr/bin/billing (deleted)", 0, evidence.ExecutableReplaced, "/usr/bin/billing"},
		{"/usr/bin/billing (deleted)", 1, evidence.ExecutableReplaced, "/usr/bin/billing"}, // another hard link is left
		{"/memfd:x (deleted)", 0, evidence.ExecutableMemfd, "/memfd:x"},                    // case 15
		{"/memfd:x", 1, evidence.ExecutableFile, "/memfd:x"},
		{"/tmp/\x1b[2Jfine", 1, evidence.ExecutableFile, `"/tmp/\x1b[2Jfine"`},
		{"/tmp/\u009b2Jfine", 1, evidence.ExecutableFile, `"/tmp/\u009b2Jfine"`},     // CSI as one C1 control
		{"/tmp/\u202egpj.exe", 1, evidence.ExecutableFile, `"/tmp/\u202egpj.exe"`},   // right-to-left override
		{"/tmp/\u2066a\u2028b", 1, evidence.ExecutableFile, `"/tmp/\u2066a\u2028b"`}, // isolate, line separator
		{"/tmp/é漢字 ok", 1, evidence.ExecutableFile, "/tmp/é漢字 ok"},                   // what prints stays
		{"/tmp/\xff", 1, evidence.ExecutableFile, `"/tmp/\xff"`},
		{"/" + strings.Repeat("é\n", 4000), 1, evidence.ExecutableFile, ""},
	} {
		x := Image(c.link, c.links)
		if x.State != c.state || x.Path != c.path {
			t.Errorf("Image(%q, %d) = %s %q; want %s %q", c.link, c.links, x.State, x.Path, c.state, c.path)
		}
		s := evidence.Statement{
			Type: evidence.StatementType, Nonce: make([]byte, 16), Salt: make([]byte, 16), Freshness: evidence.Fresh,
			Caller: evidence.Caller{PID: 1, Method: evidence.MethodPidfd, Executable: &x},
		}
		if err := s.Check(); err != nil {
			t.Errorf("%q would fail a statement: %v", c.link, err)
		}
	}
}

type fakeProcess struct {
	Process
	image *evidence.Executable
}

func (f fakeProcess) Executable(context.Context) *evidence.Executable { return f.image }

type fakeApps struct {
	in   *Container
	near bool // in the control group of a container
	unit string
	uid  uint32
	has  evidence.Digest
	read *int // how often the files of the app were looked at
}

func (f fakeApps) ByUnit(unit string, uid uint32) (App, bool) {
	return App{Name: "billing", Unit: f.unit}, unit == f.unit && uid == f.uid
}
func (f fakeApps) Container(*Peer) *Container { return f.in }
func (f fakeApps) Beside(*Peer) bool          { return f.near || f.in != nil }
func (f fakeApps) Covers(app string, d evidence.Digest) bool {
	return app == "billing" && d == f.has && *f.read == 1
}
func (f fakeApps) Settle(_ context.Context, app string) {
	if app == "billing" {
		*f.read++
	}
}

// TestCaller holds that only unit and uid make an app, and that content is covered by
// that app's manifest alone, after what the agent was told of its files is in the log.
func TestCaller(t *testing.T) {
	trusted, other := evidence.Digest{1}, evidence.Digest{2}
	apps := fakeApps{unit: "billing.service", uid: 7, has: trusted}
	image := func(d *evidence.Digest) *evidence.Executable {
		return &evidence.Executable{State: evidence.ExecutableFile, Digest: d, Covered: true}
	}
	for name, c := range map[string]struct {
		peer    Peer
		app     string
		covered bool
	}{
		"the app":               {Peer{UID: 7, Unit: "billing.service", Process: fakeProcess{image: image(&trusted)}}, "billing", true},
		"other content":         {Peer{UID: 7, Unit: "billing.service", Process: fakeProcess{image: image(&other)}}, "billing", false},
		"content not read":      {Peer{UID: 7, Unit: "billing.service", Process: fakeProcess{image: image(nil)}}, "billing", false},
		"other uid":             {Peer{UID: 8, Unit: "billing.service", Process: fakeProcess{image: image(&trusted)}}, "", false},
		"case 86, user's unit":  {Peer{UID: 7, Unit: "user@7.service", Process: fakeProcess{image: image(&trusted)}}, "", false},
		"case 85, trusted exec": {Peer{UID: 7, Process: fakeProcess{image: image(&trusted)}}, "", false},
	} {
		seen := c.peer.Process.(fakeProcess).image
		apps.read = new(int)
		got := c.peer.Caller(t.Context(), apps)
		if got.App != c.app || got.Executable.Covered != c.covered {
			t.Errorf("%s: app %q covered %v, want %q %v", name, got.App, got.Executable.Covered, c.app, c.covered)
		}
		if !seen.Covered {
			t.Errorf("%s: the observation was changed, which other requests share", name)
		}
	}
}

// TestCallerInContainer: a process in a measured container is the app of its image, or none. It is
// never the app of the unit around it, with the same user, and its executable is covered by no
// manifest of files (case 125).
func TestCallerInContainer(t *testing.T) {
	content := evidence.Digest{1}
	for name, c := range map[string]struct {
		in  *Container
		app string
	}{
		"of an app": {&Container{Container: evidence.Container{Engine: "podman", ID: "a", Root: evidence.Digest{9}}, App: &App{Name: "web", Engine: "podman"}}, "web"},
		"of none":   {&Container{Container: evidence.Container{Engine: "podman", ID: "a", Root: evidence.Digest{9}}}, ""},
	} {
		apps := fakeApps{in: c.in, unit: "billing.service", uid: 7, has: content, read: new(int)}
		p := Peer{UID: 7, Unit: "billing.service", Process: fakeProcess{image: &evidence.Executable{State: evidence.ExecutableFile, Digest: &content}}}
		got := p.Caller(t.Context(), apps)
		if got.App != c.app || got.Container == nil || *got.Container != c.in.Container || got.Executable.Covered || *apps.read != 0 {
			t.Errorf("%s: %+v", name, got)
		}
		if got.Unit != "billing.service" {
			t.Errorf("%s: unit %q is lost", name, got.Unit)
		}
	}
}

// TestCallerBesideContainer: what came out of a measured container, by a mount namespace of its own,
// is not the app of the unit around it, with the same user (case 125).
func TestCallerBesideContainer(t *testing.T) {
	content := evidence.Digest{1}
	apps := fakeApps{near: true, unit: "billing.service", uid: 7, has: content, read: new(int)}
	p := Peer{UID: 7, Unit: "billing.service", Process: fakeProcess{image: &evidence.Executable{State: evidence.ExecutableFile, Digest: &content}}}
	if got := p.Caller(t.Context(), apps); got.App != "" || got.Container != nil || got.Executable.Covered || *apps.read != 0 {
		t.Errorf("%+v", got)
	}
}

// obliging finds an app for every caller, and every content in it.
type obliging struct{}

func (obliging) ByUnit(string, uint32) (App, bool)   { return App{Name: "billing"}, true }
func (obliging) Container(*Peer) *Container          { return nil }
func (obliging) Beside(*Peer) bool                   { return false }
func (obliging) Settle(context.Context, string)      {}
func (obliging) Covers(string, evidence.Digest) bool { return true }

// No system unit, no app, and without an app nothing is covered: whatever the list of
// apps would say to an empty name.
func TestCallerWithoutUnit(t *testing.T) {
	p := Peer{UID: 7, Process: fakeProcess{image: &evidence.Executable{State: evidence.ExecutableFile, Digest: &evidence.Digest{1}}}}
	if got := p.Caller(t.Context(), obliging{}); got.App != "" || got.Executable.Covered {
		t.Errorf("%+v, covered %v", got, got.Executable.Covered)
	}
}
