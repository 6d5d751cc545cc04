// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
)

func (a *appraiser) policyBinding() {
	if a.structure == BindingNone && (a.material == MaterialEvidence || a.material == MaterialParavisor) {
		a.Block(PolicyBinding, "nothing ties the vTPM to the report: see %s and %s", BindingReportData, BindingRuntimeData)
	} else {
		a.Decide(PolicyBinding, a.binding.rank() >= a.p.binding.rank(), "at least "+string(a.p.binding), string(a.binding),
			"vTPM and report hang together as %q, and the policy asks for %q or stronger", a.binding, a.p.binding)
	}
	a.policyAK()
	switch got := a.freshness(); {
	case a.p.freshness == AnyReport:
		a.Skip(PolicyFreshness, "the policy accepts a report of any age")
	case a.material == MaterialQuote:
		a.Skip(PolicyFreshness, "there is no report")
	case a.material == MaterialReport && a.expect.UnsafeAcceptReplay:
		a.Skip(PolicyFreshness, "nothing was expected of the report: it may be old")
	case got == UnknownReport && (a.Asked(ReportExpectedData) && !a.Passed(ReportExpectedData) || a.Asked(ParavisorUserData) && !a.Passed(ParavisorUserData)):
		a.Block(PolicyFreshness, "see %s and %s", ReportExpectedData, ParavisorUserData)
	case got == UnknownReport:
		a.Decide(PolicyFreshness, false, string(a.p.freshness), string(got), "nothing in the report holds the nonce, so that it is of unknown age")
	case a.p.freshness == AnchoredReport:
		a.Skip(PolicyFreshness, "the policy accepts an anchored report")
	case got == FreshReport && a.undated() != "":
		a.Block(PolicyFreshness, "see %s", a.undated())
	default:
		a.Decide(PolicyFreshness, got == FreshReport, "fresh", string(got), "the report is anchored: it was made for an earlier batch")
	}
	switch {
	case a.e.Anchor == nil:
		a.Skip(PolicyAnchorAge, "the report was made for this batch")
	case a.p.freshness == AnyReport:
		a.Skip(PolicyAnchorAge, "the policy accepts a report of any age")
	case a.p.freshness != AnchoredReport:
		a.Skip(PolicyAnchorAge, "the policy accepts no anchor at all")
	case a.anchor != nil && a.batch != nil && a.anchorComparable():
		age := a.anchorAge()
		a.Decide(PolicyAnchorAge, age <= a.p.maxAnchorAge, "at most "+a.p.maxAnchorAge.String(), age.String(), "the anchor is %v old by the clock of the vTPM", age)
	}
}

// undated is the first check that a report's age rests on and that did not pass.
func (a *appraiser) undated() CheckID {
	rests := []CheckID{ReportChain, ReportSignature}
	switch a.material {
	case MaterialEvidence:
		rests = append(rests, BindingReportData)
	case MaterialParavisor:
		rests = append(rests, BindingRuntimeData)
	}
	for _, id := range rests {
		if !a.Passed(id) {
			return id
		}
	}
	return ""
}

func (a *appraiser) policyPCRs() {
	if len(a.p.pcrs) == 0 {
		a.Skip(PolicyPCR, "the policy pins no PCR")
		return
	}
	if a.material == MaterialReport {
		a.Decide(PolicyPCR, false, "a quote", "none", "the policy pins a PCR, and a bare report comes with no quote")
		return
	}
	if a.batch == nil || a.batch.values == nil {
		return
	}
	for _, r := range a.p.pcrs {
		name := fmt.Sprintf("PCR %d of bank %s", r.index, r.bank)
		value, ok := a.batch.values[r.bank][r.index]
		found := "not quoted"
		if ok {
			found = hex.EncodeToString(value)
		}
		if !a.Decide(PolicyPCR, ok && contains(r.values, value), fmt.Sprintf("%s is one of %d listed values", name, len(r.values)), found, "%s is not what the policy pins", name) {
			return
		}
	}
}

var logPolicyChecks = []CheckID{PolicyLogGaps, PolicyLogUnmeasured, PolicyAgent, PolicyAppPresent, PolicyAppDigest, PolicyAppUnit, PolicyAppUnlisted}

func (a *appraiser) policyLog() {
	if a.p.logRequired {
		a.Decide(PolicyLog, a.e.Log != nil, "a measurement log", "none", "the policy needs the measurement log, and the evidence holds none")
	} else {
		a.Skip(PolicyLog, "the policy does not need a log")
	}
	if a.e.Log == nil {
		for _, id := range logPolicyChecks {
			a.Skip(id, "the evidence holds no log")
		}
		return
	}
	if a.log == nil {
		return
	}
	a.policyHistory()
	a.policyAgents()
	a.policyApps()
}

// policyHistory looks for what the log itself says it may have missed.
func (a *appraiser) policyHistory() {
	var gaps []string
	for _, g := range a.log.Gaps {
		gaps = append(gaps, fmt.Sprintf("record %d: %s", g.Record, g.Reason))
	}
	if a.log.Full {
		gaps = append(gaps, "the log is full and took nothing more")
	}
	a.tolerate(PolicyLogGaps, gaps, a.p.tolerateGaps, "changes may have happened unseen")
	var unmeasured []string
	for _, u := range a.log.Unmeasured {
		unmeasured = append(unmeasured, fmt.Sprintf("record %d: %s: %s", u.Record, u.App, u.Reason))
	}
	a.tolerate(PolicyLogUnmeasured, unmeasured, a.p.tolerateUnmeasured, "a declared application could not be measured")
}

