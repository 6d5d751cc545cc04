// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"errors"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// TestMisuse: options that make no sense are errors, whatever the evidence is.
func TestMisuse(t *testing.T) {
	document := evidencetest.New().Encode(t)
	for name, change := range map[string]func(*options){
		"no policy":             func(o *options) { o.Policy = nil },
		"no nonce":              func(o *options) { o.Nonce = nil },
		"nonce and replay":      func(o *options) { o.AcceptReplay = true },
		"short nonce":           func(o *options) { o.Nonce = o.Nonce[:15] },
		"no time":               func(o *options) { o.Time = time.Time{} },
		"empty nonce":           func(o *options) { o.Nonce, o.AcceptReplay = []byte{}, true },
		"empty public key":      func(o *options) { o.PublicKey = []byte{} },
		"empty user data":       func(o *options) { o.UserData = []byte{} },
		"empty report data":     func(o *options) { o.ReportData = []byte{} },
		"state of an empty log": func(o *options) { o.LogState = &LogState{} },
		"state of another form": func(o *options) {
			o.LogState = &LogState{Head: evidence.LogHead{Count: 1}, ReportID: "AB"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := baseOptions(t)
			change(&o)
			if a, err := appraiseEvidence(document, o); !errors.Is(err, ErrMisuse) || a != nil {
				t.Errorf("got %v, %v", a, err)
			}
		})
	}
}

// TestEmptyReportData: it must not replace the nonce of a bare report.
func TestEmptyReportData(t *testing.T) {
	o := baseOptions(t)
	o.Policy = mustPolicy(t, makePolicy("binding = \"none\"\nlog = \"optional\"\nfreshness = \"any\"", ""))
	report := evidencetest.NewReport(snp.Genoa)
	body, certificates := report.Make(t, [64]byte{1, 2, 3})
	r := RawReport{Kind: evidence.ReportSNP, Report: body, Certificates: certificates}
	if a, err := appraiseReport(r, o); err != nil || a.Check(ReportExpectedData).Verdict != Fail {
		t.Fatalf("%v\n%s", err, explain(a))
	}
	o.ReportData = []byte{}
	if a, err := appraiseReport(r, o); !errors.Is(err, ErrMisuse) || a != nil {
		t.Errorf("got %v, %v", a, err)
	}
}

// TestReplayIsSaid: accepted without a nonce, and the appraisal does not keep it quiet.
func TestReplayIsSaid(t *testing.T) {
	o := baseOptions(t)
	o.Nonce, o.AcceptReplay = nil, true
	a, err := appraiseEvidence(evidencetest.New().Encode(t), o)
	if err != nil || a.Verdict != Pass {
		t.Fatal(err, explain(a))
	}
	if c := a.Check(StatementNonce); c.Verdict != NotAsserted || c.Required {
		t.Errorf("%+v", c)
	}
	if !says(a, "may be old") || !says(a, "TEST ROOT") {
		t.Errorf("sentences are %q", a.Sentences)
	}
}

// TestTestRootIsRefused: without the test root, evidence of a simulator is not accepted.
func TestTestRootIsRefused(t *testing.T) {
	o := baseOptions(t)
	o.Roots = nil
	a, err := appraiseEvidence(evidencetest.New().Encode(t), o)
	if err != nil || a.Verdict != Fail || a.Check(ReportChain).Verdict != Fail || a.Class != ClassBinding {
		t.Fatalf("%v\n%s", err, explain(a))
	}
}

// TestEnrolledAK: the origin of the AK is what the policy says, and no more.
func TestEnrolledAK(t *testing.T) {
	r := evidencetest.New()
	o := baseOptions(t)
	a, err := appraiseEvidence(r.Encode(t), o)
	if err != nil || a.AKOrigin != AKNone {
		t.Fatalf("%v, origin %s", err, a.AKOrigin)
	}
	c, err := a.Claims()
	if err != nil {
		t.Fatal(err)
	}
	o.Policy = mustPolicy(t, makePolicy(`ak_names = ["`+c.AKName+`"]`, ""))
	if a, err = appraiseEvidence(r.Encode(t), o); err != nil || a.Verdict != Pass || a.AKOrigin != AKEnrolled {
		t.Fatalf("%v, origin %s\n%s", err, a.AKOrigin, explain(a))
	}
}

