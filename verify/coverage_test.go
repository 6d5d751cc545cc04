// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// at gives an event a time, in milliseconds.
func at(ms uint64, e pcr.Event) pcr.Event { e.Time = ms; return e }

// declaring sets the declarations of an event of an agent.
func declaring(e pcr.Event, list ...pcr.Declaration) pcr.Event {
	e.Agent.Declarations = append(pcr.Declarations{}, list...)
	return e
}

// Events of the one application of a recipe, which is measured 1,020 ms after boot. What
// interrupts its coverage happens between 1,100 and 1,300 ms. If it is covered again, then
// at 1,400 ms, by an agent with the key 'b' if it was restarted.
var (
	billingApp  = evidencetest.App("billing", "billing.service", "billing", "billing 1")
	billingFile = pcr.Declaration{App: "billing", Digest: billingApp.App.Declaration}
	otherFile   = pcr.Declaration{App: "billing", Digest: evidence.Digest{7}}
	agentA      = func() pcr.Event { return evidencetest.Agent(pcr.EventAgent, "1.0.0", evidencetest.Key('a')) }
	agentB      = func() pcr.Event { return at(1300, evidencetest.Agent(pcr.EventAgent, "1.0.0", evidencetest.Key('b'))) }
	reload      = func(list ...pcr.Declaration) pcr.Event {
		return declaring(evidencetest.Agent(pcr.EventReload, "1.0.0", evidencetest.Key('a')), list...)
	}
	stopA   = at(1100, evidencetest.Stop(evidencetest.Key('a')))
	gapped  = at(1100, pcr.Event{Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: "overflow"}})
	again   = at(1400, evidencetest.Same(billingApp, false))
	carried = at(1400, evidencetest.Same(billingApp, true))
	failed  = at(1100, pcr.Event{Type: pcr.EventUnmeasured, Unmeasured: &pcr.UnmeasuredEvent{App: "billing", Reason: "it changes"}})
)

// underOther is the application under another declaration.
func underOther() pcr.Event {
	e := *billingApp.App
	e.Declaration = otherFile.Digest
	return at(1400, pcr.Event{Type: pcr.EventApp, App: &e})
}

// An interruption is a way in which coverage of an application can be interrupted, with
// what is left of it at the end of the log.
type interruption struct {
	name         string
	events       []pcr.Event // after the first measurement
	open         bool        // it is covered at the end
	whole        bool        // without an interruption that was not carried
	joint        bool        // an interruption was carried
	gap, unknown bool        // if no rule is about it: the log records a gap, or that it is unmeasured
}

var interruptions = []interruption{
	{"none", nil, true, true, false, false, false},
	{"crash", []pcr.Event{agentB(), again}, true, false, false, true, false},
	{"crash, carried", []pcr.Event{agentB(), carried}, true, true, true, false, false},
	{"crash, never again", []pcr.Event{agentB()}, false, false, false, true, false},
	{"stop", []pcr.Event{stopA, agentB(), again}, true, false, false, true, false},
	{"stop, carried", []pcr.Event{stopA, agentB(), carried}, true, true, true, false, false},
	{"stop, then measured anew", []pcr.Event{stopA, agentB(), at(1400, billingApp)}, true, false, false, true, false},
	{"stop, then undeclared", []pcr.Event{stopA, declaring(agentB())}, false, false, false, true, false},
	{"stop, then another declaration", []pcr.Event{stopA, declaring(agentB(), otherFile), underOther()}, true, false, false, true, false},
	{"stop and gap, carried", []pcr.Event{stopA, agentB(), at(1310, gapped), carried}, true, true, true, false, false},
	{"two crashes, carried", []pcr.Event{at(1200, evidencetest.Agent(pcr.EventAgent, "1.0.0", evidencetest.Key('a'))), at(1250, evidencetest.Same(billingApp, true)), agentB(), carried}, true, true, true, false, false},
	{"gap", []pcr.Event{gapped, again}, true, false, false, true, false},
	{"gap, carried", []pcr.Event{gapped, carried}, true, true, true, false, false},
	{"gap, never again", []pcr.Event{gapped}, false, false, false, true, false},
	{"withdrawn", []pcr.Event{at(1100, reload())}, false, false, false, false, false},
	{"withdrawn and declared again", []pcr.Event{at(1100, reload()), at(1300, reload(billingFile)), again}, true, false, false, false, false},
	{"another declaration", []pcr.Event{at(1100, reload(otherFile)), underOther()}, true, false, false, false, false},
	{"another declaration, not measured", []pcr.Event{at(1100, reload(otherFile))}, false, false, false, false, false},
	{"measured under a declaration that is not in force", []pcr.Event{underOther()}, false, false, false, false, false},
	{"unmeasured", []pcr.Event{failed, again}, true, false, false, false, true},
	{"unmeasured, never again", []pcr.Event{failed}, false, false, false, false, true},
	{"full", []pcr.Event{at(1100, pcr.Event{Type: pcr.EventFull})}, false, false, false, true, false},
	{"reload without news", []pcr.Event{at(1100, reload(billingFile))}, true, true, false, false, false},
	{"changed and measured", []pcr.Event{at(1100, evidencetest.App("billing", "billing.service", "billing", "billing 2")), at(1400, billingApp)}, true, true, false, false, false},
}

