// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"fmt"
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