// most findings of one check that are spelled out.
const most = 5

func (a *appraiser) tolerate(id CheckID, found []string, tolerated bool, what string) {
	text := firstOf(found)
	if tolerated {
		if len(found) > 0 {
			what = "the policy tolerates it: " + what + ": " + text
		} else {
			what = "the policy would tolerate it; there was none"
		}
		a.Skip(id, "%s", what)
		return
	}
	a.Decide(id, len(found) == 0, "none", text, "%s", what)
}

func firstOf(found []string) string {
	text := strings.Join(found[:min(len(found), most)], "; ")
	if n := len(found) - most; n > 0 {
		text += fmt.Sprintf("; and %d more", n)
	}
	return text
}

func (a *appraiser) policyAgents() {
	r := a.p.agent
	if len(r.versions) == 0 && len(r.digests) == 0 {
		a.Skip(PolicyAgent, "the policy names no agent")
		return
	}
	var other []string
	for _, g := range a.log.Agents {
		if len(r.versions) > 0 && !r.versions[g.Version] || len(r.digests) > 0 && !r.digests[g.Digest] {
			other = append(other, fmt.Sprintf("record %d: version %q, digest %s", g.Record, g.Version, g.Digest))
		}
	}
	if len(a.log.Agents) == 0 {
		other = append(other, "no agent start is recorded")
	}
	a.Decide(PolicyAgent, len(other) == 0, "only agents that the policy lists", firstOf(other), "an agent wrote to the log that the policy does not list")
}

// policyApps looks at everything that an application was since boot, not at what it
// is now: one that was tampered with may be back to normal by the time it is asked.
func (a *appraiser) policyApps() {
	var absent, digests, units, unlisted []string
	rules, measured := make(map[string]*appRule, len(a.p.apps)), make(map[string]bool, len(a.log.Apps))
	for i := range a.p.apps {
		rules[a.p.apps[i].name] = &a.p.apps[i]
	}
	for _, c := range a.log.Apps {
		measured[c.Name] = true
		r := rules[c.Name]
		if r == nil {
			unlisted = append(unlisted, strconv.Quote(c.Name))
			continue
		}
		for _, v := range c.Versions {
			if !r.digests[v.Digest] {
				digests = append(digests, fmt.Sprintf("record %d: %q has digest %s", v.Record, r.name, v.Digest))
			}
			if r.unit != "" && v.Unit != r.unit || r.user != "" && v.User != r.user {
				units = append(units, fmt.Sprintf("record %d: %q runs as unit %q, user %q", v.Record, r.name, v.Unit, v.User))
			}
		}
	}
	for _, r := range a.p.apps {
		if r.required && !measured[r.name] {
			absent = append(absent, strconv.Quote(r.name))
		}
	}
	if len(a.p.apps) == 0 {
		for _, id := range []CheckID{PolicyAppPresent, PolicyAppDigest, PolicyAppUnit} {
			a.Skip(id, "the policy lists no application")
		}
	} else {
		a.Decide(PolicyAppPresent, len(absent) == 0, "every required application", "without "+firstOf(absent), "a required application was not measured: %s", firstOf(absent))
		a.Decide(PolicyAppDigest, len(digests) == 0, "only digests that the policy lists", firstOf(digests), "since boot, an application had a digest that the policy does not list")
		a.Decide(PolicyAppUnit, len(units) == 0, "the unit and user that the policy names", firstOf(units), "an application was declared for another unit or user")
	}
	if !a.p.refuseUnlistedApps {
		a.Skip(PolicyAppUnlisted, "the policy does not refuse further applications; measured were: %s", orNone(firstOf(unlisted)))
	} else {
		a.Decide(PolicyAppUnlisted, len(unlisted) == 0, "only applications that the policy lists", firstOf(unlisted), "an application was measured that the policy does not list")
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// policyCaller looks at who asked. Unit and uid are a boundary; the executable is what
// the process was seen to run when it connected, and no more than that.
func (a *appraiser) policyCaller() {
	if a.statement == nil && a.material == MaterialEvidence {
		return
	}
	r, c := a.p.caller, evidence.Caller{}
	if a.statement != nil {
		c = a.statement.Caller
	}
	name := func(id CheckID, want, got, what string) {
		if want == "" {
			a.Skip(id, "the policy names no %s", what)
			return
		}
		a.Decide(id, want == got, strconv.Quote(want), strconv.Quote(got), "the statement was asked for by another %s", what)
	}
	name(PolicyCallerUnit, r.unit, c.Unit, "unit")
	name(PolicyCallerApp, r.app, c.App, "application")
	if r.uid == nil {
		a.Skip(PolicyCallerUser, "the policy names no uid")
	} else {
		a.Decide(PolicyCallerUser, *r.uid == c.UID && a.statement != nil, fmt.Sprint(*r.uid), fmt.Sprint(c.UID), "the statement was asked for by another user, or there is no statement")
	}
	if len(r.executables) == 0 && !r.covered {
		a.Skip(PolicyCallerExecutable, "the policy does not ask what the caller was seen to run")
		return
	}
	found, ok := "not observed", false
	if x := c.Executable; x != nil {
		found = fmt.Sprintf("%s, covered %t", x.State, x.Covered)
		ok = !r.covered || x.Covered
		if x.Digest != nil {
			found = x.Digest.String() + ", " + found
		}
		if len(r.executables) > 0 {
			ok = ok && x.Digest != nil && r.executables[*x.Digest]
		}
	}
	a.Decide(PolicyCallerExecutable, ok, "an executable that the policy lists, covered by its application where asked", found, "the caller was seen to run something else, or could not be seen")
}
