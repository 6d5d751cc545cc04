// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
)

// Coverage says since when the agent must have watched an application without a break.
type Coverage string

// Coverages.
const (
	Unbroken   Coverage = "unbroken"    // from its first measurement until now
	SinceStart Coverage = "since-start" // from before the caller's process started until now
	CoveredNow Coverage = "now"         // now; what ran before the last interruption is not known
)

// coverage returns what the policy asks of an application: what its rule says, and if
// that says nothing, since-start for the one that the caller must be.
func (p *Policy) coverage(name string, rule *App) Coverage {
	asked := Unbroken
	if name == p.Caller.App {
		asked = SinceStart
	}
	if rule == nil {
		return asked
	}
	return cmp.Or(rule.Covered, asked)
}

// lists reports whether a rule is about an application, so that no tolerance is.
func (p *Policy) lists(rules map[string]*App, name string) bool {
	return rules[name] != nil || name == p.Caller.App
}

// rules returns the rules of applications by name.
func (r *AppRules) rules() map[string]*App {
	out := make(map[string]*App, len(r.Apps))
	for i := range r.Apps {
		out[r.Apps[i].Name] = &r.Apps[i]
	}
	return out
}

// carries reports whether an interruption counts as none if the agent states that nothing
// can have changed meanwhile.
func (r *AppRules) carries() bool { return r.Carried != Refuse }

// tick is the resolution of the start time of a process, in milliseconds (proc(5)): times
// of records are compared in the same steps. Within one step nothing tells which came
// first: a measurement that a unit waits for is answered when its step is over.
const tick = 10

// startedAt returns when the first process of the caller started: that of its unit, since
// one that started before could have made it; else the caller's own.
func startedAt(c *evidence.Caller) uint64 {
	if c.UnitStarted != nil {
		return *c.UnitStarted
	}
	return c.Started
}

// failures returns the first failure to measure each application.
func failures(log *replay.State) map[string]*replay.Unmeasured {
	out := make(map[string]*replay.Unmeasured)
	for i, u := range log.Unmeasured {
		if out[u.App] == nil {
			out[u.App] = &log.Unmeasured[i]
		}
	}
	return out
}

// uncovered says what is wrong with the coverage of an application; nothing if it is what
// the policy asks for. Failed is the first failure to measure it, nil if there is none: what
// comes before the first measurement shows in no interval.
func (r *AppRules) uncovered(a *replay.App, want Coverage, caller *evidence.Caller, failed *replay.Unmeasured) string {
	open := a.Covered()
	if open == nil {
		if n := len(a.Intervals); n > 0 {
			return fmt.Sprintf("%q is not covered any more: %s", a.Name, interrupted(*a.Intervals[n-1].End, nil))
		}
		return fmt.Sprintf("%q was not measured under a declaration in force", a.Name)
	}
	begin := open.Begin
	var joint *replay.Joint
	if n := len(open.Joints); n > 0 && !r.carries() {
		joint = &open.Joints[n-1]
		begin = joint.Mark
	}
	switch {
	case want == CoveredNow:
		return ""
	case want == SinceStart && caller != nil && caller.App == a.Name:
		if start := startedAt(caller); begin.Time/tick >= start/tick {
			return fmt.Sprintf("%q is covered since record %d, %s after boot, and the caller started %s after boot", a.Name, begin.Record, seconds(begin.Time), seconds(start))
		}
		return ""
	case failed != nil && failed.Record < a.Intervals[0].Begin.Record:
		return fmt.Sprintf("record %d: %q could not be measured at first: %s", failed.Record, a.Name, failed.Reason)
	case len(a.Intervals) > 1:
		return fmt.Sprintf("%q: %s", a.Name, interrupted(*a.Intervals[0].End, &a.Intervals[1].Begin))
	case joint != nil:
		return fmt.Sprintf("%q: %s (carried over: %s)", a.Name, interrupted(open.Joints[0].Ended, &open.Joints[0].Mark), open.Joints[0].Reason)
	}
	return ""
}

// interrupted says what ended coverage, and when it began again.
func interrupted(e replay.End, again *replay.Mark) string {
	what := map[replay.Ending]string{
		replay.Stopped: "the agent was stopped, from %s after boot", replay.Crashed: "the agent was killed or crashed, after %s after boot",
		replay.Withdrawn: "its declaration was withdrawn, %s after boot", replay.Redeclared: "its declaration was replaced, %s after boot",
		replay.Missed: "changes may have been missed, before %s after boot", replay.Failed: "it could not be measured, %s after boot",
		replay.Filled: "the log was full, %s after boot",
	}[e.Why]
	text := fmt.Sprintf("record %d: "+cmp.Or(what, "its coverage ended, %s after boot"), e.Record, seconds(e.Time))
	if again != nil {
		text += fmt.Sprintf(", until it was measured again, %s after boot (record %d)", seconds(again.Time), again.Record)
	}
	return text
}

