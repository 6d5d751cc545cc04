// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"cmp"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// FreshnessRules are rules about the age of the report.
type FreshnessRules struct {
	quiet
	Freshness    Freshness `toml:"freshness,omitempty" value:"one fresh anchored any" default:"\"fresh\"" doc:"|fresh|: the report must be made for this very batch. |anchored|: an earlier one is accepted; the nonce is fresh all the same. |any|: a report of any age, also one that does not show it, such as a paravisor's: a change of firmware, or a boot, after it is not seen"`
	MaxAnchorAge Duration  `toml:"max_anchor_age,omitempty" default:"none" doc:"with |anchored|, required: how old the anchor may be, as |\"90s\"|, |\"10m\"|, |\"24h\"|, by the clock of the vTPM and by that of the guest: by both it must be so young. The party that runs the vTPM can set the one, and the host can slow or pause the other, unless the launch has Secure TSC. So this stops a program in the guest that sets the vTPM's clock, a vTPM alone, and a leaked agent key alone"`
}

// Freshness says what the report was made for.
type Freshness string

// Freshnesses.
const (
	FreshReport    Freshness = "fresh"    // for the batch that contains the statement; raw material: for the nonce
	AnchoredReport Freshness = "anchored" // for an earlier batch, which the quote commits to
	UnknownReport  Freshness = "unknown"  // raw material: nothing in the report contains the verifier's nonce
	AnyReport      Freshness = "any"      // in a policy only: a report of any age is accepted
)

// Duration is a time.Duration that is text in a policy, such as "10m".
type Duration time.Duration

// malformed is the Duration of a text that is not a duration; [FreshnessRules] refuses it.
const malformed = Duration(-1)

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		v = time.Duration(malformed)
	}
	*d = Duration(v)
	return nil
}

// MarshalText encodes d for [Duration.UnmarshalText].
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String returns d as people write it.
func (d Duration) String() string { return time.Duration(d).String() }

var freshnessChecks = []check.Definition{
	{ID: "policy.freshness", Class: check.Policy, Ground: check.OnProcessor, Checks: "the report is fresh if the policy asks for it", Stops: "an earlier report in place of a new one"},
	{ID: "policy.anchor-age", Class: check.Policy, Ground: check.OnQuote, Checks: "the anchor is not older than the policy allows, by the clock of the vTPM and by that of the guest", Stops: "a report of long ago"},
}

// values requires an age exactly if anchored evidence is acceptable.
func (r *FreshnessRules) values(f *faults) {
	const key = "max_anchor_age"
	given := f.given(key, r.MaxAnchorAge != 0)
	switch {
	case r.freshness() == AnchoredReport && !given:
		f.fail("freshness", `"anchored" needs max_anchor_age, or a report of any age would be accepted`)
	case r.freshness() == AnyReport && given:
		f.fail(key, `freshness is "any", so an anchor of any age is accepted`)
	case r.freshness() == FreshReport && given:
		f.fail(key, `freshness is "fresh", so no anchor is accepted at all`)
	case given && (r.MaxAnchorAge < Duration(time.Second) || r.MaxAnchorAge > Duration(366*24*time.Hour)):
		f.fail(key, `want a duration from "1s" to "8784h"`)
	}
}

func (r *FreshnessRules) freshness() Freshness { return cmp.Or(r.Freshness, FreshReport) }

func (r *FreshnessRules) explain(_ *Policy, w *Words) {
	switch r.freshness() {
	case FreshReport:
		w.demand("The report was made for this very request.")
	case AnchoredReport:
		w.on(check.OnQuote, "the age of the report (max_anchor_age)")
		w.demand("The report is at most %v old, by the clock of the vTPM and by that of the guest. The party that runs the vTPM can set the one; the host can slow or pause the other, unless the launch has Secure TSC.", r.MaxAnchorAge)
	default:
		w.danger("freshness is \"any\": a report of any age is accepted, and a change of firmware after it is not seen.")
	}
}

func (r *FreshnessRules) survey() {
	r.Freshness, r.MaxAnchorAge = AnchoredReport, Duration(366*24*time.Hour)
}

func (*FreshnessRules) draft(g *Golden, d *Draft) {
	if g.bare() {
		d.root.dangerIf(true, "freshness = \"any\"", "only a nonce of 16 bytes or more, which you give to verify, dates a bare report.")
		return
	}
	d.root.offer("A report of its own for each request. Reports are scarce: an anchored one of some minutes takes far more requests.", "freshness = \"fresh\"\n# freshness = \"anchored\"\n# max_anchor_age = \"10m\"")
}

func (r *FreshnessRules) judge(_ *Policy, s *Subject, f *check.Findings) {
	a, want := s.Age, r.freshness()
	switch {
	case want == AnyReport:
		f.Skip("policy.freshness", "the policy accepts a report of any age")
	case !s.Material.Report:
		f.Skip("policy.freshness", "there is no report")
	case a.Replay:
		f.Skip("policy.freshness", "nothing was expected of the report: it may be old")
	case a.Freshness == UnknownReport && a.Open != "":
		f.Block("policy.freshness", "see %s", a.Open)
	case a.Freshness == UnknownReport:
		f.Decide("policy.freshness", false, string(want), string(a.Freshness), "nothing in the report contains a nonce that was compared, so its age is unknown")
	case want == AnchoredReport:
		f.Skip("policy.freshness", "the policy accepts an anchored report")
	case a.Freshness == FreshReport && a.Open != "":
		f.Block("policy.freshness", "see %s", a.Open)
	default:
		f.Decide("policy.freshness", a.Freshness == FreshReport, string(FreshReport), string(a.Freshness), "the report is anchored: it was made for an earlier batch")
	}
	switch {
	case !a.Anchored:
		f.Skip("policy.anchor-age", "the report was made for this batch")
	case want == AnyReport:
		f.Skip("policy.anchor-age", "the policy accepts a report of any age")
	case want != AnchoredReport:
		f.Skip("policy.anchor-age", "the policy accepts no anchor at all")
	case a.Known && a.GuestKnown:
		f.Decide("policy.anchor-age", max(a.Since, a.ByGuest) <= time.Duration(r.MaxAnchorAge), "at most "+r.MaxAnchorAge.String(), fmt.Sprintf("%v by the vTPM, %v by the guest", a.Since, a.ByGuest),
			"the anchor is %v old by the clock of the vTPM, and %v by that of the guest", a.Since, a.ByGuest)
	}
}
