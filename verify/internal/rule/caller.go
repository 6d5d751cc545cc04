// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
)

// CallerRules are rules about the caller that asked for the statement.
type CallerRules struct {
	quiet
	Caller Caller `toml:"caller,omitempty"`
}

// Caller is [caller]. Unit and uid are a boundary; the executable is what the process was
// seen to run when it connected, and no more than that.
type Caller struct {
	Unit        string   `toml:"unit,omitempty" value:"name" default:"any" doc:"systemd system unit that the agent must name; a template (|worker@.service|) for any instance of it: another service on the machine cannot ask it for evidence over its own key. Root can: root can be the agent"`
	UID         *int64   `toml:"uid,omitempty" value:"range 0 4294967294" default:"any" doc:"user id. One that systemd gives to units with |DynamicUser=| (61184 to 65519) is that of another unit later: |caller.unit| must be given too, and |caller.app| says more"`
	App         string   `toml:"app,omitempty" value:"name" default:"any" doc:"declared application; |caller.unit| must be given too, and |log| must be required. The agent must have watched it from before the caller's process started until now, unless its |[[app]]| says otherwise"`
	Method      string   `toml:"method,omitempty" value:"one pidfd" default:"any" doc:"|pidfd|: the kernel told the agent which process connected. Before Linux 6.5 the agent compares start times instead, which a caller could outwit by ending at the right moment"`
	Container   string   `toml:"container,omitempty" value:"one podman docker containerd cri-o" default:"none" doc:"engine: the caller must be in a container of |caller.app| that the agent measured before it ran. A |[[container]]| must list that application, and |caller.unit| need not be given"`
	Executables []string `toml:"executables,omitempty" value:"hex 32" default:"any" doc:"SHA-256 of what the process was seen to run; |caller.unit| must be given too"`
	KeyProof    bool     `toml:"key_proof,omitempty" default:"false" doc:"the caller must have proved, by a signature over this request, that it has the key that it names"`
	Covered     bool     `toml:"covered,omitempty" default:"false" doc:"the executable must be in the manifest of the application; |caller.app| must be given too"`
}

var callerChecks = []check.Definition{
	{ID: "policy.caller-unit", Class: check.Policy, Ground: check.OnAgent, Checks: "the statement names the unit that the policy names as that of the caller, or an instance of the template that the policy names", Stops: "another service on the machine that asks the agent for evidence over its own key; not root, who can be the agent"},
	{ID: "policy.caller-user", Class: check.Policy, Ground: check.OnAgent, Checks: "the statement names the uid that the policy names as that of the caller", Stops: "another user's process inside the unit"},
	{ID: "policy.caller-app", Class: check.Policy, Ground: check.OnAgent, Checks: "the statement names the application that the policy names as that of the caller", Stops: "a caller that is not the declared application"},
	{ID: "policy.caller-container", Class: check.Policy, Ground: check.OnAgent, Checks: "the statement names a container of the engine that the policy names as the one that the caller is in", Stops: "a caller outside of the container, or in another one"},
	{ID: "policy.caller-covered", Class: check.Policy, Ground: check.OnAgent, Checks: "by the log, the agent watched the application that the policy names as caller from before the caller's process started, by the statement, until now", Stops: "a program that started while the agent did not watch its files, and was put back since"},
	{ID: "policy.caller-method", Class: check.Policy, Ground: check.OnAgent, Checks: "by the statement, the agent established the caller by the method that the policy names", Stops: "a process that takes the number of the one that connected"},
	{ID: "policy.caller-executable", Class: check.Policy, Ground: check.OnAgent, Checks: "the statement names an executable of the caller with a digest that the policy lists, and calls it covered by its application if asked", Stops: "an unexpected program in the right unit; an observation only, see docs/policy.md"},
	callerKeyProof,
}

func (r *CallerRules) conflicts(p *Policy, f *faults) {
	c := &r.Caller
	f.failIf(c.Unit == "" && len(c.Executables) > 0, "caller.executables", "the executable is an observation within a unit: caller.unit must be given too")
	f.failIf(c.Unit == "" && c.UID != nil && *c.UID >= pcr.MinDynamicUID && *c.UID <= pcr.MaxDynamicUID, "caller.uid", "systemd gives this uid to one unit after the other: caller.unit must be given too")
	f.failIf(c.Covered && c.App == "", "caller.covered", "an executable is covered by an application's manifest: caller.app must be given too")
	p.needs(f, "caller.app", c.App != "")
	f.failIf(c.App != "" && c.Unit == "" && c.Container == "", "caller.app", "an application is known by its unit: caller.unit must be given too")
	f.failIf(c.Container != "" && p.container(c.App) == nil, "caller.container", "what the container may be must be listed: caller.app and a [[container]] of that name must be given too")
	f.failIf(c.Container == "" && p.container(c.App) != nil, "caller.app", "a [[container]] has this name: caller.container must be given too")
	if x := p.container(c.App); x != nil {
		f.failIf(x.Engine != "" && x.Engine != c.Container && c.Container != "", "caller.container", "the [[container]] of caller.app has another engine")
	}
	f.failIf(c.Container != "" && c.Covered, "caller.covered", "an application that is a container has no manifest that lists executables")
}

