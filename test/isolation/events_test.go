// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// say has an application record events: %N in what it says makes each another one.
func say(p party, requests int) party {
	p.Method, p.Path, p.Body = "POST", "/v1/events", `{"domain":"flood","content":"%N"}`
	p.Requests = requests
	return p
}

// said are the events in the log, in their order, by application.
func said(t *testing.T, log *evidence.Log) (all []*pcr.EmittedEvent) {
	t.Helper()
	records, err := pcr.DecodeLog(log.Records, 0)
	must(t, err)
	for _, r := range records {
		e, err := r.Event()
		must(t, err)
		if e.Emitted != nil {
			all = append(all, e.Emitted)
		}
	}
	return all
}

// A thousand events of two applications at once: all are in the log, each with the application that
// said it, and the order of the log is that of the PCR, since evidence over it verifies. Cases 27
// and 128.
func TestThousandEventsOfTwoApps(t *testing.T) {
	m := prepare(t, setup{config: "[events]\nper_minute = 10000\n"})
	m.start()
	const each, connections = 500, 4
	parties := []party{say(m.asVictim(party{}), each/connections), say(m.asOther(party{}), each/connections)}
	for i := range parties {
		parties[i].Connections, parties[i].For, parties[i].Pause = connections, 0, 0
	}
	for _, x := range startAll(t, parties...) {
		if a := x.end(false); len(a.Refused) > 0 || len(a.Times) != each {
			t.Fatalf("%d events, refused %v", len(a.Times), a.Refused)
		}
	}
	m.accepted()
	log, err := m.Client().Log(t.Context(), 0)
	must(t, err)
	counts, contents := make(map[string]int), make(map[string]bool)
	changes, last := 0, ""
	for _, e := range said(t, log) {
		if want := map[string]uint32{"victim": number(t, m.victim.Uid), "other": number(t, m.other.Uid)}[e.App]; e.UID != want || e.Unit != e.App+".service" {
			t.Fatalf("%+v, want uid %d", e, want)
		}
		contents[string(e.Content)] = true
		if counts[e.App]++; e.App != last {
			changes++
		}
		last = e.App
	}
	if counts["victim"] != each || counts["other"] != each || len(contents) != 2*each {
		t.Errorf("the log has %v events, %d contents", counts, len(contents))
	}
	t.Logf("the speaker changed %d times", changes)
	if changes < 20 {
		t.Errorf("the speaker changed %d times: the two were not at once", changes)
	}
}

// accepted has evidence made and verified: the log leads to the quoted PCR.
func (m *machine) accepted() {
	m.t.Helper()
	document, nonce := filepath.Join(m.files, "evidence.json"), strings.Repeat("4e", 32)
	for _, args := range [][]string{
		{"attest", "--socket", m.Socket(), "--nonce", nonce, "--out", document},
		{"verify", "--policy", m.Policy(), "--nonce", nonce, "--trust-test-root-that-vouches-for-no-hardware", m.Root(), document},
	} {
		if out, err := exec.Command(filepath.Join(shared.commands, "agentctl"), args...).CombinedOutput(); err != nil {
			m.t.Fatalf("agentctl %q: %v\n%s", args, err, out)
		}
	}
}

// An application that records without end is held by its quota, and another one is measured, gets
// evidence and records meanwhile. Cases 106 and 128.
func TestEventFlood(t *testing.T) {
	m := prepare(t, setup{config: "[events]\nper_app = 300\nper_minute = 10000\n"})
	m.start()
	flood := say(m.asOther(party{}), 0)
	flood.Connections = 16
	m.compare(m.anchored(), 5, flood)
	m.compare(m.measure(), 5, flood)
	rest := say(m.asOther(party{}), 300) // so that the quota is used up, however slow the flood was
	rest.Connections, rest.For, rest.Pause = 1, 0, 0
	start(t, rest).end(false)
	log, err := m.Client().Log(t.Context(), 0)
	must(t, err)
	if n := len(said(t, log)); n != 300 {
		t.Errorf("the flood recorded %d events, want 300", n)
	}
	x := start(t, flood)
	for range 3 {
		p := say(m.asVictim(party{}), 1)
		p.For, p.Pause, p.Connections = 0, 0, 1
		if a := start(t, p).end(false); len(a.Times) != 1 {
			t.Errorf("an event of the victim: %v", a.Refused)
		}
	}
	if a := x.end(true); a.Refused["507 "+string(api.CodeEventQuota)] == 0 {
		t.Errorf("the flood was refused with %v", a.Refused)
	}
	st, err := m.Client().Status(t.Context())
	must(t, err)
	if !st.Evidence.Ready || st.Ledger.Full || st.Events.Recorded != 303 || st.Events.Refused == 0 || st.Events.Exhausted != 1 {
		t.Errorf("%+v, %+v", st.Ledger, st.Events)
	}
}

// Root, a caller without an app, one from another unit and one from the scope of a container record
// nothing, also if they say that they are that unit. Cases 86, 87 and 128.
func TestEventsOfStrangers(t *testing.T) {
	m := switchOn(t)
	for name, c := range map[string]struct {
		uid  uint32
		unit string // of the test itself if it is empty
	}{
		"root in the unit":      {0, "victim.service"},
		"another app's user":    {number(t, m.other.Uid), "victim.service"},
		"another unit":          {number(t, m.victim.Uid), "other.service"},
		"a unit without an app": {number(t, m.victim.Uid), "more.service"},
		"a container":           {number(t, m.victim.Uid), "docker-4d4d4d4d.scope"},
		"a user's manager":      {number(t, m.victim.Uid), "user@2.service"},
		"no unit":               {number(t, m.victim.Uid), ""},
	} {
		p := say(party{UID: c.uid, Group: m.group, Unit: c.unit, Socket: m.Socket(), Connections: 1}, 3)
		if a := start(t, p).end(false); len(a.Times) != 0 || a.Refused["403 "+string(api.CodeNoSystemUnit)]+a.Refused["403 "+string(api.CodeNoApp)] != 3 {
			t.Errorf("%s: %d recorded, refused %v", name, len(a.Times), a.Refused)
		}
	}
	log, err := m.Client().Log(t.Context(), 0)
	must(t, err)
	if n := len(said(t, log)); n != 0 {
		t.Errorf("the log has %d events", n)
	}
}
