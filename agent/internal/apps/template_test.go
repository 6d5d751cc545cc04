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