// seconds writes milliseconds of the guest's clock for people.
func seconds(ms uint64) string { return fmt.Sprintf("%d.%03d s", ms/1000, ms%1000) }

// gaps lists what the agent may have missed of applications that no rule is about: gaps
// that it recorded, and its own stops and crashes, unless it carried coverage over them.
// Those that a rule is about are judged by that rule.
func gaps(log *replay.State, lists func(name string) bool, carries bool) (found []string) {
	lost := make(map[uint64]bool, len(log.Gaps)) // records of gaps that interrupted an application that no rule is about
	for i := range log.Apps {
		a := &log.Apps[i]
		take := func(e replay.End, again *replay.Mark, carried bool) {
			bad := !lists(a.Name) && !(carried && carries)
			switch e.Why {
			case replay.Missed:
				lost[e.Record] = lost[e.Record] || bad
			case replay.Stopped, replay.Crashed:
				if bad {
					found = append(found, fmt.Sprintf("%q: %s", a.Name, interrupted(e, again)))
				}
			}
		}
		for j, v := range a.Intervals {
			for _, x := range v.Joints {
				take(x.Ended, &x.Mark, true)
			}
			if v.End != nil {
				var again *replay.Mark
				if j+1 < len(a.Intervals) {
					again = &a.Intervals[j+1].Begin
				}
				take(*v.End, again, false)
			}
		}
	}
	var recorded []string
	for _, g := range log.Gaps {
		if lost[g.Record] {
			recorded = append(recorded, fmt.Sprintf("record %d: %s", g.Record, g.Reason))
		}
	}
	found = slices.Concat(recorded, found)
	if log.Full {
		found = append(found, "the log is full and took nothing more")
	}
	return found
}

// unnamed lists the applications that are declared, or could not be measured, and that were
// never measured.
func unnamed(log *replay.State) (names []string) {
	known := make(map[string]bool, len(log.Apps))
	for _, a := range log.Apps {
		known[a.Name] = true
	}
	add := func(name string) {
		if !known[name] {
			known[name] = true
			names = append(names, name)
		}
	}
	for _, u := range log.Unmeasured {
		add(u.App)
	}
	for _, d := range log.Declarations {
		add(d.App)
	}
	return names
}

// unmeasured lists the applications that could not be measured and that no rule is about.
func unmeasured(log *replay.State, lists func(name string) bool) (found []string) {
	for _, u := range log.Unmeasured {
		if !lists(u.App) {
			found = append(found, fmt.Sprintf("record %d: %s: %s", u.Record, u.App, u.Reason))
		}
	}
	return found
}

// explainCoverage says since when an application must have been watched.
func (p *Policy) explainCoverage(w *Words, name string, want Coverage) {
	switch want {
	case Unbroken:
		w.demand("The agent watched the application %q from its first measurement until now.", name)
	case SinceStart:
		fact, about := w.fact, w.name
		w.on(check.OnAgent, "since when the caller's application was watched")
		w.demand("If the caller is the application %q, the agent watched it from before the caller's process started until now; otherwise from its first measurement until now.", name)
		w.on(fact, about)
	case CoveredNow:
		w.demand("The agent watches the application %q now.", name)
		w.danger("The application %q must only be covered now: what ran as it while the agent was down, or while it was not declared, is not known, and may run still.", name)
	}
}

// CarriedOver says for people which accepted coverage the agent carried over an
// interruption, by its word; nothing if there is none.
func (p *Policy) CarriedOver(log *replay.State) string {
	if log == nil || !p.carries() {
		return ""
	}
	var found []string
	for i := range log.Apps {
		a := &log.Apps[i]
		if open := a.Covered(); open != nil && len(open.Joints) > 0 {
			last := open.Joints[len(open.Joints)-1]
			found = append(found, fmt.Sprintf("%q, %s: %s", a.Name, interrupted(last.Ended, &last.Mark), last.Reason))
		}
	}
	if len(found) == 0 {
		return ""
	}
	return "The agent carried coverage over an interruption. That nothing can have changed meanwhile is its word: " + firstOf(found) + "."
}