// interrupted makes the log of one of the interruptions.
func interrupted(name string) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) {
		i := slices.IndexFunc(interruptions, func(c interruption) bool { return c.name == name })
		interrupt(r, interruptions[i].events)
	}
}

// interrupt puts events after the first measurement.
func interrupt(r *evidencetest.Recipe, events []pcr.Event) {
	r.Events = append([]pcr.Event{at(1010, agentA()), at(1020, billingApp)}, events...)
	for i, e := range r.Events {
		if e.Agent != nil && e.Agent.Declarations == nil {
			agent := *e.Agent
			agent.Declarations = pcr.Declarations{billingFile}
			r.Events[i].Agent = &agent
		}
	}
	setAgentKey(r)
}

// setAgentKey signs with the key of the last start in the log.
func setAgentKey(r *evidencetest.Recipe) {
	for _, e := range r.Events {
		for _, letter := range []byte("ab") {
			if key := evidencetest.Key(letter); e.Agent != nil && bytes.Equal(e.Agent.AgentKey, key.Public().(ed25519.PublicKey)) {
				r.AgentKey = key
			}
		}
	}
}

// startedAt sets when the caller's process and its unit started.
func startedAt(r *evidencetest.Recipe, ms uint64) {
	r.Statement.Caller.Started, r.Statement.Caller.UnitStarted = ms, &ms
}

// starts are before, and after, coverage of the application began again.
var starts = map[string]uint64{"early": 1050, "late": 5000}

// TestCoverage: cases 98 and 99. Every interruption of an application that a rule is
// about, under every mode of coverage: it is accepted exactly if it was covered as the
// policy asks, whatever is tolerated of others.
func TestCoverage(t *testing.T) {
	for _, c := range interruptions {
		for when, started := range starts {
			r := evidencetest.New()
			interrupt(r, c.events)
			startedAt(r, started)
			document := r.Encode(t)
			for _, carry := range []string{"", "allow", "refuse"} {
				broken := !c.whole || c.joint && carry == "refuse"
				for mode, want := range map[string]bool{
					"":            c.open && !broken,
					"unbroken":    c.open && !broken,
					"since-start": c.open && (!broken || when == "late"),
					"now":         c.open,
					"caller":      c.open && (!broken || when == "late"), // no [[app]]: what [caller] alone asks for
					"both":        c.open && (!broken || when == "late"), // the default for the caller's application
				} {
					for _, tolerant := range []bool{false, true} {
						t.Run(fmt.Sprintf("%s/%s/carried %q/covered %q/tolerant %t", c.name, when, carry, mode, tolerant), func(t *testing.T) {
							a := appraiseCoverage(t, document, carry, mode, tolerant)
							if id := PolicyAppCovered; (a.Verdict == Pass) != want {
								t.Errorf("%s, want accepted %t\n%s%s", a.Verdict, want, a.Check(id).Sentence, explain(a))
							}
							if want && says(a, "is its word: \"billing\", record") != (c.joint && carry != "refuse") {
								t.Errorf("%q", a.Sentences)
							}
						})
					}
				}
			}
		}
	}
}

