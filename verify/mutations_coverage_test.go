// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// caller changes what the statement says of the caller.
func caller(change func(*evidence.Caller)) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) { change(&r.Statement.Caller) }
}

// templated declares the application for a unit or template, and lets a caller of a unit ask.
func templated(declared, unit string) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) {
		e := *billingApp.App
		e.Unit = declared
		r.Events[1] = pcr.Event{Type: pcr.EventApp, Time: r.Events[1].Time, App: &e}
		r.Statement.Caller.Unit = unit
	}
}

// withUsers declares further users of the application, and lets one with a uid ask.
func withUsers(uid uint32, users ...pcr.AppUser) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) {
		e := *billingApp.App
		e.Users = users
		r.Events[1] = pcr.Event{Type: pcr.EventApp, Time: r.Events[1].Time, App: &e}
		r.Statement.Caller.UID = uid
	}
}

// dynamic declares the application for a dynamic user, and lets a caller with a uid ask.
func dynamic(uid uint32) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) {
		e := *billingApp.App
		e.UID, e.Dynamic = nil, true
		r.Events[1] = pcr.Event{Type: pcr.EventApp, Time: r.Events[1].Time, App: &e}
		r.Statement.Caller.UID = uid
	}
}

var callerMutations = []mutation{
	{id: LogCaller, name: "an application that the log does not have", recipe: caller(func(c *evidence.Caller) { c.App, c.Executable = "ledger", nil })},
	{id: LogCaller, name: "of another unit", recipe: caller(func(c *evidence.Caller) { c.Unit = "payment.service" })},
	{id: LogCaller, name: "an instance, and the log has another one", recipe: templated("billing@1.service", "billing@2.service")},
	{id: LogCaller, name: "an instance of another template", recipe: templated("payment@.service", "billing@2.service")},
	{id: LogCaller, name: "no instance of the template", recipe: templated("billing@.service", "billing.service")},
	{id: LogCaller, name: "an instance of a template of another type", recipe: templated("billing@.socket", "billing@2.service")},
	{id: LogCaller, name: "the template is the other's instance", recipe: templated("billing@2.service", "billing@.service")},
	{id: LogCaller, name: "of no further user", recipe: withUsers(992, pcr.AppUser{User: "www-data", UID: 991}, pcr.AppUser{User: "mail", UID: 993})},
	{id: LogCaller, name: "uid below those of dynamic users", recipe: dynamic(pcr.MinDynamicUID - 1)},
	{id: LogCaller, name: "uid above those of dynamic users", recipe: dynamic(pcr.MaxDynamicUID + 1)},
	{id: LogCaller, name: "of another user", recipe: caller(func(c *evidence.Caller) { c.UID = 991 })},
	{id: LogCaller, name: "covered, and not in the manifest", recipe: caller(func(c *evidence.Caller) { c.Executable.Digest = &evidence.Digest{1} })},
	{id: LogCaller, name: "covered, without a digest", recipe: caller(func(c *evidence.Caller) { c.Executable.Digest = nil })},
	{id: LogCaller, name: "covered, and no application", recipe: caller(func(c *evidence.Caller) { c.App = "" })},
	{id: LogCaller, name: "covered, and declared only", recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.Events = r.Events[:1] }},
	{id: LogCaller, name: "covered by a manifest that was replaced long ago", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Events = append(r.Events, at(2000, evidencetest.App("billing", "billing.service", "billing", "billing 2")))
		r.Batch.Time = 2000 + 10*60*1000 + 1
		startedAt(r, 1500)
	}},
	{id: LogCaller, name: "covered by a manifest that was replaced before it started", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Events = append(r.Events, at(4999, evidencetest.App("billing", "billing.service", "billing", "billing 2")))
	}},
	{id: LogCaller, name: "covered by a file that is not executable", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		e := *billingApp.App
		e.Manifest = pcr.Manifest{e.Manifest[0]}
		e.Manifest[0].Mode = 0o100644
		e.Digest = pcr.ManifestDigest(e.Manifest)
		r.Events[1] = pcr.Event{Type: pcr.EventApp, App: &e}
	}},
	{id: AnchorGuestClock, name: "it went back", root: anchoredPolicy, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		anchored(r)
		r.Batch.Time = r.Anchor.Time - 1
	}},
	{id: PolicyAnchorAge, name: "too old by the guest's clock alone", root: anchoredPolicy, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		anchored(r)
		r.Batch.Time = r.Anchor.Time + 121_000
	}},
	{id: PolicyAnchorAge, name: "too old by the vTPM's clock alone", root: anchoredPolicy, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		anchored(r)
		r.Batch.Clock = r.Anchor.Clock + 121_000
	}},
}

