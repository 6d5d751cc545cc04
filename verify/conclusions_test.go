// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// TestGravestClass: of several failures the class is that of the gravest.
func TestGravestClass(t *testing.T) {
	revoked := func(t *testing.T, o *options) {
		o.Revocation = []*snp.RevocationList{evidencetest.RevocationList(t, snp.Genoa, o.Time.AddDate(0, -1, 0), o.Time.AddDate(0, 1, 0), evidencetest.Serial)}
	}
	expired := func(_ *testing.T, o *options) { o.Time = o.Time.AddDate(6, 0, 1) } // lists past their time still revoke
	refused := func(t *testing.T, o *options) { o.Policy = mustPolicy(t, makePolicy(`products = ["turin"]`, "")) }
	forged := func(_ *testing.T, o *options) { o.Nonce = bytes.Repeat([]byte{1}, 32) }
	for _, c := range []struct {
		name   string
		faults []func(*testing.T, *options)
		want   Class
	}{
		{"policy", []func(*testing.T, *options){refused}, ClassPolicy},
		{"collateral and policy", []func(*testing.T, *options){expired, refused}, ClassCollateral},
		{"revoked and policy", []func(*testing.T, *options){revoked, refused}, ClassRevoked},
		{"revoked and collateral", []func(*testing.T, *options){revoked, expired}, ClassRevoked},
		{"forged and revoked", []func(*testing.T, *options){forged, revoked}, ClassBinding},
		{"all", []func(*testing.T, *options){refused, revoked, expired, forged}, ClassBinding},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := baseOptions(t)
			for _, f := range c.faults {
				f(t, &o)
			}
			a, err := appraiseEvidence(evidencetest.New().Encode(t), o)
			if err != nil || len(failedIDs(a)) != len(c.faults) || a.Class != c.want {
				t.Errorf("%v, class %v, want %v\n%s", err, a.Class, c.want, explain(a))
			}
		})
	}
}

// TestAgeDoesNotWrapAround: an age beyond the range of a duration is not a short one. The
// party that runs the vTPM chooses its clock.
func TestAgeDoesNotWrapAround(t *testing.T) {
	r := evidencetest.New()
	anchored(r)
	r.Batch.Clock = r.Anchor.Clock + 18446744073710 // in nanoseconds a little more than 2^64
	o := baseOptions(t)
	o.Policy = mustPolicy(t, makePolicy(anchoredPolicy, ""))
	a, err := appraiseEvidence(r.Encode(t), o)
	if err != nil || !slices.Equal(failedIDs(a), []CheckID{PolicyAnchorAge}) || time.Duration(a.AnchorAge) < 100*365*24*time.Hour {
		t.Errorf("%v, age %v\n%s", err, a.AnchorAge, explain(a))
	}
}

// TestAgeLimitIsIncluded: an anchor as old as the policy allows, and of the same moment.
func TestAgeLimitIsIncluded(t *testing.T) {
	for _, age := range []uint64{0, 120_000} {
		r := evidencetest.New()
		anchored(r)
		r.Batch.Clock = r.Anchor.Clock + age
		o := baseOptions(t)
		o.Policy = mustPolicy(t, makePolicy(anchoredPolicy, ""))
		a, err := appraiseEvidence(r.Encode(t), o)
		if err != nil || a.Verdict != Pass || time.Duration(a.AnchorAge).Milliseconds() != int64(age) {
			t.Errorf("%v, age %v\n%s", err, a.AnchorAge, explain(a))
		}
	}
}

// TestWithoutLogIsSaid: nothing is known of applications then, and only then is it said.
func TestWithoutLogIsSaid(t *testing.T) {
	for _, none := range []bool{false, true} {
		r := evidencetest.New()
		r.NoLog = none
		o := baseOptions(t)
		o.Policy = mustPolicy(t, makePolicy(`log = "optional"`, ""))
		a, err := appraiseEvidence(r.Encode(t), o)
		if err != nil || a.Verdict != Pass || says(a, "contains no log") != none || (a.Accepted.claims.Log == nil) != none {
			t.Errorf("%v, %q", err, a.Sentences)
		}
	}
}

