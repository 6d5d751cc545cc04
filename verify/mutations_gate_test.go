// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// gateStart is a record of the gate, which guards apps. One that ends in "!" is enforced.
func gateStart(ms uint64, carried bool, apps ...string) pcr.Event {
	e := &pcr.GateStartEvent{Gate: evidence.Digest{9}, Carried: carried}
	for _, a := range apps {
		name, enforce := strings.CutSuffix(a, "!")
		e.Apps = append(e.Apps, pcr.GatedApp{App: name, Enforce: enforce})
	}
	return at(ms, pcr.Event{Type: pcr.EventGateStart, GateStart: e})
}

func gateGap(ms uint64, app string) pcr.Event {
	return at(ms, pcr.Event{Type: pcr.EventGateGap, GateGap: &pcr.GateGapEvent{App: app, Reason: "the gate ended"}})
}

// executed is a program that no manifest lists yet: "billing N" is what evidencetest.App hashes.
func executed(ms uint64, digest evidence.Digest, refused bool) pcr.Event {
	return at(ms, pcr.Event{Type: pcr.EventExec, Exec: &pcr.ExecEvent{App: "billing", Path: "/usr/bin/billing", Digest: digest, Refused: refused}})
}

// A gating is what can become of the gate of an application, with what a policy makes of it.
type gating struct {
	name   string
	events []pcr.Event // after the first measurement at 1020; the caller starts at 5000
	now    bool        // guarded at the end
	whole  bool        // since it first was
	strict bool        // enforced
	exec   bool        // a program started that no manifest lists
}

var (
	evil      = evidence.Digest{6}
	upgraded  = evidencetest.App("billing", "billing.service", "billing", "billing 2")
	upgrade   = upgraded.App.Manifest[0].Digest
	otherGate = func() pcr.Event {
		e := gateStart(1400, true, "billing")
		e.GateStart.Gate[0]++
		return e
	}
)

var gatings = []gating{
	{name: "none"},
	{name: "guarded", events: []pcr.Event{gateStart(1050, false, "billing")}, now: true, whole: true},
	{name: "enforced", events: []pcr.Event{gateStart(1050, false, "another", "billing!")}, now: true, whole: true, strict: true},
	{name: "of another application", events: []pcr.Event{gateStart(1050, false, "another")}},
	{name: "ended", events: []pcr.Event{gateStart(1050, false, "billing"), gateGap(1100, "")}},
	{name: "ended, and again", events: []pcr.Event{gateStart(1050, false, "billing"), gateGap(1100, ""), gateStart(1400, false, "billing")}, now: true},
	{name: "ended, and it says that it went on", events: []pcr.Event{gateStart(1050, false, "billing"), gateGap(1100, ""), gateStart(1400, true, "billing")}, now: true},
	{name: "a gap of the application", events: []pcr.Event{gateStart(1050, false, "billing"), gateGap(1100, "billing"), gateStart(1400, false, "billing")}, now: true},
	{name: "a gap of another application", events: []pcr.Event{gateStart(1050, false, "another", "billing"), gateGap(1100, "another"), gateStart(1400, false, "another", "billing")}, now: true, whole: true},
	{name: "dropped", events: []pcr.Event{gateStart(1050, false, "billing"), gateStart(1100, false)}},
	{name: "dropped, and again", events: []pcr.Event{gateStart(1050, false, "billing"), gateStart(1100, false), gateStart(1400, false, "billing")}, now: true},
	{name: "more applications", events: []pcr.Event{gateStart(1050, false, "billing"), gateStart(1100, false, "another", "billing")}, now: true, whole: true},
	{name: "enforced later", events: []pcr.Event{gateStart(1050, false, "billing"), gateStart(1100, false, "billing!")}, now: true, strict: true},
	{name: "the agent crashed", events: []pcr.Event{gateStart(1050, false, "billing"), agentB(), carried}},
	{name: "the agent crashed, and the gate began again", events: []pcr.Event{gateStart(1050, false, "billing"), agentB(), carried, gateStart(1400, false, "billing")}, now: true},
	{name: "the agent crashed, and the gate went on", events: []pcr.Event{gateStart(1050, false, "billing"), agentB(), carried, gateStart(1400, true, "billing")}, now: true, whole: true},
	{name: "the agent stopped, and the gate went on", events: []pcr.Event{gateStart(1050, false, "billing"), stopA, agentB(), carried, gateStart(1400, true, "billing")}, now: true, whole: true},
	{name: "the agent crashed twice, and the gate went on", events: []pcr.Event{gateStart(1050, false, "billing"), at(1200, agentA()), at(1200, carried), agentB(), carried, gateStart(1400, true, "billing")}, now: true, whole: true},
	{name: "the agent crashed, and another gate went on", events: []pcr.Event{gateStart(1050, false, "billing"), agentB(), carried, otherGate()}, now: true},
	{name: "the agent crashed, a gap, and the gate went on", events: []pcr.Event{gateStart(1050, false, "billing"), agentB(), carried, gateGap(1400, ""), gateStart(1400, true, "billing")}, now: true},
	{name: "the agent crashed, the gate went on without it, then with it", events: []pcr.Event{gateStart(1050, false, "another", "billing"), agentB(), carried, gateStart(1400, true, "another"), gateStart(1500, true, "billing")}, now: true},
	{name: "dropped long ago, and the agent crashed", events: []pcr.Event{gateStart(1050, false, "billing"), at(1200, agentA()), at(1200, carried), gateStart(1210, false, "another"), agentB(), carried, gateStart(1400, true, "another", "billing")}, now: true},
	{name: "a program that no manifest lists", events: []pcr.Event{gateStart(1050, false, "billing"), executed(1100, evil, false)}, now: true, whole: true, exec: true},
	{name: "a program that was refused", events: []pcr.Event{gateStart(1050, false, "billing!"), executed(1100, evil, true)}, now: true, whole: true, strict: true},
	{name: "a program that the manifest lists", events: []pcr.Event{gateStart(1050, false, "billing"), executed(1100, billingApp.App.Manifest[0].Digest, false)}, now: true, whole: true},
	{name: "a program that was measured later", events: []pcr.Event{gateStart(1050, false, "billing"), executed(1100, upgrade, false), at(1400, upgraded), at(1450, billingApp)}, now: true, whole: true},
	{name: "a program that was measured earlier", events: []pcr.Event{gateStart(1050, false, "billing"), at(1100, upgraded), at(1110, billingApp), executed(1400, upgrade, false)}, now: true, whole: true, exec: true},
	{name: "many programs", events: []pcr.Event{gateStart(1050, false, "billing"), executed(1100, evil, false), executed(1110, upgrade, false), executed(1120, evil, false), at(1400, upgraded), executed(1410, evidence.Digest{8}, false), at(1450, billingApp)}, now: true, whole: true, exec: true},
}