// coverageMutations has every interruption that leaves an application uncovered, and what
// an agent must not say of it.
func coverageMutations() []mutation {
	var out []mutation
	billing := app("billing", "", "billing 1", "billing 2")
	for _, c := range interruptions {
		if c.open && c.whole || c.name == "full" { // a full log is a gap for all
			continue
		}
		name := "case 98 " + c.name
		if c.name == "withdrawn" {
			name = "case 99 " + c.name
		}
		out = append(out, mutation{id: PolicyAppCovered, name: name, tables: billing, recipe: interrupted(c.name)})
		if c.gap {
			out = append(out, mutation{id: PolicyLogGaps, name: name, recipe: interrupted(c.name)})
		}
	}
	early := func(name string) func(*testing.T, *evidencetest.Recipe) {
		return func(t *testing.T, r *evidencetest.Recipe) {
			interrupted(name)(t, r)
			startedAt(r, starts["early"])
		}
	}
	const asked = "[caller]\nunit = \"billing.service\"\napp = \"billing\"\n"
	out = append(out,
		mutation{id: PolicyAppCovered, name: "case 99 withdrawn, and unlisted applications are refused", root: `unlisted_apps = "refuse"`, tables: billing, recipe: interrupted("withdrawn")},
		mutation{id: PolicyAppCovered, name: "case 98 carried, and the policy does not rely on it", root: `carried = "refuse"`, tables: billing, recipe: interrupted("crash, carried")},
		mutation{id: PolicyAppCovered, name: "never measured, and not required", tables: app("billing", "required = false", "billing 1"), recipe: func(_ *testing.T, r *evidencetest.Recipe) {
			unmeasured(r)
			r.Events = append(r.Events, failed)
		}},
		mutation{id: PolicyAppUnlisted, name: "one that is declared only", root: "unlisted_apps = \"refuse\"\ntolerate_unmeasured = true", tables: app("other", "required = false", "1"), recipe: func(_ *testing.T, r *evidencetest.Recipe) {
			interrupt(r, nil)
			unmeasured(r)
			r.Events = r.Events[:1]
		}},
		mutation{id: PolicyAppUnlisted, name: "one that could not be measured", root: "unlisted_apps = \"refuse\"\ntolerate_unmeasured = true", tables: app("other", "required = false", "1"), recipe: func(_ *testing.T, r *evidencetest.Recipe) {
			unmeasured(r)
			r.Events = append(r.Events, failed)
		}},
		mutation{id: PolicyAppCovered, name: "it could not be measured at first", tables: billing, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
			interrupt(r, nil)
			r.Events = slices.Insert(r.Events, 1, at(1015, failed))
		}},
		mutation{id: PolicyAppCovered, name: "the caller's, declared and never measured, and not required", tables: app("billing", "required = false", "billing 1") + asked, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
			interrupt(r, nil)
			r.Events, r.Statement.Caller.Executable = r.Events[:1], nil
		}},
		mutation{id: PolicyAppCovered, name: "case 98 the caller started before", tables: billing + asked, recipe: early("crash")},
		mutation{id: PolicyCallerCovered, name: "unbroken, and the caller started before", tables: app("billing", "covered = \"unbroken\"", "billing 1") + asked, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
			interrupt(r, nil)
			startedAt(r, 1010)
		}},
		mutation{id: PolicyCallerCovered, name: "case 98 started before", tables: asked, recipe: early("crash")},
		mutation{id: PolicyCallerCovered, name: "case 98 started before it was carried, and the policy does not rely on it", root: `carried = "refuse"`, tables: asked, recipe: early("stop, carried")},
		mutation{id: PolicyCallerCovered, name: "case 99 withdrawn", tables: asked, recipe: interrupted("withdrawn")},
		mutation{id: PolicyCallerCovered, name: "a process of its unit started before", tables: asked, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
			interrupt(r, nil)
			r.Statement.Caller.UnitStarted = new(uint64(1010))
		}},
	)
	other := evidencetest.App("billing", "billing.service", "billing", "billing 2")
	for name, events := range map[string][]pcr.Event{
		"the same as a digest that was never recorded":    {gapped, at(1400, evidencetest.Same(other, false))},
		"the same under another declaration":              {at(1100, reload(otherFile)), at(1400, evidencetest.Same(underOther(), false))},
		"the same as what nothing says":                   {at(1400, evidencetest.Same(evidencetest.App("ledger", "", "", "1"), false))},
		"carried, and nothing interrupted it":             {carried},
		"carried after its declaration was withdrawn":     {at(1100, reload()), at(1300, reload(billingFile)), carried},
		"carried after a stop, without its declaration":   {stopA, declaring(agentB()), carried},
		"carried after it was declared anew in between":   {stopA, declaring(agentB(), otherFile), at(1350, declaring(evidencetest.Agent(pcr.EventReload, "1.0.0", evidencetest.Key('b')), billingFile)), carried},
		"carried after it could not be measured":          {failed, carried},
		"carried after it could not be measured at start": {stopA, agentB(), at(1350, failed), carried},
		"carried twice": {gapped, carried, carried},
	} {
		out = append(out, mutation{id: LogEvents, name: "case 98 " + name, root: "tolerate_gaps = true\ntolerate_unmeasured = true", recipe: func(_ *testing.T, r *evidencetest.Recipe) { interrupt(r, events) }})
	}
	return out
}
