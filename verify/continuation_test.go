// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// TestBootByReportID: case 100. The name of a boot that the processor signs tells another
// boot from the same one, whatever the vTPM says of its keys and resets. If one of the two
// names is not known, the word of the vTPM has to do.
func TestBootByReportID(t *testing.T) {
	const same, other, unknown = 1, 2, 0
	for _, c := range []struct {
		name        string
		known, now  byte
		resets      uint32 // of the vTPM since
		otherAK     bool
		otherLog    bool
		want        Verdict
		byProcessor bool // the sentence about another boot rests on the processor
	}{
		{"same boot, later state", same, same, 0, false, false, Pass, false},
		{"same boot, later state, the vTPM denies it", same, same, 1, true, false, Pass, false},
		{"same boot, another log", same, same, 0, false, true, Fail, false},
		{"same boot, another log, the vTPM was reset", same, same, 1, false, true, Fail, false},
		{"same boot, another log, another AK", same, same, 0, true, true, Fail, false},
		{"another boot", same, other, 1, false, true, NotAsserted, true},
		{"another boot, another AK", same, other, 0, true, true, NotAsserted, true},
		{"another boot, the vTPM was not reset", same, other, 0, false, true, Fail, false},
		{"another boot, the log of the known one", same, other, 0, false, false, Fail, false},
		{"not known then, the vTPM was reset", unknown, same, 1, false, true, NotAsserted, false},
		{"not known then, the vTPM was not reset", unknown, same, 0, false, true, Fail, false},
		{"not shown now, another AK", same, unknown, 0, true, true, NotAsserted, false},
		{"not shown now, same AK", same, unknown, 0, false, true, Fail, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := baseOptions(t)
			continued(func(s *LogState) {
				if s.ReportID = ""; c.known != unknown {
					bootAt(c.known)(s)
				}
			})(t, &o)
			r := evidencetest.New()
			bootedAs(c.now, nil)(t, r)
			if c.otherLog {
				otherAgent(t, r)
			}
			if c.otherAK {
				r.AK = evidencetest.ECCKey('o')
			}
			r.Batch.Reset += c.resets
			a, err := appraiseEvidence(r.Encode(t), o)
			if err != nil {
				t.Fatal(err)
			}
			if got := a.Check(LogContinuation); got.Verdict != c.want || (a.Verdict == Fail) != (c.want == Fail) {
				t.Fatalf("%+v\n%s", got, explain(a))
			}
			if c.want == NotAsserted && says(a, "by the REPORT_ID that the processor signs") != c.byProcessor {
				t.Errorf("%q", a.Sentences)
			}
			if a.Verdict == Pass && c.now != unknown && (a.Accepted.claims.Log.ReportID != repeated(c.now, 32) || a.Accepted.claims.Machine.ReportID != repeated(c.now, 32)) {
				t.Errorf("state of boot %q, machine %q", a.Accepted.claims.Log.ReportID, a.Accepted.claims.Machine.ReportID)
			}
		})
	}
}

// TestContinuationWithoutLog: a policy that asks for a known history is not met by leaving
// the log out, whatever the caller begins.
func TestContinuationWithoutLog(t *testing.T) {
	for _, known := range []bool{false, true} {
		o := baseOptions(t)
		o.Policy = mustPolicy(t, makePolicy(`continuation = "required"`, ""))
		o.NewHistory = true
		if known {
			continued(bootAt(1))(t, &o)
		}
		r := evidencetest.New()
		r.NoLog = true
		a, err := appraiseEvidence(r.Encode(t), o)
		if err != nil || a.Check(PolicyContinuation).Verdict != Fail || a.Check(PolicyLog).Verdict != Fail {
			t.Errorf("known %t: %v\n%s", known, err, explain(a))
		}
	}
}

// TestNewHistory: the caller may begin a history that the policy wants to be known, and
// never one that contradicts what is known of the same boot.
func TestNewHistory(t *testing.T) {
	for _, c := range []struct {
		name    string
		known   bool
		recipe  func(*testing.T, *evidencetest.Recipe)
		verdict Verdict // of the check of the policy
		accept  bool
	}{
		{"nothing known", false, bootedAs(1, nil), NotAsserted, true},
		{"another boot", true, bootedAs(2, rebooted), NotAsserted, true},
		{"later state", true, bootedAs(1, nil), Pass, true},
		{"another history of the same boot", true, bootedAs(1, otherAgent), NotAsserted, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := baseOptions(t)
			o.Policy = mustPolicy(t, makePolicy(`continuation = "required"`, ""))
			o.NewHistory = true
			if c.known {
				continued(bootAt(1))(t, &o)
			}
			r := evidencetest.New()
			c.recipe(t, r)
			a, err := appraiseEvidence(r.Encode(t), o)
			if err != nil || (a.Verdict == Pass) != c.accept || a.Check(PolicyContinuation).Verdict != c.verdict {
				t.Errorf("%v, %+v\n%s", err, a.Check(PolicyContinuation), explain(a))
			}
		})
	}
}