func appraiseCoverage(t *testing.T, document []byte, carry, mode string, tolerant bool) *Appraisal {
	t.Helper()
	root, tables := "", app("billing", "", "billing 1", "billing 2")
	const caller = "[caller]\nunit = \"billing.service\"\napp = \"billing\"\n"
	switch mode {
	case "":
	case "caller":
		tables = caller
	case "both":
		tables += caller
	default:
		tables = app("billing", fmt.Sprintf("covered = %q", mode), "billing 1", "billing 2")
	}
	if carry != "" {
		root += fmt.Sprintf("carried = %q\n", carry)
	}
	if tolerant {
		root += "tolerate_gaps = true\ntolerate_unmeasured = true\n"
	}
	o := baseOptions(t)
	o.Policy = mustPolicy(t, makePolicy(root, tables))
	a, err := appraiseEvidence(document, o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestCoverageOfUnlisted: what interrupts an application that no rule is about is a gap
// with a name, which a policy may tolerate.
func TestCoverageOfUnlisted(t *testing.T) {
	for _, c := range interruptions {
		t.Run(c.name, func(t *testing.T) {
			r := evidencetest.New()
			interrupt(r, c.events)
			document := r.Encode(t)
			for _, carry := range []string{"allow", "refuse"} {
				o := baseOptions(t)
				o.Policy = mustPolicy(t, makePolicy(fmt.Sprintf("carried = %q", carry), ""))
				a, err := appraiseEvidence(document, o)
				if err != nil {
					t.Fatal(err)
				}
				gap, unmeasured := a.Check(PolicyLogGaps).Verdict == Fail, a.Check(PolicyLogUnmeasured).Verdict == Fail
				if want := c.gap || c.joint && carry == "refuse"; gap != want || unmeasured != c.unknown || (a.Verdict == Fail) != (gap || unmeasured) {
					t.Errorf("carried %s: gap %t, want %t; unmeasured %t, want %t\n%s", carry, gap, want, unmeasured, c.unknown, explain(a))
				}
				o.Policy = mustPolicy(t, makePolicy(fmt.Sprintf("carried = %q\ntolerate_gaps = true\ntolerate_unmeasured = true", carry), ""))
				if a, err = appraiseEvidence(document, o); err != nil || a.Verdict != Pass {
					t.Errorf("tolerated, and refused: %v\n%s", err, explain(a))
				}
			}
		})
	}
}

// TestStartWithinATick: a process that started in the tick of 10 ms in which coverage
// began may have started before it.
func TestStartWithinATick(t *testing.T) {
	for started, want := range map[uint64]bool{1010: false, 1020: false, 1030: true} {
		r := evidencetest.New()
		interrupt(r, nil)
		startedAt(r, started)
		if a := appraiseCoverage(t, r.Encode(t), "", "caller", false); (a.Verdict == Pass) != want {
			t.Errorf("started %d ms after boot, covered since 1020: %s, want accepted %t\n%s", started, a.Verdict, want, explain(a))
		}
	}
	r := evidencetest.New()
	interrupt(r, nil)
	r.Statement.Caller.UnitStarted = new(uint64(1010))
	if a := appraiseCoverage(t, r.Encode(t), "", "caller", false); a.Verdict != Fail || a.Check(PolicyCallerCovered).Verdict != Fail {
		t.Errorf("a process of the unit started before coverage: %s\n%s", a.Verdict, explain(a))
	}
}

// TestCoverageFromAnIndex: the state after any part of a log, and then the rest of it, is
// that after the whole.
func TestCoverageFromAnIndex(t *testing.T) {
	tolerant := mustPolicy(t, makePolicy("tolerate_gaps = true\ntolerate_unmeasured = true", ""))
	for _, c := range interruptions {
		t.Run(c.name, func(t *testing.T) {
			r := evidencetest.New()
			interrupt(r, c.events)
			o := baseOptions(t)
			o.Policy = tolerant
			whole, err := appraiseEvidence(r.Encode(t), o)
			if err != nil || whole.Verdict != Pass {
				t.Fatal(err, explain(whole))
			}
			for n := 1; n <= len(r.Events); n++ {
				first := evidencetest.New()
				interrupt(first, c.events)
				first.Events = first.Events[:n]
				setAgentKey(first)
				first.Statement.Caller.Executable = nil
				if first.Events[n-1].Stop != nil {
					continue // no agent runs then
				}
				known := baseOptions(t)
				known.Policy = tolerant
				a, err := appraiseEvidence(first.Encode(t), known)
				if err != nil || a.Verdict != Pass {
					t.Fatalf("first %d: %v\n%s", n, err, explain(a))
				}
				rest := evidencetest.New()
				interrupt(rest, c.events)
				rest.LogStart = uint64(n + 1)
				o.LogState = a.Accepted.claims.Log
				if a, err = appraiseEvidence(rest.Encode(t), o); err != nil || a.Verdict != Pass {
					t.Fatalf("after %d: %v\n%s", n, err, explain(a))
				}
				if got, want := encoded(t, a.Accepted.claims.Log), encoded(t, whole.Accepted.claims.Log); got != want {
					t.Errorf("state after %d and the rest\n%s\nafter the whole\n%s", n, got, want)
				}
			}
		})
	}
}

// TestIntervalsAreClaimed: what interrupted coverage, when, and on what carrying over rests.
func TestIntervalsAreClaimed(t *testing.T) {
	const kept = `"reason":"same inode, change time and content; writable by root alone"`
	for name, want := range map[string]string{
		"none":                     `[{"begin":{"record":2,"time":1020}}]`,
		"stop":                     `[{"begin":{"record":2,"time":1020},"end":{"record":3,"time":1100,"why":"stopped"}},{"begin":{"record":5,"time":1400}}]`,
		"crash":                    `[{"begin":{"record":2,"time":1020},"end":{"record":3,"time":1020,"why":"crashed"}},{"begin":{"record":4,"time":1400}}]`,
		"gap, carried":             `[{"begin":{"record":2,"time":1020},"joints":[{"record":4,"time":1400,"ended":{"record":3,"time":1100,"why":"gap"},` + kept + `}]}]`,
		"stop, carried":            `[{"begin":{"record":2,"time":1020},"joints":[{"record":5,"time":1400,"ended":{"record":3,"time":1100,"why":"stopped"},` + kept + `}]}]`,
		"withdrawn":                `[{"begin":{"record":2,"time":1020},"end":{"record":3,"time":1100,"why":"withdrawn"}}]`,
		"another declaration":      `[{"begin":{"record":2,"time":1020},"end":{"record":3,"time":1100,"why":"redeclared"}},{"begin":{"record":4,"time":1400}}]`,
		"unmeasured, never again":  `[{"begin":{"record":2,"time":1020},"end":{"record":3,"time":1100,"why":"unmeasured"}}]`,
		"full":                     `[{"begin":{"record":2,"time":1020},"end":{"record":3,"time":1100,"why":"full"}}]`,
		"changed and measured":     `[{"begin":{"record":2,"time":1020}}]`,
		"stop, then undeclared":    `[{"begin":{"record":2,"time":1020},"end":{"record":3,"time":1100,"why":"stopped"}}]`,
		"stop, then measured anew": `[{"begin":{"record":2,"time":1020},"end":{"record":3,"time":1100,"why":"stopped"}},{"begin":{"record":5,"time":1400}}]`,
	} {
		t.Run(name, func(t *testing.T) {
			r := evidencetest.New()
			interrupted(name)(t, r)
			o := baseOptions(t)
			o.Policy = mustPolicy(t, makePolicy("tolerate_gaps = true\ntolerate_unmeasured = true", ""))
			a, err := appraiseEvidence(r.Encode(t), o)
			if err != nil || a.Verdict != Pass {
				t.Fatal(err, explain(a))
			}
			if got := encoded(t, a.Accepted.claims.Log.Apps[0].Intervals); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// TestSinceStartOfAnother: the start of a caller says nothing of an application that it is
// not, which must be covered without an interruption.
func TestSinceStartOfAnother(t *testing.T) {
	for name, want := range map[string]bool{"none": true, "stop, carried": true, "crash": false} {
		r := evidencetest.New()
		interrupted(name)(t, r)
		r.Events = append(r.Events, at(1500, evidencetest.App("ledger", "ledger.service", "ledger", "1")))
		for i, e := range r.Events {
			if e.Agent != nil {
				r.Events[i] = declaring(e, billingFile, pcr.Declaration{App: "ledger", Digest: evidencetest.App("ledger", "", "", "").App.Declaration})
			}
		}
		r.Statement.Caller.Unit, r.Statement.Caller.App, r.Statement.Caller.Executable = "ledger.service", "ledger", nil
		if a := appraiseCoverage(t, r.Encode(t), "", "since-start", false); (a.Verdict == Pass) != want {
			t.Errorf("%s: %s, want accepted %t\n%s", name, a.Verdict, want, explain(a))
		}
	}
}

// TestCallerOfReplacedManifest: an application may be upgraded while a statement of its
// process waits for the quote. That does not make the statement a forgery.
func TestCallerOfReplacedManifest(t *testing.T) {
	r := evidencetest.New()
	r.Events = append(r.Events, at(60_000, evidencetest.App("billing", "billing.service", "billing", "billing 2")))
	a, err := appraiseEvidence(r.Encode(t), baseOptions(t))
	if err != nil || a.Verdict != Pass || a.Check(LogCaller).Verdict != Pass {
		t.Errorf("%v\n%s", err, explain(a))
	}
}
