// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
)

// AppRules are rules about the applications in the log.
type AppRules struct {
	quiet
	UnlistedApps Choice `toml:"unlisted_apps,omitempty" value:"one allow refuse" default:"\"allow\"" doc:"|refuse| refuses logs with applications that no |[[app]]| lists. Programs that were not declared are in no log at all: |refuse| is not an allow-list of everything that runs"`
	Carried      Choice `toml:"carried,omitempty" value:"one allow refuse" default:"\"allow\"" doc:"|refuse|: a restart of the agent, or a gap, interrupts the coverage of an application even if the agent states that nothing can have changed meanwhile. |allow| takes its word for that: same files by inode, change time and content, and only root can write them"`
	Apps         []App  `toml:"app,omitempty"`
	Gate         Gate   `toml:"gate,omitempty"`
}

// App is one [[app]]: an application whose content is compared with a list.
type App struct {
	Name         string   `toml:"name" value:"name" default:"required" doc:"as in the agent's declaration"`
	Unit         string   `toml:"unit,omitempty" value:"name" default:"any" doc:"systemd unit that it must be declared for"`
	User         string   `toml:"user,omitempty" value:"name" default:"any" doc:"user that it must be declared for"`
	Users        []string `toml:"users,omitempty" value:"name" default:"none" doc:"further users of the unit that it may be declared for, as the workers of a server; |app.user| must be given too. If only |app.user| is given, a declaration with further users is refused"`
	DynamicUser  bool     `toml:"dynamic_user,omitempty" default:"false" doc:"whether |app.user| must be one to whom systemd gives a uid at each start (|DynamicUser=|), or must not; |app.user| must be given too"`
	Digests      []string `toml:"digests" value:"hex 32" default:"required" doc:"digests of its manifest that are acceptable, 32 bytes each, as |agentctl app list| prints them"`
	Declarations []string `toml:"declarations,omitempty" value:"hex 32" default:"any" doc:"digests of declarations that are acceptable, SHA-256 of the file, as |agentctl policy init| and |agentctl policy reference| print them: another declaration may name fewer files"`
	Covered      Coverage `toml:"covered,omitempty" value:"one unbroken since-start now" default:"\"unbroken\"" doc:"|unbroken|: the agent watched the application from its first measurement until now, and no attempt to measure it failed before that; if |caller.app| names it, also from before the caller's process started. |since-start|: from before the caller's process started until now, if the caller is this application; otherwise as |unbroken|. It is the default for the application that |caller.app| names. |now|: it watches it now; what ran before the last interruption is not known"`
	Interpreter  Choice   `toml:"interpreter_only,omitempty" value:"one allow refuse" default:"\"allow\"" doc:"|refuse|: the manifest must list more than interpreters (java, node, Python, a shell and the like, by their names) and shared libraries, which run what no manifest covers. A manifest that lists one more file need not cover what runs: only the digest says what it lists"`
	Exec         Exec     `toml:"exec,omitempty" value:"one any gated enforced" default:"\"any\"" doc:"|gated|: the gate ([gate.md](gate.md)) guards the application for as long as it must be covered, without a gap, and every program that it let start is in a manifest of the log; if the caller is this application, the gate began before the caller's process started. |enforced|: it also starts nothing that the manifest does not list. |any|: what starts is not looked at"`
	Required     *bool    `toml:"required,omitempty" default:"true" doc:"refuse logs in which it was never measured"`

	digests, declarations map[string]bool // in a compiled policy
}

var appChecks = []check.Definition{
	{ID: "policy.app-present", Class: check.Policy, Ground: check.OnHistory, Checks: "the log names every application that the policy requires", Stops: "a required application that was not measured"},
	{ID: "policy.app-covered", Class: check.Policy, Ground: check.OnHistory, Checks: "by the log, the agent watched every application that the policy lists, from its first measurement or from before the caller started until now, as the policy asks", Stops: "a program that ran while the agent was down, or after its declaration was withdrawn, and was put back"},
	{ID: "policy.app-digest", Class: check.Policy, Ground: check.OnHistory, Checks: "every digest that the log records for an application is one that the policy lists", Stops: "a tampered application that the agent measured, and that was put back before the evidence was asked for"},
	{ID: "policy.app-declaration", Class: check.Policy, Ground: check.OnHistory, Checks: "every declaration that the log records for an application is one that the policy lists, if the policy lists any", Stops: "a declaration that leaves out the files which were changed"},
	{ID: "policy.app-unit", Class: check.Policy, Ground: check.OnHistory, Checks: "every event of an application in the log names the unit and user that the policy names, a dynamic user exactly if the policy says so, and no further user but those", Stops: "a genuine program that is declared for another unit"},
	{ID: "policy.app-program", Class: check.Policy, Ground: check.OnHistory, Checks: "no manifest that the log records for an application lists interpreters and shared libraries alone, if the policy refuses that", Stops: "an application of which only the interpreter was measured, so that any program of that interpreter passes for it"},
	{ID: "policy.app-unlisted", Class: check.Policy, Ground: check.OnHistory, Checks: "the log names no application that the policy does not list, be it measured, declared or not measurable, if the policy refuses those", Stops: "a further declared application in addition to the expected ones"},
}

