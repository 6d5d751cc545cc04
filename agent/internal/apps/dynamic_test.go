// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/cvm-agentd/agentd/internal/caller"
)

// TestDynamicUser: a process of the unit is the app if systemd has its uid for the declared name
// now. After a restart of the unit that is another uid, and the one of before is of no app, or that
// of another unit. Case 109.
func TestDynamicUser(t *testing.T) {
	held := map[uint32]string{}
	w := newWorld(t, func(c *Config) {
		c.DynamicUser = func(uid uint32) (string, error) {
			if name, ok := held[uid]; ok {
				return name, nil
			}
			return "", errors.New("not held")
		}
	})
	file := w.write("bin", "one", 0o755)
	declare := func(app, unit, user, more string) {
		w.declareText(w.apps, app, fmt.Sprintf("unit = %q\nuser = %q\nfiles = [%q]\n%s", unit, user, file, more))
	}
	const dynamic = "dynamic_user = true\n"
	declare("one", "one.service", "one", dynamic)
	declare("pool", "pool@.service", "pool", dynamic)
	declare("other", "other.service", "one", dynamic) // shares the name, and so the uid
	declare("static", "one.service", "1000", "")
	w.reload()
	if e := w.log.last(t); e.App == "" {
		t.Fatal("nothing was recorded")
	}
	for _, e := range w.log.all() {
		if e.App == nil {
			continue
		}
		if want := e.App.App != "static"; e.App.Dynamic != want || (e.App.UID == nil) != want {
			t.Errorf("recorded %+v", e.App)
		}
	}
	type who struct {
		unit string
		uid  uint32
	}
	all := []who{
		{"one.service", 61200}, {"one.service", 61300}, {"one.service", 0}, {"one.service", 1000}, {"one.service", 1<<32 - 1}, {"one.service", 70000},
		{"two.service", 61200}, {"other.service", 61200}, {"pool@7-123-0.service", 61200}, {"pool@7-123-0.service", 61300}, {"user@1000.service", 61200},
		{"", 61200},
	}
	for _, step := range []struct {
		held map[uint32]string
		want map[who]string // the app of those that have one
	}{
		{nil, map[who]string{{"one.service", 1000}: "static"}},
		{map[uint32]string{61200: "one"}, map[who]string{{"one.service", 61200}: "one", {"other.service", 61200}: "other", {"one.service", 1000}: "static"}},
		{map[uint32]string{61300: "one", 61200: "two"}, map[who]string{{"one.service", 61300}: "one", {"one.service", 1000}: "static"}},
		{map[uint32]string{61300: "one", 61200: "pool"}, map[who]string{{"one.service", 61300}: "one", {"pool@7-123-0.service", 61200}: "pool", {"one.service", 1000}: "static"}},
		{map[uint32]string{1000: "one", 0: "one", 70000: "one"}, map[who]string{{"one.service", 1000}: "static"}},
	} {
		held = maps.Clone(step.held)
		for _, c := range all {
			got, ok := w.ByUnit(c.unit, c.uid)
			want := step.want[c]
			if got.Name != want || ok != (want != "") {
				t.Errorf("held %v: %+v is %+v, %v; want %q", held, c, got, ok, want)
			}
			if ok && (got.UID != c.uid || got.Dynamic != (want != "static")) {
				t.Errorf("held %v: %+v is %+v", held, c, got)
			}
		}
	}
	// systemd asks before it has a uid for the unit.
	if got := w.OfUnit("pool@1.service"); len(got) != 1 || got[0] != (caller.App{Name: "pool", Unit: "pool@.service", User: "pool", UID: 1<<32 - 1, Dynamic: true}) {
		t.Errorf("of the unit: %+v", got)
	}
	n := len(w.log.all())
	w.reload()
	if got := len(w.log.all()); got != n {
		t.Errorf("%d records after a reload without news, %d before", got, n)
	}
}
