// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"fmt"
	"testing"

	"github.com/cvm-agentd/agentd/pcr"
)

// TestFurtherUsers: processes of the users that a declaration lists are the app, and the record
// says which. A declaration without them has the record that it had.
func TestFurtherUsers(t *testing.T) {
	w := newWorld(t)
	file := w.write("bin", "one", 0o755)
	declare := func(app, users string) {
		w.declareText(w.apps, app, fmt.Sprintf("unit = \"app.service\"\nuser = \"1000\"\nfiles = [%q]\n%s\n", file, users))
	}
	declare("app", "")
	w.reload()
	if e := w.log.last(t); e.Users != nil {
		t.Errorf("record %+v", e)
	}
	declare("app", `users = ["33", "8"]`)
	w.reload()
	if e := w.log.last(t); len(e.Users) != 2 || e.Users[0] != (pcr.AppUser{User: "8", UID: 8}) || e.Users[1].UID != 33 {
		t.Errorf("record %+v", e)
	}
	for uid, want := range map[uint32]bool{1000: true, 33: true, 8: true, 0: false, 34: false} {
		app, ok := w.ByUnit("app.service", uid)
		if ok != want || ok && (app.Name != "app" || app.UID != 1000) {
			t.Errorf("uid %d: %+v, %v", uid, app, ok)
		}
	}
	n := len(w.log.all())
	w.reload()
	if got := len(w.log.all()); got != n {
		t.Errorf("%d records after a reload without news, %d before", got, n)
	}
	w.declareText(w.apps, "b", fmt.Sprintf("unit = \"app.service\"\nuser = \"33\"\nfiles = [%q]\n", file))
	w.reload()
	if s := w.app("b"); s.WhyNot == "" || s.Unit != "" {
		t.Errorf("an app of a user that another one has: %+v", s)
	}
}