func (r *AppRules) values(f *faults) {
	f.twice("app[%d].name", len(r.Apps), func(i int) string { return r.Apps[i].Name })
}

func (r *AppRules) conflicts(p *Policy, f *faults) {
	p.needs(f, "app", len(r.Apps) > 0)
	for i := range r.Apps {
		f.failIf(len(r.Apps[i].Users) > 0 && r.Apps[i].User == "", fmt.Sprintf("app[%d].users", i), "these are further users: app.user must be given too")
		f.failIf(r.Apps[i].DynamicUser && r.Apps[i].User == "", fmt.Sprintf("app[%d].dynamic_user", i), "this is about app.user, which must be given too")
	}
	f.failIf(len(r.Gate.Digests) > 0 && !r.asksGate(), "gate.digests", "these are gates of applications with app.exec: one must ask for it")
	p.needs(f, "unlisted_apps", r.UnlistedApps == Refuse)
	p.needs(f, "carried", r.Carried == Refuse)
}

func (r *AppRules) compile() error {
	for i := range r.Apps {
		r.Apps[i].digests, r.Apps[i].declarations = set(r.Apps[i].Digests), set(r.Apps[i].Declarations)
	}
	r.Gate.digests = set(r.Gate.Digests)
	return nil
}

// quotedList returns texts for people.
func quotedList(all []string) string {
	var out []string
	for _, s := range all {
		out = append(out, strconv.Quote(s))
	}
	return strings.Join(out, ", ")
}

// namesOf returns further users as the elements of a list of TOML.
func namesOf(users pcr.AppUsers) string {
	var out []string
	for _, u := range users {
		out = append(out, quoted(u.User))
	}
	return strings.Join(out, ", ")
}

// userKind names a user whose uid lasts, or one to whom systemd gives a uid at each start.
func userKind(dynamic bool) string {
	if dynamic {
		return "dynamic user"
	}
	return "user"
}

func (a *App) required() bool { return a.Required == nil || *a.Required }

func (r *AppRules) explain(p *Policy, w *Words) {
	w.on(check.OnHistory, "applications ([[app]], unlisted_apps)")
	for i := range r.Apps {
		a, as := &r.Apps[i], ""
		if a.Unit != "" {
			as += fmt.Sprintf(", as unit %q", a.Unit)
		}
		if a.User != "" {
			as += fmt.Sprintf(", as %s %q", userKind(a.DynamicUser), a.User)
		}
		if len(a.Users) > 0 {
			as += fmt.Sprintf(" and as no other further user than %s", quotedList(a.Users))
		}
		w.demandIf(a.required(), "The log names the application %q%s, and records for it only %s.", a.Name, as, onlyOf(len(a.Digests), "digest"))
		w.demandIf(!a.required(), "If the log names the application %q, then%s it records only %s.", a.Name, as, onlyOf(len(a.Digests), "digest"))
		w.demandIf(len(a.Declarations) > 0, "The log records for the application %q only %s.", a.Name, onlyOf(len(a.Declarations), "declaration"))
		w.openIf(len(a.Declarations) == 0, "Which files count as the application %q: its declaration is not listed (app.declarations).", a.Name)
		w.demandIf(a.Interpreter == Refuse, "The log records for the application %q more than an interpreter.", a.Name)
		p.explainCoverage(w, a.Name, p.coverage(a.Name, a))
		a.explainExec(w)
		w.openIf(len(a.Digests) > 1, "Which mixtures of files ran when the application %q was changed from one listed digest to another: files are replaced one after the other.", a.Name)
	}
	r.explainGate(w)
	w.demandIf(r.Carried == Refuse, "A restart of the agent, or a gap, counts as an interruption, whatever the agent states of it.")
	w.openIf(r.Carried != Refuse && len(r.Apps) > 0, "Whether the agent is right to state that nothing can have changed while it was restarted (carried = \"refuse\" does not rely on it).")
	switch {
	case r.UnlistedApps == Refuse:
		w.demand("The log names no application that the policy does not list.")
	case len(r.Apps) == 0:
		w.open("Which applications run: no [[app]] is listed.")
	default:
		w.open("Which applications run in addition to those that are listed (unlisted_apps = \"refuse\" asks).")
	}
	w.open("Programs that were not declared to the agent: they are in no log.")
}

