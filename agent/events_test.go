// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/server"
	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// emit has an application say something.
func (w *whole) emit(d *daemon, app, domain, content string) (api.RecordedEvent, error) {
	return d.events.Emit(context.Background(), server.Owner{App: app, Unit: app + ".service"}, app+".service", api.EventRequest{Domain: domain, Content: []byte(content)})
}

// flood has an application record events until its quota is used up, and returns how many.
func (w *whole) flood(d *daemon, app string) (n int) {
	w.t.Helper()
	for ; n < 1000; n++ {
		if _, err := w.emit(d, app, "flood", strings.Repeat("x", 200)); err != nil {
			if !says(err, api.CodeEventQuota) {
				w.t.Fatal(err)
			}
			return n
		}
	}
	w.t.Fatalf("%s is not held", app)
	return n
}

// withdraw removes the declaration of an application, and has the agent read what is left.
func (w *whole) withdraw(d *daemon, app string) {
	w.t.Helper()
	if err := os.Remove(filepath.Join(w.options.Config.Measurement.ApplicationFolders[0], app+".toml")); err != nil {
		w.t.Fatal(err)
	}
	if _, err := d.service.Reload(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// declare declares a further application of the same file.
func (w *whole) declare(app string) {
	w.t.Helper()
	text := fmt.Sprintf("unit = %q\nuser = \"root\"\nfiles = [%q]\n", app+".service", w.program)
	if err := os.WriteFile(filepath.Join(w.options.Config.Measurement.ApplicationFolders[0], app+".toml"), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// ready starts the agent, and waits until all that an event needs is up.
func (w *whole) ready() (d *daemon, stop func()) {
	w.t.Helper()
	d, stop = w.start()
	w.quoted(d)
	return d, stop
}

// quoted waits until the agent gives evidence. On a machine with much other work the parts for it may
// come up after the agent's first attempt.
func (w *whole) quoted(d *daemon) {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := w.evidence(d)
		if err == nil {
			return
		}
		if !errors.Is(err, startup.ErrNotUp) || time.Now().After(deadline) {
			w.t.Fatalf("evidence: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// events counts the events of applications in the log, and checks that the log does not end.
func (w *whole) events(d *daemon) (n int) {
	w.t.Helper()
	log, err := logReader{d.ledger}.Log(w.t.Context(), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	records, err := pcr.DecodeLog(log.Records, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range records {
		e, err := r.Event()
		if err != nil {
			w.t.Fatal(err)
		}
		if e.Type == pcr.EventFull {
			w.t.Error("the log is full")
		}
		if e.Emitted != nil {
			n++
		}
	}
	return n
}

// says reports whether an error has a code.
func says(err error, code api.Code) bool {
	p, ok := errors.AsType[*api.Problem](err)
	return ok && p.Code == code
}

// An application has as many events as its quota says, counted from the log: another agent in the
// same boot counts on. The refusal is in status and list. Case 128.
func TestEventQuota(t *testing.T) {
	w := newWhole(t, swtpm.Start(t))
	w.options.Config.Events.PerApp = 3
	d, stop := w.ready()
	var last api.RecordedEvent
	for i := range 2 {
		var err error
		if last, err = w.emit(d, "billing", "model", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if v := (&pcr.EmittedEvent{Content: []byte("1")}).Value(); last.App != "billing" || last.Value != v || last.Time == 0 {
		t.Errorf("%+v", last)
	}
	stop()
	d, stop = w.ready()
	defer stop()
	if _, err := w.emit(d, "billing", "mode", "2"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := w.emit(d, "billing", "model", "3"); !says(err, api.CodeEventQuota) || !strings.Contains(err.Error(), "events.per_app") {
			t.Errorf("the fourth event: %v", err)
		}
	}
	if n := w.events(d); n != 3 {
		t.Errorf("the log has %d events", n)
	}
	list, err := d.events.Events(t.Context(), w.owner, 0, "model")
	if err != nil || len(list.Events) != 2 || list.Next != nil || list.Quota.Events != 3 || list.Quota.EventsLimit != 3 || list.Quota.Refused != 2 || list.Events[1].Record != last.Record {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err = d.events.Events(t.Context(), w.owner, last.Record+1, ""); err != nil || len(list.Events) != 1 || list.Events[0].Domain != "mode" {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err = d.events.Events(t.Context(), server.Owner{App: "other"}, 0, ""); err != nil || len(list.Events) != 0 {
		t.Errorf("of another application: %+v, %v", list, err)
	}
	if st := d.status.Status().Events; st.Recorded != 3 || st.Refused != 2 || st.Exhausted != 1 || st.Bytes == 0 {
		t.Errorf("%+v", st)
	}
	w.quoted(d)
}

// Many events that are asked for at once are no more than the quota says. Case 128.
func TestEventsAtOnce(t *testing.T) {
	w := newWhole(t, swtpm.Start(t))
	w.options.Config.Events.PerApp, w.options.Config.Events.PerMinute = 3, 1000
	d, stop := w.ready()
	defer stop()
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			if _, err := w.emit(d, "billing", "model", fmt.Sprint(i)); err != nil && !says(err, api.CodeEventQuota) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := w.events(d); n != 3 {
		t.Errorf("the log has %d events, want 3", n)
	}
}

// The records of an application have no more bytes than its quota says, although the part of the log
// that is its own has room for more. Another application has its own. Case 128.
func TestEventBytes(t *testing.T) {
	w := newWhole(t, swtpm.Start(t))
	w.declare("other")
	const most = 2000
	w.options.Config.Events.BytesPerApp, w.options.Config.Events.PerMinute = most, 1000
	d, stop := w.ready()
	defer stop()
	for i := range 100 {
		_, err := w.emit(d, "billing", "model", strings.Repeat("x", 200))
		if err == nil {
			continue
		}
		if i == 0 || !says(err, api.CodeEventQuota) || !strings.Contains(err.Error(), "events.bytes_per_app") {
			t.Errorf("event %d: %v", i, err)
		}
		break
	}
	list, err := d.events.Events(t.Context(), w.owner, 0, "")
	if err != nil || list.Quota.Bytes > most || list.Quota.Bytes < most/2 || list.Quota.BytesLimit != most || list.Quota.Refused != 1 {
		t.Errorf("%+v, %v", list.Quota, err)
	}
	if _, err := w.emit(d, "other", "model", "1"); err != nil {
		t.Errorf("of another application: %v", err)
	}
}

// A list has at most 100 events, and says where to go on.
func TestEventPages(t *testing.T) {
	w := newWhole(t, swtpm.Start(t))
	w.options.Config.Events.PerMinute = 1000
	d, stop := w.ready()
	defer stop()
	const many = api.MaxListedEvents + 20
	for i := range many {
		if _, err := w.emit(d, "billing", []string{"even", "odd"}[i%2], fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	for domain, want := range map[string]int{"": many, "odd": many / 2} {
		var got []string
		for start, more := uint64(0), true; more; {
			page, err := d.events.Events(t.Context(), w.owner, start, domain)
			if err != nil || len(page.Events) > api.MaxListedEvents {
				t.Fatalf("%d events, %v", len(page.Events), err)
			}
			for _, e := range page.Events {
				got = append(got, string(e.Content))
			}
			if more = page.Next != nil; more {
				start = *page.Next
			}
		}
		if len(got) != want || got[len(got)-1] != fmt.Sprint(many-1) {
			t.Errorf("domain %q: %d events, want %d: %q", domain, len(got), want, got)
		}
	}
}

// An application that asks too often is told when to come back, and another one is not.
func TestEventRate(t *testing.T) {
	w := newWhole(t, swtpm.Start(t))
	w.declare("other")
	w.options.Config.Events.PerMinute = 2
	d, stop := w.ready()
	defer stop()
	refused := 0
	for i := range 10 { // within 30 seconds, in which one more is allowed
		switch _, err := w.emit(d, "billing", "model", fmt.Sprint(i)); {
		case err == nil:
		case !says(err, api.CodeEventRate):
			t.Fatal(err)
		default:
			refused++
			if p, _ := errors.AsType[*api.Problem](err); p.RetryAfter == 0 || p.RetryAfter > 31 {
				t.Errorf("retry after %d", p.RetryAfter)
			}
		}
	}
	if refused == 0 {
		t.Error("no event was refused")
	}
	if _, err := w.emit(d, "other", "model", "1"); err != nil {
		t.Errorf("of another application: %v", err)
	}
}

// One application cannot take the room of another, and all together leave the agent's own: what it
// has to record goes into the log after every quota is used up. Case 128.
func TestEventRoom(t *testing.T) {
	w := newWhole(t, swtpm.Start(t))
	w.declare("other")
	w.declare("third")
	w.options.Config.Limits.LogBytes = 64 << 10 // 16 KiB for events, 8 of them shared
	w.options.Config.Events.BytesPerApp, w.options.Config.Events.PerMinute = 1<<20, 1000
	d, stop := w.ready()
	defer stop()
	first, second, third := w.flood(d, "billing"), w.flood(d, "other"), w.flood(d, "third")
	t.Logf("%d, %d and %d events", first, second, third)
	if first <= second || second < 2 || third < 2 {
		t.Errorf("%d, %d and %d events: want the shared part for the first, and its own for each", first, second, third)
	}
	st := d.status.Status()
	if st.Events.Bytes > st.Events.Limit || st.Events.Limit != 16<<10 || st.Events.Exhausted != 3 || st.Ledger.Full || st.Ledger.Reason != "" {
		t.Errorf("%+v, %+v", st.Events, st.Ledger)
	}
	w.change("another program")
	if _, err := d.service.Measure(t.Context(), "billing"); err != nil {
		t.Errorf("measure: %v", err)
	}
	w.quoted(d)
	if n := w.events(d); n != first+second+third {
		t.Errorf("the log has %d events", n)
	}
}

// What an application recorded that is not declared any more counts as shared: it had that of all, so
// others have their own parts alone. Case 128.
func TestEventRoomOfTheWithdrawn(t *testing.T) {
	w := newWhole(t, swtpm.Start(t))
	w.declare("other")
	w.options.Config.Limits.LogBytes = 64 << 10 // 16 KiB for events, 8 of them shared
	w.options.Config.Events.BytesPerApp, w.options.Config.Events.PerMinute = 1<<20, 1000
	d, stop := w.ready()
	defer stop()
	w.flood(d, "other")
	w.declare("third") // so that there are as many parts as before
	w.withdraw(d, "other")
	w.flood(d, "billing")
	list, err := d.events.Events(t.Context(), w.owner, 0, "")
	if err != nil || list.Quota.Bytes < 2<<10 || list.Quota.Bytes > 4<<10 {
		t.Errorf("%d bytes, want its own part of 4 KiB alone: %v", list.Quota.Bytes, err)
	}
}

// Each application that is declared later in a boot has a part of its own, so that events can have more
// than their quarter of the log. They never have its last quarter. Case 128.
func TestEventRoomOfManyDeclarations(t *testing.T) {
	w := newWhole(t, swtpm.Start(t))
	const limit = 64 << 10 // 16 KiB for events, 8 of them shared
	w.options.Config.Limits.LogBytes = limit
	w.options.Config.Events.BytesPerApp, w.options.Config.Events.PerMinute = 1<<20, 1000
	d, stop := w.ready()
	defer stop()
	apps := 0
	for ; apps < 20; apps++ {
		app := fmt.Sprintf("later-%d", apps)
		w.declare(app)
		if _, err := d.service.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := w.flood(d, app)
		if n == 0 {
			break
		}
		w.withdraw(d, app)
	}
	st := d.status.Status()
	t.Logf("%d applications, %d bytes of events, %d of the log", apps, st.Events.Bytes, st.Ledger.Bytes)
	if apps < 3 || apps == 20 || st.Events.Bytes <= st.Events.Limit {
		t.Errorf("%d applications recorded %d bytes: want their own parts for each, beyond %d", apps, st.Events.Bytes, st.Events.Limit)
	}
	if st.Ledger.Full || st.Ledger.Reason != "" {
		t.Errorf("%+v", st.Ledger)
	}
	if _, err := w.emit(d, "billing", "model", "1"); !says(err, api.CodeEventQuota) {
		t.Errorf("in the last quarter: %v", err)
	}
	w.quoted(d)
}

// Whatever fills the log, its last quarter takes no event, which counts as a quota that is used up. If
// the log is full, each event is refused for that, and counts as nothing. Case 128.
func TestEventsOfFilledLog(t *testing.T) {
	w := newWhole(t, swtpm.Start(t))
	w.options.Config.Limits.LogBytes = 64 << 10
	w.options.Config.Events.PerMinute = 2
	d, stop := w.ready()
	defer stop()
	l, _ := d.ledger.Now()
	fill := func(until func() bool) {
		for !until() {
			_, err := l.Append(t.Context(), pcr.Event{Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: strings.Repeat("x", 200)}})
			if err != nil && !errors.Is(err, ledger.ErrFull) {
				t.Fatal(err)
			}
		}
	}
	fill(func() bool { return l.State().Bytes >= 48<<10 })
	if _, err := w.emit(d, "billing", "model", "1"); !says(err, api.CodeEventQuota) {
		t.Errorf("in the last quarter: %v", err)
	}
	fill(func() bool { return l.State().Full })
	for range 5 {
		if _, err := w.emit(d, "billing", "model", "1"); !errors.Is(err, ledger.ErrFull) {
			t.Errorf("in a full log: %v", err)
		}
	}
	if st := d.status.Status().Events; st.Recorded != 0 || st.Refused != 1 || st.Exhausted != 1 {
		t.Errorf("%+v", st)
	}
}

// An event is of an application that is declared when it is recorded, for that unit and that user:
// a verifier refuses another log. Case 128.
func TestEventOfNoApp(t *testing.T) {
	w := newWhole(t, swtpm.Start(t))
	w.declare("other")
	d, stop := w.ready()
	defer stop()
	for name, o := range map[string]server.Owner{
		"another name": {App: "else", Unit: "billing.service"},
		"another user": {App: "billing", Unit: "billing.service", UID: 7},
	} {
		_, err := d.events.Emit(t.Context(), o, o.Unit, api.EventRequest{Domain: "model", Digest: new(evidence.Digest)})
		if p := server.Explain(err, errorCodes); p == nil || p.Code != api.CodeNoApp {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.emit(d, "other", "model", "1"); err != nil {
		t.Fatal(err)
	}
	w.withdraw(d, "other")
	if _, err := w.emit(d, "other", "model", "2"); err == nil {
		t.Error("an event of an application that was withdrawn")
	}
	if n := w.events(d); n != 1 {
		t.Errorf("the log has %d events", n)
	}
}

// An event from a container is of the app that the container was recorded as, for the engine of its
// declaration alone; an app of files has none from a container. Case 128.
func TestEventFromContainer(t *testing.T) {
	w := newWhole(t, swtpm.Start(t))
	d, stop := w.start()
	defer stop()
	if err := os.WriteFile(filepath.Join(w.options.Config.Measurement.ApplicationFolders[0], "web.toml"), []byte("image = \"registry.example/web\"\nengine = \"podman\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.service.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := d.ledger.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), evidencetest.Container("4f1c", "web", "web")); err != nil {
		t.Fatal(err)
	}
	say := func(app, engine string) error {
		o := server.Owner{App: app, UID: 1000, Container: &evidence.Container{Engine: engine, ID: "4f1c"}}
		_, err := d.events.Emit(t.Context(), o, "around.service", api.EventRequest{Domain: "model", Content: []byte("1")})
		return err
	}
	for name, c := range map[string]struct {
		app, engine string
		want        error
	}{
		"the app":         {"web", "podman", nil},
		"another engine":  {"web", "docker", apps.ErrNotOwner},
		"an app of files": {"billing", "podman", apps.ErrNotOwner},
		"no app":          {"other", "podman", apps.ErrNotOwner},
	} {
		if err := say(c.app, c.engine); !errors.Is(err, c.want) || err != nil && c.want == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	list, err := d.events.Events(t.Context(), server.Owner{App: "web"}, 0, "")
	if err != nil || len(list.Events) != 1 || list.Events[0].Unit != "" || list.Events[0].Container == nil || list.Events[0].Container.ID != "4f1c" {
		t.Errorf("%+v, %v", list, err)
	}
	if err := w.evidence(d); err != nil {
		t.Errorf("evidence: %v", err)
	}
}
