// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// emits adds events of applications to the log: name, domain and content of each.
func emits(all ...[3]string) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) {
		r.Events = append(r.Events, evidencetest.App("other", "other.service", "other", "other 1"))
		for _, x := range all {
			r.Events = append(r.Events, evidencetest.Emitted(x[0], x[0]+".service", x[1], x[2]))
		}
	}
}

// eventRule is an [[event]] of the application billing in the domain model.
func eventRule(demand, extra string) string {
	return fmt.Sprintf("[[event]]\napp = \"billing\"\ndomain = \"model\"\ndemand = %q\n%s\n", demand, extra)
}

// digestOf spells the value of a content.
func digestOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func eventMutations() []mutation {
	const loaded, one, refuse = "present", `contents = ["1"]`, `others = "refuse"`
	digest := `digests = ["` + digestOf("1") + `"]`
	out := []mutation{
		{id: PolicyEventPresent, name: "no event", tables: eventRule(loaded, "")},
		{id: PolicyEventPresent, name: "another content", tables: eventRule(loaded, one), recipe: emits([3]string{"billing", "model", "2"})},
		{id: PolicyEventPresent, name: "another digest", tables: eventRule(loaded, digest), recipe: emits([3]string{"billing", "model", "2"})},
		{id: PolicyEventPresent, name: "another domain", tables: eventRule(loaded, one), recipe: emits([3]string{"billing", "models", "1"})},
		{id: PolicyEventPresent, name: "case 128 of another application", tables: eventRule(loaded, one), recipe: emits([3]string{"other", "model", "1"})},
		{id: PolicyEventAbsent, name: "it said so", tables: eventRule("absent", one), recipe: emits([3]string{"billing", "model", "1"})},
		{id: PolicyEventAbsent, name: "it said so first", tables: eventRule("absent", one), recipe: emits([3]string{"billing", "model", "1"}, [3]string{"billing", "model", "2"})},
		{id: PolicyEventAbsent, name: "it said so by digest", tables: eventRule("absent", digest), recipe: digests("1")},
		{id: PolicyEventAbsent, name: "whatever it is", tables: eventRule("absent", ""), recipe: emits([3]string{"billing", "model", "3"})},
		{id: PolicyEventAbsent, name: "of any application", tables: "[[event]]\ndomain = \"model\"\ndemand = \"absent\"\n", recipe: emits([3]string{"other", "model", "3"})},
		{id: PolicyEventAbsent, name: "before the log that is shown", tables: eventRule("absent", one), recipe: fromTwo, opts: continued(func(s *LogState) {
			sum := sha256.Sum256([]byte("1"))
			s.Emitted = []EmittedClaim{{App: "billing", Unit: "billing.service", UID: 990, Domain: "model", Value: sum, First: 1, Last: 1, Count: 1}}
		})},
		{id: PolicyEventLast, name: "none", tables: eventRule("last", one)},
		{id: PolicyEventLast, name: "another since", tables: eventRule("last", one), recipe: emits([3]string{"billing", "model", "1"}, [3]string{"billing", "model", "2"})},
		{id: PolicyEventLast, name: "back to the first one", tables: eventRule("last", one), recipe: emits([3]string{"billing", "model", "2"}, [3]string{"billing", "model", "1"}, [3]string{"billing", "model", "2"})},
		{id: PolicyEventLast, name: "case 128 of another application", tables: eventRule("last", one), recipe: emits([3]string{"billing", "model", "2"}, [3]string{"other", "model", "1"})},
		{id: PolicyEventApp, name: "case 128 another application imitates it", tables: eventRule(loaded, refuse), recipe: emits([3]string{"billing", "model", "1"}, [3]string{"other", "model", "1"})},
		{id: PolicyEventApp, name: "case 128 another unit imitates it", tables: app("billing", "unit = \"billing.service\"", "billing 1") + eventRule(loaded, refuse), recipe: func(t *testing.T, r *evidencetest.Recipe) {
			r.Events = append(r.Events, evidencetest.Emitted("billing", "evil.service", "model", "1"))
		}},
		{id: LogEvents, name: "case 128 an event of an application that is not declared", recipe: func(t *testing.T, r *evidencetest.Recipe) {
			r.Events = append(r.Events, evidencetest.Emitted("other", "other.service", "model", "1"))
		}},
		{id: LogEvents, name: "case 128 an event of an application that was withdrawn", tables: "", root: "tolerate_gaps = true", recipe: func(t *testing.T, r *evidencetest.Recipe) {
			emits([3]string{"other", "model", "1"})(t, r)
			withdrawn := evidencetest.Agent(pcr.EventReload, "1.0.0", r.AgentKey)
			withdrawn.Agent.Declarations = pcr.Declarations{{App: "billing", Digest: evidencetest.App("billing", "", "", "").App.Declaration}}
			r.Events = append(r.Events, withdrawn, evidencetest.Emitted("other", "other.service", "model", "1"))
		}},
	}
	out = append(out, containerEventMutations()...)
	for name, content := range map[string]string{
		"case 128 an event in a domain of the agent": `"domain":"agentd/app","content":"MQ=="`,
		"an event with content and digest":           `"domain":"model","content":"MQ==","digest":"` + "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" + `"`,
		"an event with neither content nor digest":   `"domain":"model"`,
		"an event without a domain":                  `"content":"MQ=="`,
		"an event with an empty content":             `"domain":"model","content":""`,
	} {
		out = append(out, mutation{id: LogEvents, name: name, recipe: appendedLong(`{"type":"app-event","time":9000,"emitted":{"app":"billing","unit":"billing.service","uid":990,` + content + `}}`)})
	}
	for name, origin := range map[string]string{
		"an event from a unit and a container":        `"unit":"billing.service","container":{"engine":"podman","id":"c0ffee"},`,
		"an event from neither unit nor container":    ``,
		"an event from a container without an id":     `"container":{"engine":"podman","id":""},`,
		"an event from a container of no such engine": `"container":{"engine":"lxc","id":"c0ffee"},`,
	} {
		out = append(out, mutation{id: LogEvents, name: name, recipe: appendedLong(`{"type":"app-event","time":9000,"emitted":{"app":"billing",` + origin + `"uid":990,"domain":"model","content":"MQ=="}}`)})
	}
	return out
}

