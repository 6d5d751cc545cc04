// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
)

// Exec says what must be known of a program of an application before it starts.
type Exec string

// What must be known.
const (
	ExecAny      Exec = "any"      // nothing: files are measured, and what starts of them is not looked at
	ExecGated    Exec = "gated"    // the gate had each program recorded before it started
	ExecEnforced Exec = "enforced" // and started none that the manifest does not list
)

// Gate is [gate].
type Gate struct {
	Digests []string `toml:"digests,omitempty" value:"hex 32" default:"any" doc:"SHA-256 of the executables that may be the gate of the applications with |app.exec|, as the agent read them when the gate came, and |agentctl show| prints them"`

	digests map[string]bool // in a compiled policy
}

var execChecks = []check.Definition{
	{ID: "policy.app-gated", Class: check.Policy, Ground: check.OnHistory, Checks: "by the log, the gate guards every application for which the policy asks, without a gap, for as long as it must be covered, and from before the caller's process started; it is one that the policy lists, if it lists any; and it starts nothing that the manifest does not list, if the policy asks for that", Stops: "a program that was swapped in between its measurement and its start, and another program that says that it is the gate"},
	{ID: "policy.app-exec", Class: check.Policy, Ground: check.OnHistory, Checks: "every program of such an application that the gate let start is in a manifest of the application in the log", Stops: "a program that was swapped in, started and put back"},
}

var gateIDs = []check.ID{"policy.app-gated", "policy.app-exec"}

func (a *App) asksGate() bool { return a.Exec == ExecGated || a.Exec == ExecEnforced }

// asksGate reports whether an application asks for the gate.
func (r *AppRules) asksGate() bool {
	return slices.ContainsFunc(r.Apps, func(a App) bool { return a.asksGate() })
}

// ungated says what is wrong with the gate of an application; nothing if it is what the policy
// asks for.
func (a *App) ungated(g *Gate, log *replay.State, want Coverage, caller *evidence.Caller) string {
	now, before := log.Guarded(a.Name)
	if now == nil {
		if n := len(before); n > 0 {
			return fmt.Sprintf("%q is not guarded any more: %s", a.Name, ungatedBy(before[n-1]))
		}
		return fmt.Sprintf("%q is not guarded by the gate", a.Name)
	}
	if a.Exec == ExecEnforced && !now.Enforce {
		return fmt.Sprintf("record %d: the gate guards %q, and lets start what its manifest does not list", now.Begin.Record, a.Name)
	}
	if len(g.Digests) > 0 && !g.digests[now.Gate.String()] {
		return fmt.Sprintf("record %d: the gate of %q has digest %s, which the policy does not list", now.Begin.Record, a.Name, now.Gate)
	}
	if want == CoveredNow {
		return ""
	}
	called := caller != nil && caller.App == a.Name
	if called {
		if start := startedAt(caller); now.Begin.Time/tick >= start/tick {
			return fmt.Sprintf("%q is guarded since record %d, %s after boot, and the caller started %s after boot", a.Name, now.Begin.Record, seconds(now.Begin.Time), seconds(start))
		}
	}
	if len(before) > 0 && !(called && want == SinceStart) {
		return fmt.Sprintf("%q: %s", a.Name, ungatedBy(before[0]))
	}
	return ""
}

// ungatedBy says what ended the time of a gate.
func ungatedBy(g *replay.Gated) string {
	at := fmt.Sprintf("record %d, %s after boot: ", g.End.Record, seconds(g.End.Time))
	switch g.End.Why {
	case replay.GateMissed:
		return at + "programs may have started without the gate: " + g.End.Reason
	case replay.GateAgent:
		return at + "the agent ended, and no gate went on"
	case replay.GateFilled:
		return at + "the log was full"
	}
	return at + "its declaration changed, or the gate did not guard it any more"
}

// gated finds what is wrong with the gate of an application that was measured.
func (x *appFindings) gated(a *App, g *Gate, log *replay.State, want Coverage, caller *evidence.Caller, f *check.Findings) {
	if !a.asksGate() {
		return
	}
	if caller != nil && caller.App == a.Name { // who called, and since when it runs, the agent states
		f.Lean("policy.app-gated", check.OnAgent)
	}
	if why := a.ungated(g, log, want, caller); why != "" {
		x.ungated = append(x.ungated, why)
	}
}

// programs finds what the gate let start of an application, measured or not.
func (x *appFindings) programs(a *App, log *replay.State) {
	if !a.asksGate() {
		return
	}
	x.gate = true
	for _, s := range log.Started {
		if s.App == a.Name {
			x.started = append(x.started, fmt.Sprintf("record %d: %q started %s, digest %s", s.Record, s.App, s.Path, s.Digest))
		}
	}
}

func (x *appFindings) decidePrograms(f *check.Findings) {
	if !x.gate {
		skip(f, "the policy asks for no gate", gateIDs...)
		return
	}
	f.Decide("policy.app-gated", len(x.ungated) == 0, "guarded as the policy asks", firstOf(x.ungated), "programs of an application may have started without the gate: %s", firstOf(x.ungated))
	f.Decide("policy.app-exec", len(x.started) == 0, "only programs of a manifest", firstOf(x.started), "a program started that no manifest of its application lists: %s", firstOf(x.started))
}

// explainExec says what must be known of a program before it starts.
func (a *App) explainExec(w *Words) {
	if !a.asksGate() {
		w.open("What started of the files of the application %q: a file can be swapped between its measurement and its start (exec = \"gated\" asks).", a.Name)
		return
	}
	w.demand("The gate guarded the application %q for as long as it must be covered, and let start nothing that no manifest of it lists.", a.Name)
	w.demandIf(a.Exec == ExecEnforced, "The gate refused to start what the manifest of the application %q does not list.", a.Name)
	w.open("What an interpreter, the dynamic loader or a library call loads into a program of the application %q: the gate sees programs that start.", a.Name)
}

// explainGate says which gate may have guarded the applications.
func (r *AppRules) explainGate(w *Words) {
	n := len(r.Gate.Digests)
	w.demandIf(n > 0, "The gate had %s, as the agent states.", oneOf(n, "digest"))
	w.openIf(n == 0 && r.asksGate(), "Which program was the gate ([gate]).")
}

// draftExec offers what the log supports. It returns the gate that it relies on, nil if it does
// not.
func draftExec(g *Golden, d *Draft, name string) *evidence.Digest {
	now, _ := g.Log.Guarded(name)
	if now == nil {
		return nil
	}
	a := App{Name: name, Exec: ExecGated}
	if now.Enforce {
		a.Exec = ExecEnforced
	}
	if a.ungated(new(Gate), g.Log, Unbroken, g.Caller) != "" {
		return nil
	}
	d.tables.line("exec = %q", a.Exec)
	return &now.Gate
}

// draftGate offers the gates that guard applications.
func draftGate(d *Draft, gates []string) {
	if len(gates) > 0 {
		d.tables.offer("The gate that guarded them, as the agent states.", "[gate]\ndigests = [%s]\n", strings.Join(gates, ", "))
	}
}