func (*AppRules) draft(g *Golden, d *Draft) {
	log, state := g.Log, g.LogState
	if state != LogRead {
		return
	}
	failed, refuse := failures(log), "unlisted_apps = \"refuse\""
	if never := slices.DeleteFunc(unnamed(log), func(name string) bool { return failed[name] == nil }); len(never) > 0 {
		d.root.danger(refuse, "the log names applications that could never be measured, so that this policy cannot list them: %s. With this rule it refuses them.", strings.Map(printable, firstOf(never)))
	} else {
		d.root.offer("Applications in addition to those that are listed below are refused.", "%s", refuse)
	}
	var gates []string
	for _, a := range log.Apps {
		if len(a.Versions) == 0 {
			continue
		}
		now := a.Versions[min(max(a.Current, 0), len(a.Versions)-1)]
		d.tables.offer("As it was measured. A build can compute the digest: \"agentctl policy reference\".", "[[app]]\nname = %s", quoted(a.Name))
		d.tables.lineIf(now.Unit != "", "unit = %s", quoted(now.Unit))
		d.tables.lineIf(now.User != "", "user = %s", quoted(now.User))
		d.tables.lineIf(now.Dynamic && now.User != "", "dynamic_user = true")
		d.tables.lineIf(len(now.Users) > 0 && now.User != "", "users = [%s]", namesOf(now.Users))
		d.tables.line("digests = [%q]\ndeclarations = [%q]", now.Digest, now.Declaration)
		if x := draftExec(g, d, a.Name); x != nil && !slices.Contains(gates, quoted(x.String())) {
			gates = append(gates, quoted(x.String()))
		}
		if why := new(AppRules).uncovered(&a, Unbroken, nil, failed[a.Name]); why != "" {
			d.tables.danger("covered = \"now\"", "what ran is not known for some time, so this policy refuses this machine until it boots again. %s.", strings.Map(printable, why))
		}
		if now.Interpreter != "" {
			d.tables.say("DANGER: interpreter only: %s is measured, and what it runs is not. Declare that too; with interpreter_only = \"refuse\" this policy demands it.", strings.Map(printable, now.Interpreter))
		}
		for i, v := range a.Versions {
			if i != a.Current {
				d.tables.say("DANGER: since boot it also was something else, which this policy refuses: digest %s, record %d.", v.Digest, v.Record)
			}
		}
		d.tables.line("")
	}
	draftGate(d, gates)
}

// judge judges everything that was measured of an application since boot, not only what it
// is now: one that was tampered with may be back to normal by the time of the request. And
// it judges what was not measured: since when the agent watched it without a break.
func (r *AppRules) judge(p *Policy, s *Subject, f *check.Findings) {
	log, state := s.Log, s.LogState
	if noLog(f, state, append([]check.ID{"policy.app-present", "policy.app-covered", "policy.app-digest", "policy.app-declaration", "policy.app-unit", "policy.app-program", "policy.app-unlisted"}, gateIDs...)...) {
		return
	}
	rules, measured := r.rules(), make(map[string]bool, len(log.Apps))
	var unlisted []string
	found, failed := new(appFindings), failures(log)
	for i := range log.Apps {
		m := &log.Apps[i]
		measured[m.Name] = true
		a := rules[m.Name]
		if a == nil {
			unlisted = append(unlisted, strconv.Quote(m.Name))
			continue
		}
		found.versions(a, m)
		found.interpreters(a, m)
		asked := p.coverage(a.Name, a)
		found.gated(a, &r.Gate, log, asked, s.Caller, f)
		if asked == SinceStart && s.Caller != nil && s.Caller.App == a.Name { // who called, and since when it runs, the agent states
			f.Lean("policy.app-covered", check.OnAgent)
		}
		if why := r.uncovered(m, asked, s.Caller, failed[m.Name]); why != "" {
			found.uncovered = append(found.uncovered, why)
		}
	}
	for i := range r.Apps {
		a := &r.Apps[i]
		found.programs(a, log)
		if measured[a.Name] {
			continue
		}
		u := failed[a.Name]
		switch {
		case u != nil:
			found.uncovered = append(found.uncovered, fmt.Sprintf("record %d: %q was never measured: %s", u.Record, u.App, u.Reason))
		case a.Name == p.Caller.App && !a.required(): // it is there: it called
			found.uncovered = append(found.uncovered, fmt.Sprintf("%q, which the policy names as the caller's, was never measured", a.Name))
		}
		if a.required() {
			found.absent = append(found.absent, strconv.Quote(a.Name))
		}
	}
	for _, name := range unnamed(log) {
		if rules[name] == nil && p.container(name) == nil {
			unlisted = append(unlisted, strconv.Quote(name))
		}
	}
	if len(r.Apps) == 0 {
		skip(f, "the policy lists no application", "policy.app-present", "policy.app-covered", "policy.app-digest", "policy.app-declaration", "policy.app-unit", "policy.app-program")
		skip(f, "the policy lists no application", gateIDs...)
	} else {
		found.decide(f)
		found.decidePrograms(f)
	}
	if !f.SkipIf(r.UnlistedApps != Refuse, "policy.app-unlisted", "the policy does not refuse further applications; the log names: %s", cmp.Or(firstOf(unlisted), "none")) {
		f.Decide("policy.app-unlisted", len(unlisted) == 0, "only applications that the policy lists", firstOf(unlisted), "the log names an application that the policy does not list")
	}
}