// said adds the event of a process in a container, which is in the log as an application or as none,
// and then changes it.
func said(as string, change func(*pcr.EmittedEvent)) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) {
		e := evidencetest.Emitted("ledger", "", "model", "1")
		e.Emitted.Container = &pcr.EmittedContainer{Engine: "podman", ID: "c0ffee"}
		change(e.Emitted)
		r.Events = append(r.Events, evidencetest.Container("c0ffee", as, "ledger"), evidencetest.Container("decaf", "ledger", "ledger"), e)
		declare(r)
	}
}

// fromLedger is an [[event]] of the application ledger that no other one may have.
const fromLedger = "[[event]]\napp = \"ledger\"\ndomain = \"model\"\ndemand = \"present\"\nothers = \"refuse\"\n"

func containerEventMutations() []mutation {
	asUnit := func(e *pcr.EmittedEvent) { e.Unit, e.Container = "ledger.service", nil }
	return []mutation{
		{id: LogEvents, name: "case 128 an event from a container of no application", recipe: said("", func(*pcr.EmittedEvent) {})},
		{id: LogEvents, name: "case 128 an event from a container of another application", recipe: said("billing", func(*pcr.EmittedEvent) {})},
		{id: LogEvents, name: "case 128 an event from a container that is not in the log", recipe: said("ledger", func(e *pcr.EmittedEvent) { e.Container.ID = "beef" })},
		{id: LogEvents, name: "case 128 an event from a container of another engine", recipe: said("ledger", func(e *pcr.EmittedEvent) { e.Container.Engine = "docker" })},
		{id: PolicyEventApp, name: "case 128 a unit imitates the container", tables: ledger() + fromLedger, recipe: said("ledger", asUnit)},
		{id: PolicyEventApp, name: "case 128 a container imitates the unit", tables: app("ledger", "required = false", "1") + fromLedger, recipe: said("ledger", func(*pcr.EmittedEvent) {})},
	}
}

// digests adds an event of the application billing with the digest of a content.
func digests(content string) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) {
		e := evidencetest.Emitted("billing", "billing.service", "model", content)
		e.Emitted.Digest, e.Emitted.Content = new(e.Emitted.Value()), nil
		r.Events = append(r.Events, e)
	}
}