// TestUnknownAgeIsSaid: each kind of raw material says what it knows of its age, and a
// quote that was compared with nothing is not called new.
func TestUnknownAgeIsSaid(t *testing.T) {
	replayed := func(o *options) { o.Nonce, o.AcceptReplay = nil, true }
	const age, quote = "report is of unknown age", "quote contains the nonce and is new"
	for _, c := range []struct {
		name       string
		policy     string
		raw        makeMaterial
		age, quote bool
	}{
		{"bare", makePolicy(bareRoot, ""), bare(nil, nil), false, false},
		{"bare, report data", makePolicy(bareRoot+"\nfreshness = \"any\"", ""), bare(nil, func(_ *RawReport, o *options) { o.Nonce, o.ReportData = nil, evidencetest.Nonce }), false, false},
		{"bare, replayed", makePolicy(bareRoot, ""), bare(nil, func(_ *RawReport, o *options) { replayed(o) }), true, false},
		{"paravisor", paravisorPolicy("paravisor", ""), paravisorSet(nil, nil), false, false},
		{"paravisor, no user data", paravisorPolicy("paravisor", `freshness = "any"`), paravisorSet(nil, func(_ *AzureSet, o *options) { o.UserData = nil }), true, true},
		{"paravisor, replayed", paravisorPolicy("paravisor", `freshness = "any"`), paravisorSet(nil, func(_ *AzureSet, o *options) { replayed(o) }), true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := baseOptions(t)
			o.Policy = mustPolicy(t, c.policy)
			a, err := c.raw(t, &o).appraise(o, nil)
			if err != nil || a.Verdict != Pass {
				t.Fatal(err, explain(a))
			}
			if says(a, age) != c.age || says(a, quote) != c.quote {
				t.Errorf("%q", a.Sentences)
			}
		})
	}
}

// TestFreshnessRestsOnUserData: a paravisor's report whose user data is another than the
// expected is not called fresh by any check.
func TestFreshnessRestsOnUserData(t *testing.T) {
	o := baseOptions(t)
	o.Policy = mustPolicy(t, paravisorPolicy("paravisor", ""))
	m := paravisorSet(nil, func(_ *AzureSet, o *options) { o.UserData = append(bytes.Clone(evidencetest.Nonce), 1) })(t, &o)
	a, err := m.appraise(o, nil)
	if err != nil || !slices.Equal(failedIDs(a), []CheckID{ParavisorUserData}) {
		t.Fatal(err, explain(a))
	}
	if c := a.Check(PolicyFreshness); c.Verdict != NotAsserted || !c.Required {
		t.Errorf("%+v", c)
	}
}

// TestFreshnessRestsOnChainAndRuntimeData: a report under an untrusted root, or
// made for other runtime data, is not called fresh by any check.
func TestFreshnessRestsOnChainAndRuntimeData(t *testing.T) {
	o := baseOptions(t)
	o.Roots = nil
	a, err := appraiseEvidence(evidencetest.New().Encode(t), o)
	if err != nil || !slices.Equal(failedIDs(a), []CheckID{ReportChain}) {
		t.Fatal(err, explain(a))
	}
	if c := a.Check(PolicyFreshness); c.Verdict != NotAsserted || !c.Required || a.Freshness != "" {
		t.Errorf("%+v, freshness %q", c, a.Freshness)
	}
	o = baseOptions(t)
	o.Policy = mustPolicy(t, paravisorPolicy("paravisor", ""))
	m := paravisorSet(blob(func(b []byte) { b[bytes.Index(b, []byte("secure"))] = 'S' }), nil)(t, &o)
	if a, err = m.appraise(o, nil); err != nil || !slices.Equal(failedIDs(a), []CheckID{BindingRuntimeData}) {
		t.Fatal(err, explain(a))
	}
	if c := a.Check(PolicyFreshness); c.Verdict != NotAsserted || !c.Required || a.Freshness != "" || a.Binding != BindingNone {
		t.Errorf("%+v, freshness %q, binding %s", c, a.Freshness, a.Binding)
	}
}

// TestNothingIsReadFromABrokenLog: what a log says before its fault is not judged by a rule.
func TestNothingIsReadFromABrokenLog(t *testing.T) {
	r := evidencetest.New()
	rewritten(2, []byte(`{"type":"later"}`))(t, r)
	o := baseOptions(t)
	o.Policy = mustPolicy(t, makePolicy(`unlisted_apps = "refuse"`, "[agent]\nversions = [\"1.0.0\"]"))
	a, err := appraiseEvidence(r.Encode(t), o)
	if err != nil || !slices.Equal(failedIDs(a), []CheckID{LogEvents}) {
		t.Fatal(err, explain(a))
	}
	if c := a.Check(LogDigests); c.Verdict != Pass || !strings.Contains(c.Sentence, "before number 2") {
		t.Errorf("%+v", c)
	}
	for _, id := range []CheckID{PolicyLogGaps, PolicyLogUnmeasured, PolicyAgent, PolicyAppUnlisted} {
		if c := a.Check(id); c.Verdict != NotAsserted || !c.Required {
			t.Errorf("%+v", c)
		}
	}
}