// TestLogFromAnIndex: with the state of an earlier appraisal the rest of the log is
// enough, what was seen before still counts, and the result is as that of the whole.
func TestLogFromAnIndex(t *testing.T) {
	o := baseOptions(t)
	continued(func(*LogState) {})(t, &o)
	before := o.LogState.Clone()
	r := evidencetest.New()
	r.LogStart = 2
	part, err := appraiseEvidence(r.Encode(t), o)
	if err != nil || part.Verdict != Pass {
		t.Fatal(err, explain(part))
	}
	whole, err := appraiseEvidence(evidencetest.New().Encode(t), baseOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	got, want := encoded(t, part.Accepted.claims.Log), encoded(t, whole.Accepted.claims.Log)
	if got != want {
		t.Errorf("state after the part\n%s\nafter the whole\n%s", got, want)
	}
	if encoded(t, o.LogState) != encoded(t, before) {
		t.Error("the caller's state was changed")
	}
	var again LogState
	if err := strictjson.Decode([]byte(got), 1<<20, &again); err != nil || encoded(t, &again) != got {
		t.Errorf("the state does not survive JSON: %v", err)
	}
}

func encoded(t *testing.T, v any) string {
	t.Helper()
	b, err := strictjson.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestAnchorAge: by the clock of the vTPM, in the result and in words.
func TestAnchorAge(t *testing.T) {
	r := evidencetest.New()
	anchored(r)
	o := baseOptions(t)
	o.Policy = mustPolicy(t, makePolicy(anchoredPolicy, ""))
	a, err := appraiseEvidence(r.Encode(t), o)
	if err != nil || a.Verdict != Pass {
		t.Fatal(err, explain(a))
	}
	if a.Freshness != AnchoredReport || time.Duration(a.AnchorAge) != time.Minute || !says(a, "by the clock of the vTPM") {
		t.Errorf("%s, age %v, %q", a.Freshness, a.AnchorAge, a.Sentences)
	}
}

// TestAnchoredAcrossRestart: case 91 in full, two starts of the agent. The report
// vouches for the key of the first; the second cannot use it.
func TestAnchoredAcrossRestart(t *testing.T) {
	r := evidencetest.New()
	anchored(r)
	r.Events = append(r.Events, evidencetest.Agent("agent-start", "1.0.0", evidencetest.Key('b')))
	old := r.Build(t).Report
	r.AgentKey = evidencetest.Key('b')
	r.Document = func(e *evidence.Evidence) { e.Report = old }
	o := baseOptions(t)
	o.Policy = mustPolicy(t, makePolicy(anchoredPolicy, ""))
	a, err := appraiseEvidence(r.Encode(t), o)
	if err != nil || a.Verdict != Fail || a.Check(BindingReportData).Verdict != Fail || a.Binding != BindingNone {
		t.Fatal(err, explain(a))
	}
}

// TestClonedTPM: case 65. A copy of the TPM's state gives quotes that no verifier can
// tell apart; that is documented in docs/verify.md, and an enrolled AK does not help.
func TestClonedTPM(t *testing.T) {
	one, two := evidencetest.New(), evidencetest.New()
	two.Report.Leaf.HWID = append([]byte{1}, evidencetest.ChipID[1:]...)
	two.Report.Body = func(b []byte) { b[evidencetest.AtChipID] = 1 }
	for _, r := range []*evidencetest.Recipe{one, two} {
		if a, err := appraiseEvidence(r.Encode(t), baseOptions(t)); err != nil || a.Verdict != Pass {
			t.Fatal(err, explain(a))
		}
	}
}
