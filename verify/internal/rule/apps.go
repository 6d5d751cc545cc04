// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"cmp"
	"fmt"
	"strconv"

	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// AppRules are rules about the applications in the log.
type AppRules struct {
	quiet
	UnlistedApps Choice `toml:"unlisted_apps,omitempty" value:"one allow refuse" default:"\"allow\"" doc:"|refuse| refuses logs with applications that no |[[app]]| lists. Programs that were not declared are in no log at all: |refuse| is not an allow-list of everything that runs"`
	Apps         []App  `toml:"app,omitempty"`
}

// App is one [[app]]: an application whose content is compared with a list.
type App struct {
	Name     string   `toml:"name" value:"name" default:"required" doc:"as in the agent's declaration"`
	Unit     string   `toml:"unit,omitempty" value:"name" default:"any" doc:"systemd unit that it must be declared for"`
	User     string   `toml:"user,omitempty" value:"name" default:"any" doc:"user that it must be declared for"`
	Digests  []string `toml:"digests" value:"hex 32" default:"required" doc:"digests of its manifest that are acceptable, 32 bytes each, as |agentctl app list| prints them"`
	Required *bool    `toml:"required,omitempty" default:"true" doc:"refuse logs without it"`

	digests map[string]bool // in a compiled policy
}

var appChecks = []check.Definition{
	{ID: "policy.app-present", Class: check.Policy, Ground: check.OnHistory, Checks: "the log names every application that the policy requires", Stops: "a required application that was not measured"},
	{ID: "policy.app-digest", Class: check.Policy, Ground: check.OnHistory, Checks: "every digest that the log records for an application is one that the policy lists", Stops: "a tampered application that the agent measured, and that was put back before the evidence was asked for"},
	{ID: "policy.app-unit", Class: check.Policy, Ground: check.OnHistory, Checks: "every event of an application in the log names the unit and user that the policy names", Stops: "a genuine program that is declared for another unit"},
	{ID: "policy.app-unlisted", Class: check.Policy, Ground: check.OnHistory, Checks: "the log names no application that the policy does not list, if the policy refuses those", Stops: "a further declared application in addition to the expected ones"},
}

func (r *AppRules) values(f *faults) {
	f.twice("app[%d].name", len(r.Apps), func(i int) string { return r.Apps[i].Name })
}

func (r *AppRules) conflicts(p *Policy, f *faults) {
	p.needs(f, "app", len(r.Apps) > 0)
	p.needs(f, "unlisted_apps", r.UnlistedApps == Refuse)
}

func (r *AppRules) compile() error {
	for i := range r.Apps {
		r.Apps[i].digests = set(r.Apps[i].Digests)
	}
	return nil
}

func (a *App) required() bool { return a.Required == nil || *a.Required }

func (*AppRules) about() (check.Ground, string) {
	return check.OnHistory, "applications ([[app]], unlisted_apps)"
}

func (r *AppRules) explain(_ *Policy, w *Words) {
	w.on(check.OnHistory, "applications ([[app]], unlisted_apps)")
	for i := range r.Apps {
		a, as := &r.Apps[i], ""
		if a.Unit != "" {
			as += fmt.Sprintf(", as unit %q", a.Unit)
		}
		if a.User != "" {
			as += fmt.Sprintf(", as user %q", a.User)
		}
		w.demandIf(a.required(), "The log names the application %q%s, and records for it only digests of %d that are listed.", a.Name, as, len(a.Digests))
		w.demandIf(!a.required(), "If the log names the application %q, then%s it records only digests of %d that are listed.", a.Name, as, len(a.Digests))
	}
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
	d.root.offer("Applications in addition to those that are listed below are refused.", "unlisted_apps = \"refuse\"")
	for _, a := range log.Apps {
		if len(a.Versions) == 0 {
			continue
		}
		now := a.Versions[min(max(a.Current, 0), len(a.Versions)-1)]
		d.tables.offer("As it was measured. A build can compute the digest: \"agentctl policy reference\".", "[[app]]\nname = %s", quoted(a.Name))
		d.tables.lineIf(now.Unit != "", "unit = %s", quoted(now.Unit))
		d.tables.lineIf(now.User != "", "user = %s", quoted(now.User))
		d.tables.line("digests = [%q]", now.Digest)
		for i, v := range a.Versions {
			if i != a.Current {
				d.tables.say("DANGER: since boot it also was something else, which this policy refuses: digest %s, record %d.", v.Digest, v.Record)
			}
		}
		d.tables.line("")
	}
}

// judge judges everything that an application was since boot, not what it is now: one
// that was tampered with may be back to normal by the time of the request.
func (r *AppRules) judge(_ *Policy, s *Subject, f *check.Findings) {
	log, state := s.Log, s.LogState
	if noLog(f, state, "policy.app-present", "policy.app-digest", "policy.app-unit", "policy.app-unlisted") {
		return
	}
	var absent, digests, units, unlisted []string
	rules, measured := make(map[string]*App, len(r.Apps)), make(map[string]bool, len(log.Apps))
	for i := range r.Apps {
		rules[r.Apps[i].Name] = &r.Apps[i]
	}
	for _, m := range log.Apps {
		measured[m.Name] = true
		a := rules[m.Name]
		if a == nil {
			unlisted = append(unlisted, strconv.Quote(m.Name))
			continue
		}
		for _, v := range m.Versions {
			if !a.digests[v.Digest.String()] {
				digests = append(digests, fmt.Sprintf("record %d: %q has digest %s", v.Record, a.Name, v.Digest))
			}
			if a.Unit != "" && v.Unit != a.Unit || a.User != "" && v.User != a.User {
				units = append(units, fmt.Sprintf("record %d: %q runs as unit %q, user %q", v.Record, a.Name, v.Unit, v.User))
			}
		}
	}
	for i := range r.Apps {
		if a := &r.Apps[i]; a.required() && !measured[a.Name] {
			absent = append(absent, strconv.Quote(a.Name))
		}
	}
	if len(r.Apps) == 0 {
		skip(f, "the policy lists no application", "policy.app-present", "policy.app-digest", "policy.app-unit")
	} else {
		f.Decide("policy.app-present", len(absent) == 0, "every required application", "without "+firstOf(absent), "the log does not name a required application: %s", firstOf(absent))
		f.Decide("policy.app-digest", len(digests) == 0, "only digests that the policy lists", firstOf(digests), "the log records a digest of an application that the policy does not list")
		f.Decide("policy.app-unit", len(units) == 0, "the unit and user that the policy names", firstOf(units), "an application was declared for another unit or user")
	}
	if !f.SkipIf(r.UnlistedApps != Refuse, "policy.app-unlisted", "the policy does not refuse further applications; measured were: %s", cmp.Or(firstOf(unlisted), "none")) {
		f.Decide("policy.app-unlisted", len(unlisted) == 0, "only applications that the policy lists", firstOf(unlisted), "the log names an application that the policy does not list")
	}
}