// refuses returns the checks that fail by a policy that asks for the gate.
func (g *gating) refuses(ask string) (ids []CheckID) {
	if !g.now || !g.whole || ask == "enforced" && !g.strict {
		ids = append(ids, PolicyAppGated)
	}
	if g.exec {
		ids = append(ids, PolicyAppExec)
	}
	return ids
}

func gated(ask string) string {
	return app("billing", fmt.Sprintf("exec = %q", ask), "billing 1", "billing 2")
}

// listing is a policy that lists the gates whose digests begin with these bytes.
func listing(ask string, first ...byte) string {
	var all []string
	for _, b := range first {
		all = append(all, fmt.Sprintf("%q", evidence.Digest{b}))
	}
	return gated(ask) + "\n[gate]\ndigests = [" + strings.Join(all, ", ") + "]\n"
}

// gateMutations has everything that the gate can miss, and every program that it let start.
func gateMutations() []mutation {
	var out []mutation
	for _, g := range gatings {
		for _, ask := range []string{"gated", "enforced"} {
			if ids := g.refuses(ask); len(ids) == 1 && (ask == "gated" || g.name == "guarded") {
				out = append(out, mutation{id: ids[0], name: "case 126 " + g.name + ", " + ask, tables: gated(ask), recipe: func(_ *testing.T, r *evidencetest.Recipe) {
					interrupt(r, g.events)
					startedAt(r, 5000)
				}})
			}
		}
	}
	out = append(out, mutation{id: PolicyAppGated, name: "case 126 another gate", tables: listing("gated", 8), recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		interrupt(r, []pcr.Event{gateStart(1050, false, "billing")})
		startedAt(r, 5000)
	}})
	out = append(out, mutation{id: PolicyAppGated, name: "case 126 it began after the caller", tables: gated("gated"), recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		interrupt(r, []pcr.Event{gateStart(1050, false, "billing")})
		startedAt(r, 1050)
	}})
	return out
}

// TestGate: a log is accepted exactly if the gate guarded the application as the policy asks, and
// let start nothing that no manifest lists. A policy that does not ask accepts all of them.
func TestGate(t *testing.T) {
	for _, g := range gatings {
		t.Run(g.name, func(t *testing.T) {
			r := evidencetest.New()
			interrupt(r, g.events)
			startedAt(r, 5000)
			document := r.Encode(t)
			for _, ask := range []string{"any", "gated", "enforced"} {
				o := baseOptions(t)
				o.Policy = mustPolicy(t, makePolicy("", gated(ask)))
				a, err := appraiseEvidence(document, o)
				if err != nil {
					t.Fatal(err)
				}
				var want []CheckID
				if ask != "any" {
					want = g.refuses(ask)
				}
				got := failedIDs(a)
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("%s: failed are %v, want %v\n%s", ask, got, want, explain(a))
				}
			}
		})
	}
}

