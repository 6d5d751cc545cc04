// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// TestBasesAreSaid: what rests on another party's word is never said without naming that party.
func TestBasesAreSaid(t *testing.T) {
	said := map[string]bool{}
	for _, b := range []verify.Basis{verify.ByProcessor, verify.ByLaunch, verify.ByTPM, verify.ByGuest} {
		c := verify.Check{Basis: b, Sentence: "it holds"}
		if got := Sentence(c); By(b) == "" || said[By(b)] || got != By(b)+": it holds" {
			t.Errorf("of %q is said %q", b, got)
		}
		said[By(b)] = true
	}
	if got := Sentence(verify.Check{Basis: verify.ByVerifier, Sentence: "it holds"}); got != "it holds" {
		t.Errorf("of what the verifier did is said %q", got)
	}
	if got := OnGuestWord(&verify.Appraisal{Basis: verify.ByGuest}); got != ", by the guest's word" {
		t.Errorf("the guest's word: %q", got)
	}
	for _, b := range []verify.Basis{"", verify.ByTPM, verify.ByLaunch, verify.ByProcessor} {
		if got := OnGuestWord(&verify.Appraisal{Basis: b}); got != "" {
			t.Errorf("of %q is said %q", b, got)
		}
	}
}

// TestTies: a key that only a list apart from the policy names is not said to be known by the policy,
// and one that nothing names is known by the report alone.
func TestTies(t *testing.T) {
	apart := func(s keys.State) *verify.EnrolmentsUsed { return &verify.EnrolmentsUsed{Count: 2, State: s} }
	for _, c := range []struct {
		origin     verify.AKOrigin
		enrolments *verify.EnrolmentsUsed
		want       string
	}{
		{verify.AKNone, nil, "the report alone"},
		{verify.AKNone, apart(keys.Approved), "the report alone"},
		{verify.AKEnrolled, nil, "the policy"},
		{verify.AKEnrolled, apart(""), "the policy"},
		{verify.AKEnrolled, apart(keys.Pending), "the policy"},
		{verify.AKEnrolled, apart(keys.Approved), "an approved enrolment"},
		{verify.AKCertified, apart(keys.Approved), "certificate"},
	} {
		a := &verify.Appraisal{AKOrigin: c.origin, Enrolments: c.enrolments, Binding: verify.BindingGuestAsserted, Freshness: verify.FreshReport}
		if got, want := Ties(a), "Binding guest-asserted, AK known by "+c.want+", report fresh."; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestOpen: what refuses the evidence comes before what nothing asked for, also if both have the same
// reason, and each check is there once.
func TestOpen(t *testing.T) {
	open := func(id verify.CheckID, required bool, why string) verify.Check {
		return verify.Check{ID: id, Verdict: verify.NotAsserted, Required: required, Sentence: why}
	}
	o := OpenOf(&verify.Appraisal{Checks: []verify.Check{
		open("ima.decode", false, "no list"), {ID: "quote.magic", Verdict: verify.Pass}, open("log.replay", true, "no log"),
		open("log.head", false, "no log"), {ID: "ak.name", Verdict: verify.Fail, Required: true}, open("ima.replay", false, "no list"),
	}})
	if want := []Reason{{true, "no log"}, {false, "no list"}, {false, "no log"}}; !slices.Equal(o.Reasons, want) || o.Total != 4 {
		t.Errorf("%d, by %+v", o.Total, o.Reasons)
	}
	for r, want := range map[Reason]string{{true, "no log"}: "log.replay", {false, "no list"}: "ima.decode ima.replay", {false, "no log"}: "log.head"} {
		if got := strings.Join(o.IDs[r], " "); got != want {
			t.Errorf("%+v: %s, want %s", r, got, want)
		}
	}
}

// TestNames: "all of" a part is said only if each check of the part is named.
func TestNames(t *testing.T) {
	var a verify.Appraisal
	for _, id := range []verify.CheckID{"log.head", "log.replay", "quote.magic", "quote.type", "quote.name", "anchor.age", "anchor.log", "svsm.kind", "svsm.key", "policy.ak", "policy.app"} {
		a.Checks = append(a.Checks, verify.Check{ID: id})
	}
	p := PartsOf(&a)
	for _, c := range []struct{ ids, name, optional string }{
		{"", "", ""},
		{"log.head quote.magic quote.type anchor.age anchor.log", "log.head, quote (magic, type), all 2 of anchor", "log.head, quote (magic, type), all 2 of anchor"},
		{"anchor.age anchor.log svsm.kind", "all 2 of anchor, svsm.kind", "all 2 of anchor, svsm.kind"},
		{"anchor.age anchor.log quote.type svsm.kind svsm.key", "quote.type, all of anchor and svsm", "quote.type, all of anchor and svsm"},
		{"policy.ak", "policy.ak", "policy (1 rule that it lacks or that do not apply)"},
		{"policy.ak log.head policy.app", "log.head, all 2 of policy", "log.head, policy (2 rules that it lacks or that do not apply)"},
	} {
		ids := strings.Fields(c.ids)
		if got := p.Name(ids); got != c.name {
			t.Errorf("%s: %q, want %q", c.ids, got, c.name)
		}
		if got := p.NameOptional(ids); got != c.optional {
			t.Errorf("%s, optional: %q, want %q", c.ids, got, c.optional)
		}
	}
}

// TestBitsAreSaid: each bit of a guest policy and of a platform changes what is said of it, also one
// without a meaning that we know, and what lets the host in comes first.
func TestBitsAreSaid(t *testing.T) {
	const usual = snp.PolicyReservedOne
	if got := GuestPolicy(usual | snp.PolicyDebug | snp.PolicyMigrationAgent | snp.PolicySMT); !strings.HasPrefix(got[0], "DEBUG") || !strings.HasPrefix(got[1], "MIGRATION AGENT") {
		t.Errorf("a dangerous policy: %q", got)
	}
	for bit := range 64 {
		if without, with := GuestPolicy(usual&^(1<<bit)), GuestPolicy(usual|1<<bit); slices.Equal(without, with) {
			t.Errorf("bit %d of a guest policy is not said: %q", bit, with)
		}
		if without, with := Platform(0), Platform(1<<bit); slices.Equal(without, with) {
			t.Errorf("bit %d of a platform is not said: %q", bit, with)
		}
	}
}
