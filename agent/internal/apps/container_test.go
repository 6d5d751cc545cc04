// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"os"
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/pcr"
)

// TestContainersAreDeclared: declarations of containers enter the log with the others, and no unit
// or user makes a process such an app.
func TestContainersAreDeclared(t *testing.T) {
	w := newWorld(t)
	var last []pcr.Declaration
	reload := func() Change {
		t.Helper()
		c, err := w.Reload(t.Context(), func(_ context.Context, d []pcr.Declaration) error { last = d; return nil })
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	names := func() (out []string) {
		for _, d := range last {
			out = append(out, d.App)
		}
		return out
	}
	container := func(remark string) {
		t.Helper()
		text := "image = \"registry.example/ledger\"\nengine = \"podman\"\nunit = \"ledger.service\"\n" + remark
		if err := os.WriteFile(w.config.Directories[len(w.config.Directories)-1]+"/ledger.toml", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.declare("app", list("files", w.write("app", "one", 0o755)))
	w.declare("zebra", list("files", w.write("zebra", "one", 0o755)))
	container("")
	if c := reload(); !slices.Equal(c.Added, []string{"app", "ledger", "zebra"}) || !slices.Equal(names(), c.Added) {
		t.Errorf("added %v, announced %v", c.Added, names())
	}
	if found := w.Containers(); len(found) != 1 || found[0].Name != "ledger" {
		t.Errorf("containers %v", found)
	}
	if app, ok := w.ByUnit("ledger.service", 0); ok || len(w.OfUnit("ledger.service")) != 0 {
		t.Errorf("root in the container's unit is %+v", app)
	}
	if app, ok := w.ByUnit("", 0); ok {
		t.Errorf("root without a unit is %+v", app)
	}
	container("# a remark\n")
	if c := reload(); !slices.Equal(c.Changed, []string{"ledger"}) || len(names()) != 3 {
		t.Errorf("changed %v, announced %v", c.Changed, names())
	}
	w.declare("ledger", list("files", w.write("ledger", "one", 0o755))) // an app of files from now on
	if c := reload(); !slices.Equal(c.Added, []string{"ledger"}) || !slices.Equal(c.Removed, []string{"ledger"}) || len(w.Containers()) != 0 {
		t.Errorf("%+v", c)
	}
}
