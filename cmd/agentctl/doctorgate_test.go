// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/unitfile"
)

// TestDoctorLooksAtTheGate: the doctor says that the gate is missing, that it does not guard all, and
// which enabled unit may start before it.
func TestDoctorLooksAtTheGate(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, appsFolder), 0o755); err != nil {
		t.Fatal(err)
	}
	declare := func(app, gate string, enabled, ordered bool) {
		text := "unit = \"" + app + ".service\"\nuser = \"root\"\nfiles = [\"/usr/bin/" + app + "\"]\n" + gate
		if err := os.WriteFile(filepath.Join(root, appsFolder, app+".toml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if !enabled {
			return
		}
		if err := unitfile.Write(root, app+".service", unitfile.DropIn(app, 0, ordered)); err != nil {
			t.Fatal(err)
		}
	}
	declare("ordered", "gate = true\n", true, true)
	declare("late", "gate = \"enforce\"\n", true, false)
	declare("free", "", true, false)
	declare("other", "gate = true\n", false, false)
	for _, c := range []struct {
		status *api.GateStatus
		level  level
		late   bool
	}{
		{nil, "", false},
		{&api.GateStatus{Asked: 3}, levelWarning, true},
		{&api.GateStatus{Asked: 3, Present: true, Guarded: 2}, levelWarning, true},
		{&api.GateStatus{Asked: 3, Present: true, Guarded: 3}, levelFine, true},
	} {
		d := &doctor{}
		d.lookAtGate(root, c.status)
		if x := d.find("gate"); (x != nil) != (c.level != "") || x != nil && x.Level != c.level {
			t.Errorf("%+v: %+v", c.status, d.symptoms)
		}
		x := d.find("gate: unit late.service")
		if (x != nil) != c.late || x != nil && (x.Level != levelWarning || x.Todo != "`agentctl app enable late.service`") {
			t.Errorf("%+v: %+v", c.status, d.symptoms)
		}
		if c.late && len(d.symptoms) != 2 {
			t.Errorf("%+v: %+v", c.status, d.symptoms)
		}
	}
}