func (r *CallerRules) explain(p *Policy, w *Words) {
	w.on(check.OnAgent, "the caller and its key ([caller])")
	c := &r.Caller
	w.demandIf(c.Unit != "", "The agent names the unit %q as that of the caller.", c.Unit)
	if c.UID != nil {
		w.demand("The agent names uid %d as that of the caller.", *c.UID)
	}
	w.demandIf(c.App != "", "The agent names the application %q as the caller.", c.App)
	w.demandIf(c.Container != "", "The agent says that the caller is in a container of %s that it measured before it ran.", c.Container)
	w.demandIf(c.Method != "", "The kernel told the agent which process connected.")
	w.demandIf(len(c.Executables) > 0, "The agent saw the caller run %s. That is an observation, not a proof.", oneOf(len(c.Executables), "executable"))
	w.demandIf(c.Covered, "The agent saw the caller run a file of its application's manifest. That is an observation, not a proof.")
	c.explainKeyProof(w)
	if c.App != "" && c.Container == "" && p.rules()[c.App] == nil {
		p.explainCoverage(w, c.App, SinceStart)
		w.open("What the application %q consists of: no [[app]] lists its digests.", c.App)
	} else if c.App != "" && c.Container == "" && p.callerCovered(p.rules()[c.App]) {
		w.demand("The caller's process, and the earliest of its unit that the agent saw, started after the agent began to watch the application %q.", c.App)
	}
	w.openIf(c.Unit == "" && c.UID == nil && c.Container == "", "Which program asked for the evidence, and named the key in it ([caller]). Naming a key does not show that the caller has it.")
}

func (*CallerRules) draft(g *Golden, d *Draft) {
	if g.bare() {
		return
	}
	d.tables.say("DANGER: the draft does not say which caller may ask for evidence: [caller] does. Even then the caller, and the key that it names, are the guest's word, unless the launch covers the whole system.")
}

func (r *CallerRules) judge(p *Policy, s *Subject, f *check.Findings) {
	stated, want := s.Caller, &r.Caller
	if stated == nil && s.Material.Statement {
		return
	}
	var c evidence.Caller
	if stated != nil {
		c = *stated
	}
	name := func(id check.ID, want, got, what string, same func(want, got string) bool) {
		if !f.SkipIf(want == "", id, "the policy names no %s", what) {
			f.Decide(id, same(want, got), strconv.Quote(want), strconv.Quote(got), "the statement names another %s as that of the caller", what)
		}
	}
	want.judgeKeyProof(f)
	name("policy.caller-unit", want.Unit, c.Unit, "unit", evidence.InUnit)
	engine := ""
	if c.Container != nil {
		engine = c.Container.Engine
	}
	name("policy.caller-container", want.Container, engine, "engine of a container", func(want, got string) bool { return want == got })
	name("policy.caller-app", want.App, c.App, "application", func(want, got string) bool { return want == got })
	if !f.SkipIf(want.UID == nil, "policy.caller-user", "the policy names no uid") {
		f.Decide("policy.caller-user", *want.UID == int64(c.UID) && stated != nil, fmt.Sprint(*want.UID), fmt.Sprint(c.UID),
			"the statement names another user as the caller, or there is no statement")
	}
	if !f.SkipIf(want.Method == "", "policy.caller-method", "the policy does not ask how the caller was established") {
		f.Decide("policy.caller-method", want.Method == string(c.Method), want.Method, string(c.Method), "the agent established the caller by another method, or there is no statement")
	}
	r.judgeCoverage(p, s, &c, f)
	if f.SkipIf(len(want.Executables) == 0 && !want.Covered, "policy.caller-executable", "the policy does not ask what the caller was seen to run") {
		return
	}
	found, ok := "not observed", false
	if x := c.Executable; x != nil {
		found = fmt.Sprintf("%s, covered %t", x.State, x.Covered)
		ok = !want.Covered || x.Covered
		if x.Digest != nil {
			found = x.Digest.String() + ", " + found
		}
		if len(want.Executables) > 0 {
			ok = ok && x.Digest != nil && slices.Contains(want.Executables, x.Digest.String())
		}
	}
	f.Decide("policy.caller-executable", ok, "an executable that the policy lists, covered by its application if asked", found, "the agent saw the caller run something else, or could not see it")
}

// callerCovered reports whether the start of the caller's process counts apart from what the
// rule of its application says, nil if there is none: "unbroken" says nothing of a process that
// started before the application was first measured.
func (p *Policy) callerCovered(rule *App) bool {
	return rule == nil || p.coverage(rule.Name, rule) == Unbroken
}

// judgeCoverage wants the application of the caller watched since before the caller
// started. What the agent did not watch then may run still, whatever the files are now.
func (r *CallerRules) judgeCoverage(p *Policy, s *Subject, c *evidence.Caller, f *check.Findings) {
	const id = "policy.caller-covered"
	switch {
	case f.SkipIf(r.Caller.App == "", id, "the policy names no application"), noLog(f, s.LogState, id):
	case f.SkipIf(r.Caller.Container != "", id, "the application is a container, which was measured before it ran"):
	case f.SkipIf(!p.callerCovered(p.rules()[r.Caller.App]), id, "an [[app]] says since when the application must be covered: see policy.app-covered"):
	default:
		why := fmt.Sprintf("%q is not in the log", c.App)
		if i := slices.IndexFunc(s.Log.Apps, func(a replay.App) bool { return a.Name == c.App }); i >= 0 {
			why = p.uncovered(&s.Log.Apps[i], SinceStart, c, nil)
		}
		f.Decide(id, why == "", "covered from before the caller started until now", why, "what the caller runs is not known: %s", why)
	}
}