// appendedLong adds a record with any content of up to 64 KiB to the log.
func appendedLong(content string) func(*testing.T, *evidencetest.Recipe) {
	return func(t *testing.T, r *evidencetest.Recipe) {
		appended(content)(t, r)
		change := r.Records
		r.Records = func(records []pcr.Record) {
			change(records)
			x := &records[len(records)-1]
			x.Content[3], x.Content[4] = byte(len(content)>>8), byte(len(content))
			for j, d := range x.Digests {
				x.Digests[j].Value = d.Algorithm.Sum(x.Content)
			}
		}
	}
}

// TestEventRules: what meets the rules about events is accepted, and the claims list each value once.
func TestEventRules(t *testing.T) {
	const refuse = `others = "refuse"`
	billing := func(contents ...string) (all [][3]string) {
		for _, c := range contents {
			all = append(all, [3]string{"billing", "model", c})
		}
		return all
	}
	for name, c := range map[string]struct {
		rule   string
		recipe func(*testing.T, *evidencetest.Recipe)
	}{
		"present":               {eventRule("present", `contents = ["0", "1"]`+"\n"+refuse), emits(billing("1")...)},
		"present, by digest":    {eventRule("present", `contents = ["1"]`), digests("1")},
		"present, as a digest":  {eventRule("present", `digests = ["`+digestOf("1")+`"]`), emits(billing("1")...)},
		"present, and another":  {eventRule("present", `contents = ["1"]`), emits(billing("1", "2")...)},
		"absent":                {eventRule("absent", `contents = ["1"]`), emits(billing("2")...)},
		"absent of this app":    {eventRule("absent", `contents = ["1"]`), emits([3]string{"other", "model", "1"})},
		"absent in this domain": {eventRule("absent", ""), emits([3]string{"billing", "models", "1"})},
		"last":                  {eventRule("last", `contents = ["1"]`), emits(billing("1", "2", "1")...)},
		"last of this app":      {eventRule("last", `contents = ["1"]`), emits(append(billing("1"), [3]string{"other", "model", "2"})...)},
		"from a container":      {ledger() + fromLedger, said("ledger", func(*pcr.EmittedEvent) {})},
		"an instance": {app("billing", `unit = "billing@.service"`, "billing 1") + eventRule("present", refuse), func(_ *testing.T, r *evidencetest.Recipe) {
			r.Statement.Caller.Unit = "billing@1.service"
			r.Events[1].App.Unit = "billing@.service"
			r.Events = append(r.Events, evidencetest.Emitted("billing", "billing@7.service", "model", "1"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			a := (&mutation{tables: c.rule, recipe: c.recipe}).run(t, nil)
			if a.Verdict != Pass {
				t.Fatalf("refused:\n%s", explain(a))
			}
		})
	}
	a := (&mutation{recipe: emits(billing("1", "2", "1")...)}).run(t, nil)
	claims, err := a.Claims()
	if err != nil {
		t.Fatal(err)
	}
	if len(claims.Log.Emitted) != 2 {
		t.Fatalf("%+v", claims.Log.Emitted)
	}
	if x := claims.Log.Emitted[0]; x.First != 4 || x.Last != 6 || x.Count != 2 || string(x.Content) != "1" || x.Value.String() != digestOf("1") || x.App != "billing" || x.Time != 1060 {
		t.Errorf("%+v", x)
	}
}

// TestEventsAreBounded: of many events the last contents stay, and every value.
func TestEventsAreBounded(t *testing.T) {
	const many = 300
	var all [][3]string
	for i := range many {
		all = append(all, [3]string{"billing", "model", fmt.Sprint(i)})
	}
	a := (&mutation{tables: eventRule("present", `contents = ["0"]`), recipe: emits(all...)}).run(t, nil)
	claims, err := a.Claims()
	if err != nil {
		t.Fatalf("%v\n%s", err, explain(a))
	}
	contents := 0
	for i, x := range claims.Log.Emitted {
		if x.Content != nil {
			contents++
		} else if i >= many-256 {
			t.Errorf("event %d has no content", i)
		}
	}
	if len(claims.Log.Emitted) != many || contents != 256 {
		t.Errorf("%d events and %d contents, want %d and 256", len(claims.Log.Emitted), contents, many)
	}
}