// appFindings are what is wrong with applications that the policy lists.
type appFindings struct {
	absent, uncovered, digests, declarations, units []string

	asked   bool     // whether the policy refuses an application of which only an interpreter is measured
	refused []string // such applications that it refuses
	allowed []string // such applications that it allows

	gate             bool // whether the policy asks for the gate
	ungated, started []string
}

// interpreters finds versions of an application of which only an interpreter was measured.
func (x *appFindings) interpreters(a *App, m *replay.App) {
	x.asked = x.asked || a.Interpreter == Refuse
	for _, v := range m.Versions {
		if v.Interpreter == "" {
			continue
		}
		found := fmt.Sprintf("record %d: %q is interpreter only: %s", v.Record, a.Name, v.Interpreter)
		if a.Interpreter == Refuse {
			x.refused = append(x.refused, found)
		} else {
			x.allowed = append(x.allowed, found)
		}
	}
}

// versions compares every version of an application with its rule.
func (x *appFindings) versions(a *App, m *replay.App) {
	for _, v := range m.Versions {
		if !a.digests[v.Digest.String()] {
			x.digests = append(x.digests, fmt.Sprintf("record %d: %q has digest %s", v.Record, a.Name, v.Digest))
		}
		if len(a.Declarations) > 0 && !a.declarations[v.Declaration.String()] {
			x.declarations = append(x.declarations, fmt.Sprintf("record %d: %q has the declaration %s", v.Record, a.Name, v.Declaration))
		}
		if a.Unit != "" && v.Unit != a.Unit || a.User != "" && (v.User != a.User || v.Dynamic != a.DynamicUser) {
			x.units = append(x.units, fmt.Sprintf("record %d: %q runs as unit %q, %s %q", v.Record, a.Name, v.Unit, userKind(v.Dynamic), v.User))
		}
		for _, u := range v.Users {
			if a.User != "" && !slices.Contains(a.Users, u.User) {
				x.units = append(x.units, fmt.Sprintf("record %d: %q runs as user %q too", v.Record, a.Name, u.User))
			}
		}
	}
}

func (x *appFindings) decide(f *check.Findings) {
	f.Decide("policy.app-present", len(x.absent) == 0, "every required application", "without "+firstOf(x.absent), "the log does not name a required application: %s", firstOf(x.absent))
	f.Decide("policy.app-covered", len(x.uncovered) == 0, "covered as the policy asks", firstOf(x.uncovered), "what ran as an application is not known for some time: %s", firstOf(x.uncovered))
	f.Decide("policy.app-digest", len(x.digests) == 0, "only digests that the policy lists", firstOf(x.digests), "the log records a digest of an application that the policy does not list")
	f.Decide("policy.app-declaration", len(x.declarations) == 0, "only declarations that the policy lists", firstOf(x.declarations), "the log records a declaration of an application that the policy does not list")
	f.Decide("policy.app-unit", len(x.units) == 0, "the unit and user that the policy names", firstOf(x.units), "an application was declared for another unit or user")
	if x.asked {
		f.Decide("policy.app-program", len(x.refused) == 0, "more than an interpreter", firstOf(x.refused), "only the interpreter of an application was measured, and not what it runs: %s", firstOf(x.refused))
	} else if len(x.allowed) > 0 {
		f.SkipIf(true, "policy.app-program", "the policy does not refuse it that only an interpreter is measured, and not what it runs: %s", firstOf(x.allowed))
	} else {
		f.SkipIf(true, "policy.app-program", "the policy does not ask, and more than an interpreter is measured of each application that it lists")
	}
}
