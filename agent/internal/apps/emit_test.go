// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestEventOwner: an event is recorded of an app that the log lists, from its own unit and its first
// user. A further user of the unit, and the unit of another app, are refused (case 128).
func TestEventOwner(t *testing.T) {
	w := newWorld(t)
	file := w.write("bin", "one", 0o755)
	for app, more := range map[string]string{"app": `users = ["33"]`, "other": ""} {
		w.declareText(w.apps, app, fmt.Sprintf("unit = \"%s.service\"\nuser = \"1000\"\nfiles = [%q]\n%s\n", app, file, more))
	}
	emit := func(app, unit string, uid uint32) error {
		_, err := w.Emit(t.Context(), &pcr.EmittedEvent{App: app, Unit: unit, UID: uid, Domain: "model", Content: []byte("1")})
		return err
	}
	w.reload() // which records no declarations
	if err := emit("app", "app.service", 1000); !errors.Is(err, startup.ErrNotUp) {
		t.Errorf("no declaration is in the log: %v", err)
	}
	if _, err := w.Reload(t.Context(), func(context.Context, []pcr.Declaration) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		app, unit string
		uid       uint32
	}{
		"another app":            {"other", "app.service", 1000},
		"a further user":         {"app", "app.service", 33},
		"a user of no app":       {"app", "app.service", 34},
		"a unit of no app":       {"app", "third.service", 1000},
		"an app of no unit":      {"", "third.service", 0},
		"an app that is unknown": {"third", "app.service", 1000},
	} {
		if err := emit(c.app, c.unit, c.uid); !errors.Is(err, ErrNotOwner) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := w.log.count(pcr.EventEmitted); n != 0 {
		t.Errorf("%d events were recorded", n)
	}
	for _, app := range []string{"app", "other"} {
		if err := emit(app, app+".service", 1000); err != nil {
			t.Errorf("%s: %v", app, err)
		}
	}
	w.announced = &[]pcr.Declaration{{App: "other"}} // whatever is in force: a verifier sees the log alone
	if err := emit("app", "app.service", 1000); !errors.Is(err, ErrNotOwner) {
		t.Errorf("the log does not list the app: %v", err)
	}
	if n := w.log.count(pcr.EventEmitted); n != 2 {
		t.Errorf("%d events were recorded, want 2", n)
	}
}