// TestWhichGate: a policy that lists gates accepts those, and only for as long as the application
// must be covered. What it drafts lists the gate of the log.
func TestWhichGate(t *testing.T) {
	once := []pcr.Event{gateStart(1050, false, "billing!")}
	both := []pcr.Event{gateStart(1050, false, "billing"), gateGap(1100, ""), otherGate()}
	for _, c := range []struct {
		name   string
		events []pcr.Event
		rest   string
		listed []byte
		want   Verdict
	}{
		{"it", once, "", []byte{9}, Pass},
		{"it and another", once, "", []byte{8, 9}, Pass},
		{"another", once, "", []byte{8}, Fail},
		{"another now", both, "covered = \"now\"\n", []byte{9}, Fail},
		{"another before, and what was before does not count", both, "covered = \"now\"\n", []byte{10}, Pass},
	} {
		r := evidencetest.New()
		interrupt(r, c.events)
		startedAt(r, 5000)
		o := baseOptions(t)
		o.Policy = mustPolicy(t, makePolicy("", strings.Replace(listing("gated", c.listed...), "\n[gate]", "\n"+c.rest+"[gate]", 1)))
		if a, err := appraiseEvidence(r.Encode(t), o); err != nil || a.Verdict != c.want || c.want == Fail && !slices.Equal(failedIDs(a), []CheckID{PolicyAppGated}) {
			t.Errorf("%s: %v\n%s", c.name, err, explain(a))
		}
	}
	r := evidencetest.New()
	interrupt(r, once)
	startedAt(r, 5000)
	text, a, err := draftOf(t, DraftPolicy, r.Encode(t))
	if err != nil || a.Verdict != Pass {
		t.Fatalf("%v\n%s", err, explain(a))
	}
	p := mustPolicy(t, string(text))
	if got := p.Gate.Digests; len(p.Apps) != 1 || p.Apps[0].Exec != "enforced" || !slices.Equal(got, []string{evidence.Digest{9}.String()}) {
		t.Errorf("drafted: exec %q, gates %v\n%s", p.Apps[0].Exec, got, text)
	}
}

// TestGateOfTheCaller: for the application of the caller, the gate must have begun before the
// caller's process and its unit did, in an earlier tick. What was before that does not count.
func TestGateOfTheCaller(t *testing.T) {
	const asked = "[caller]\nunit = \"billing.service\"\napp = \"billing\"\n"
	late := []pcr.Event{gateStart(1050, false, "billing"), gateGap(1100, ""), gateStart(1400, false, "billing")}
	for started, want := range map[uint64]bool{1390: false, 1400: false, 1409: false, 1410: true} {
		r := evidencetest.New()
		interrupt(r, late)
		startedAt(r, started)
		o := baseOptions(t)
		o.Policy = mustPolicy(t, makePolicy("", gated("gated")+asked))
		if a, err := appraiseEvidence(r.Encode(t), o); err != nil || (a.Verdict == Pass) != want || !want && a.Check(PolicyAppGated).Verdict != Fail {
			t.Errorf("started %d: %v\n%s", started, err, explain(a))
		}
	}
}

// TestGateFromAnIndex: the state after any part of a log, and then the rest of it, is that after
// the whole.
func TestGateFromAnIndex(t *testing.T) {
	policy := mustPolicy(t, makePolicy("tolerate_gaps = true\ntolerate_unmeasured = true", ""))
	for _, g := range gatings {
		t.Run(g.name, func(t *testing.T) {
			o := baseOptions(t)
			o.Policy = policy
			r := evidencetest.New()
			interrupt(r, g.events)
			whole, err := appraiseEvidence(r.Encode(t), o)
			if err != nil || whole.Verdict != Pass {
				t.Fatal(err, explain(whole))
			}
			for n := 1; n <= len(r.Events); n++ {
				first := evidencetest.New()
				interrupt(first, g.events)
				first.Events = first.Events[:n]
				setAgentKey(first)
				first.Statement.Caller.Executable = nil
				if first.Events[n-1].Stop != nil {
					continue // no agent runs then
				}
				known := baseOptions(t)
				known.Policy = policy
				a, err := appraiseEvidence(first.Encode(t), known)
				if err != nil || a.Verdict != Pass {
					t.Fatalf("first %d: %v\n%s", n, err, explain(a))
				}
				before := encoded(t, a.Accepted.claims.Log)
				rest := evidencetest.New()
				interrupt(rest, g.events)
				rest.LogStart = uint64(n + 1)
				o.LogState = a.Accepted.claims.Log
				b, err := appraiseEvidence(rest.Encode(t), o)
				if err != nil || b.Verdict != Pass {
					t.Fatalf("after %d: %v\n%s", n, err, explain(b))
				}
				if got, want := encoded(t, b.Accepted.claims.Log), encoded(t, whole.Accepted.claims.Log); got != want {
					t.Errorf("state after %d and the rest\n%s\nafter the whole\n%s", n, got, want)
				}
				if encoded(t, a.Accepted.claims.Log) != before {
					t.Errorf("after %d: the state of before was changed", n)
				}
			}
		})
	}
}
