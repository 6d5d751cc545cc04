// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"maps"
	"os"
	"slices"
	"testing"
)

// TestGuardedWhenFound: an app is guarded when its folders are known by the declaration in force, with
// those below, and stays so if it cannot be measured later.
func TestGuardedWhenFound(t *testing.T) {
	w := newWorld(t)
	top := w.path("app")
	declare := func(gate, dir string) {
		w.declare("app", list("directories", dir), gate)
		w.declare("other", list("files", w.write("bin", "one", 0o755)))
		w.reload()
	}
	check := func(when string, located, asks bool, enforce bool, folders ...string) {
		t.Helper()
		want := map[string]bool{}
		if asks {
			want["app"] = located
		}
		if got := w.AskGate(); !maps.Equal(got, want) {
			t.Errorf("%s: asks %v, want %v", when, got, want)
		}
		all := w.Guarded()
		if len(folders) == 0 && len(all) == 0 {
			return
		}
		if len(all) != 1 || all[0].App.App != "app" || all[0].Enforce != enforce {
			t.Fatalf("%s: guarded %+v", when, all)
		}
		var got []string
		for _, f := range all[0].Folders {
			got = append(got, f.Path)
		}
		if !slices.Equal(got, folders) {
			t.Errorf("%s: folders %v, want %v", when, got, folders)
		}
	}
	declare("gate = true", top)
	check("it cannot be measured", false, true, false)
	w.write("app/deep/deeper/file", "one", 0o755)
	if _, err := w.Measure(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	check("it is measured", true, true, false, top, top+"/deep", top+"/deep/deeper")
	if err := os.RemoveAll(top); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Measure(t.Context(), "app"); err == nil {
		t.Fatal("it was measured")
	}
	check("it cannot be measured any more", true, true, false, top, top+"/deep", top+"/deep/deeper")
	declare(`gate = "enforce"`, w.path("more"))
	check("it is declared otherwise", false, true, true)
	w.write("more/file", "one", 0o755)
	if _, err := w.Measure(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	check("it is measured again", true, true, true, w.path("more"))
	declare("gate = false", w.path("more"))
	check("it asks no more", false, false, false)
}