// TestCurrentVersion: of several versions the current one is that which was measured last.
func TestCurrentVersion(t *testing.T) {
	r := evidencetest.New()
	for _, content := range []string{"1", "2", "1"} {
		r.Events = append(r.Events, evidencetest.App("ledger", "ledger.service", "ledger", content))
	}
	a, err := appraiseEvidence(r.Encode(t), baseOptions(t))
	if err != nil || a.Verdict != Pass {
		t.Fatal(err, explain(a))
	}
	i := slices.IndexFunc(a.Accepted.claims.Log.Apps, func(c AppClaim) bool { return c.Name == "ledger" })
	if app := a.Accepted.claims.Log.Apps[i]; len(app.Versions) != 2 || app.Current != 0 {
		t.Errorf("%+v", app)
	}
}

// TestWhatIsAllowedIsNotPassed: if the policy accepts what a cautious one refuses, the
// check does not say of the machine what is not true. If the machine is as it should
// be, the check passes all the same.
func TestWhatIsAllowedIsNotPassed(t *testing.T) {
	for _, c := range []struct {
		id           CheckID
		root, tables string
		change       func(*testing.T, *evidencetest.Recipe)
	}{
		{PolicyDebug, "", "[guest_policy]\nallow_debug = true", body(setPolicy(1 << 19))},
		{PolicyMigrationAgent, "", "[guest_policy]\nallow_migration_agent = true", body(setPolicy(1 << 18))},
		{PolicyCXL, "", "[guest_policy]\nallow_cxl = true", body(setPolicy(1 << 21))},
		{PolicyGuestReserved, "", "[guest_policy]\nallow_reserved_bits = true", body(setPolicy(1 << 40))},
		{PolicyProvisional, "allow_provisional_firmware = true", "", body(func(b []byte) { b[evidencetest.AtCurrentTCB+7]++ })},
		{PolicyChip, "allow_masked_chip = true", "", body(func(b []byte) { clear(b[evidencetest.AtChipID : evidencetest.AtChipID+64]) })},
		{PolicyLaunch, `unlisted_launch = "allow"`, "", body(func(b []byte) { b[evidencetest.AtMeasurement] ^= 1 })},
	} {
		t.Run(string(c.id), func(t *testing.T) {
			o := baseOptions(t)
			o.Policy = mustPolicy(t, makePolicy(c.root, c.tables))
			changed := evidencetest.New()
			c.change(t, changed)
			for want, r := range map[Verdict]*evidencetest.Recipe{NotAsserted: changed, Pass: evidencetest.New()} {
				a, err := appraiseEvidence(r.Encode(t), o)
				if err != nil || a.Verdict != Pass {
					t.Fatal(err, explain(a))
				}
				if got := a.Check(c.id); got.Verdict != want || want == NotAsserted && (got.Required || got.Sentence == definition(c.id).Checks) {
					t.Errorf("%+v, want %s", got, want)
				}
			}
		})
	}
}

func definition(id CheckID) Definition {
	return definitions[slices.IndexFunc(definitions, func(d Definition) bool { return d.ID == id })]
}

// TestExpiredListIsNotCurrent: a list past its time that revokes is not called current.
func TestExpiredListIsNotCurrent(t *testing.T) {
	o := baseOptions(t)
	o.Revocation = []*snp.RevocationList{evidencetest.RevocationList(t, snp.Genoa, o.Time.AddDate(0, -3, 0), o.Time.AddDate(0, -1, 0), evidencetest.Serial)}
	a, err := appraiseEvidence(evidencetest.New().Encode(t), o)
	if err != nil || a.Class != ClassRevoked || a.Check(ReportRevocationList).Verdict != NotAsserted {
		t.Errorf("%v, %+v", err, a.Check(ReportRevocationList))
	}
}

// TestMaskedChipKeys: case 58. If the host took the chip's keys out of use, no certificate
// helps, and the verifier does not say that one is missing.
func TestMaskedChipKeys(t *testing.T) {
	for masked, want := range map[uint32]CheckID{0: ReportCertificate, 2: ReportSigner} {
		r := evidencetest.New()
		body(le32(evidencetest.AtKeyInfo, masked))(t, r)
		r.Document = func(e *evidence.Evidence) { e.Certificates = nil }
		a, err := appraiseEvidence(r.Encode(t), baseOptions(t))
		if err != nil || !slices.Equal(failedIDs(a), []CheckID{want}) {
			t.Errorf("mask_chip_key %d: %v, failed %v, want %s", masked, err, failedIDs(a), want)
		}
	}
}
