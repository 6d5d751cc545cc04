// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/caller"
)

// TestTemplate: an app that is declared for a template has all its instances of its user, apart
// from one that is declared itself (case 109).
func TestTemplate(t *testing.T) {
	w := newWorld(t)
	file := w.write("bin", "one", 0o755)
	declare := func(app, unit string, uid int) {
		w.declareText(w.apps, app, fmt.Sprintf("unit = %q\nuser = \"%d\"\nfiles = [%q]\n", unit, uid, file))
	}
	declare("all", "worker@.service", 1000)
	declare("one", "worker@1.service", 1000)
	declare("others", "worker@.service", 1001)
	w.reload()
	for _, c := range []struct {
		unit string
		uid  uint32
		want caller.App
	}{
		{"worker@1.service", 1000, caller.App{Name: "one", Unit: "worker@1.service", User: "1000", UID: 1000}},
		{"worker@2.service", 1000, caller.App{Name: "all", Unit: "worker@.service", User: "1000", UID: 1000}},
		{"worker@2-17-0.service", 1000, caller.App{Name: "all", Unit: "worker@.service", User: "1000", UID: 1000}},
		{"worker@1.service", 1001, caller.App{Name: "others", Unit: "worker@.service", User: "1001", UID: 1001}},
		{"worker@1.service", 0, caller.App{}},
		{"worker.service", 1000, caller.App{}},
		{"worker@1.socket", 1000, caller.App{}},
	} {
		if got, ok := w.ByUnit(c.unit, c.uid); got != c.want || ok != (c.want.Name != "") {
			t.Errorf("unit %s of uid %d: %+v, %v; want %+v", c.unit, c.uid, got, ok, c.want)
		}
	}
}

// TestRefusedInstance: a mistake in the declaration of an instance does not make its processes
// the app of the template, with the secrets of that. Its removal does.
func TestRefusedInstance(t *testing.T) {
	w := newWorld(t)
	file := w.write("bin", "one", 0o755)
	text := func(unit string) string { return fmt.Sprintf("unit = %q\nuser = \"1000\"\nfiles = [%q]\n", unit, file) }
	for _, step := range []struct {
		one  string // its declaration
		want string // app of its process
	}{
		{text("worker@1.service"), "one"},
		{"unit = worker", ""},
		{"unit = still", ""},
		{text("worker@1.service"), "one"},
		{text("worker@2.service"), "all"},
		{"unit = worker", "all"},
		{text("worker@1.service"), "one"},
		{"", "all"},
	} {
		w.declareText(w.apps, "all", text("worker@.service"))
		w.declareText(w.apps, "one", step.one)
		w.reload()
		if got, ok := w.ByUnit("worker@1.service", 1000); got.Name != step.want || ok != (step.want != "") {
			t.Errorf("after %q: %+v, %v; want %q", step.one, got, ok, step.want)
		}
		if got, _ := w.ByUnit("worker@3.service", 1000); got.Name != "all" {
			t.Errorf("after %q: another instance is %+v", step.one, got)
		}
		if _, ok := w.ByUnit("worker@1.service", 1001); ok {
			t.Errorf("after %q: another user is an app", step.one)
		}
	}
}

// TestRefusedInstanceAtStart: an agent that starts with a mistake in the declaration of an instance
// does not give that instance's processes the app of the template either, although it has never
// known what the declaration said.
func TestRefusedInstanceAtStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bin")
	if err := os.WriteFile(file, []byte("one"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := func(unit, user, file string) string {
		return fmt.Sprintf("unit = %q\nuser = %q\nfiles = [%q]\n", unit, user, file)
	}
	for name, c := range map[string]struct {
		one   string // its declaration
		mode  os.FileMode
		one1  bool // worker@1.service is the template's app
		other bool // and worker@2.service
	}{
		"a path":                  {text("worker@1.service", "1000", "bin"), 0o644, false, true},
		"no such user":            {text("worker@1.service", "not-a-user-of-this-machine", file), 0o644, false, true},
		"a quote":                 {"unit = \"worker@1.service\nuser = \"1000\"\n", 0o644, false, true},
		"a key":                   {text("worker@1.service", "1000", file) + "exec = 1\n", 0o644, false, true},
		"an escape":               {"unit = \"worker\\u00401.service\"\nuser = \"1000\n", 0o644, false, false},
		"an escape, and a path":   {"unit = \"worker\\u00401.service\"\nuser = \"1000\"\nfiles = [\"bin\"]\n", 0o644, false, true},
		"cut short":               {"unit = \"work", 0o644, false, false},
		"writable for others":     {text("worker@1.service", "1000", file), 0o666, false, false},
		"a comment, then nothing": {"# to do\n", 0o644, false, false},
		"another unit":            {"unit = \"billing.service\nuser = \"1000\"\n", 0o644, true, true},
		"another unit, and a key": {text("billing.service", "1000", file) + "exec = 1\n", 0o644, true, true},
		"the template itself":     {text("other@.service", "1000", "bin"), 0o644, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.declareText(w.apps, "all", text("worker@.service", "1000", file))
			w.declareText(w.apps, "one", c.one)
			chmod(t, filepath.Join(w.apps, "one.toml"), c.mode)
			w.reload()
			for unit, want := range map[string]bool{"worker@1.service": c.one1, "worker@2.service": c.other} {
				if got, ok := w.ByUnit(unit, 1000); ok != want || ok && got.Name != "all" {
					t.Errorf("%s is %+v, %v", unit, got, ok)
				}
			}
			// What the administrator sees names what is held.
			if why := w.app("one").WhyNot; !c.one1 && !strings.Contains(why, "until it is corrected") {
				t.Errorf("the reason is %q", why)
			}
			// Once it is corrected, each has its own.
			w.declareText(w.apps, "one", text("worker@1.service", "1000", file))
			chmod(t, filepath.Join(w.apps, "one.toml"), 0o644)
			w.reload()
			one, _ := w.ByUnit("worker@1.service", 1000)
			if two, _ := w.ByUnit("worker@2.service", 1000); one.Name != "one" || two.Name != "all" {
				t.Errorf("corrected: %+v, %+v", one, two)
			}
		})
	}
}
