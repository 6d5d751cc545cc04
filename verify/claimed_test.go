// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestNothingIsClaimedOfRefusedEvidence: what rests on a signature or commitment that
// does not verify is not said, neither in the result nor by a check.
func TestNothingIsClaimedOfRefusedEvidence(t *testing.T) {
	for _, c := range []struct {
		name   string
		root   string
		recipe func(*evidencetest.Recipe)
		open   CheckID
	}{
		{"report of another batch", "", func(r *evidencetest.Recipe) {
			r.ReportOf = func(s evidence.Snapshot) evidence.Snapshot { s.Tree.Size++; return s }
		}, PolicyFreshness},
		{"unsigned report", "", func(r *evidencetest.Recipe) {
			r.Document = func(e *evidence.Evidence) { e.Report.Bytes[0x2A0] ^= 1 }
		}, PolicyFreshness},
		{"unsigned anchor", anchoredPolicy, func(r *evidencetest.Recipe) {
			anchored(r)
			r.AnchorAK = evidencetest.ECCKey('o')
		}, PolicyAnchorAge},
		{"unsigned batch", anchoredPolicy, func(r *evidencetest.Recipe) {
			anchored(r)
			r.Batch.Signature = func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
		}, PolicyAnchorAge},
		{"clocks of two hierarchies", anchoredPolicy, func(r *evidencetest.Recipe) {
			anchored(r)
			r.Batch.QualifiedSigner = append([]byte{0, 0x0b}, bytes.Repeat([]byte{0x52}, 32)...)
		}, PolicyAnchorAge},
		{"reset since the anchor", anchoredPolicy, func(r *evidencetest.Recipe) { anchored(r); r.Batch.Reset++ }, PolicyAnchorAge},
		{"resumed since the anchor", anchoredPolicy, func(r *evidencetest.Recipe) { anchored(r); r.Batch.Restart++ }, PolicyAnchorAge},
		{"clock that went back", anchoredPolicy, func(r *evidencetest.Recipe) { anchored(r); r.Batch.Clock = r.Anchor.Clock - 1 }, PolicyAnchorAge},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := evidencetest.New()
			c.recipe(r)
			o := baseOptions(t)
			o.Policy = mustPolicy(t, makePolicy(c.root, ""))
			a, err := appraiseEvidence(r.Encode(t), o)
			if err != nil || a.Verdict != Fail || a.Class != ClassBinding {
				t.Fatal(err, explain(a))
			}
			if a.Freshness != "" || a.AnchorAge != 0 || a.Binding != BindingNone || a.AKOrigin != AKNone {
				t.Errorf("freshness %q, age %v, binding %s, AK %s", a.Freshness, a.AnchorAge, a.Binding, a.AKOrigin)
			}
			if got := a.Check(c.open); got.Verdict != NotAsserted || !got.Required {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestFreshnessOfWhatThePolicyRefuses: genuine, and not what the policy asks for; what it
// is may be said.
func TestFreshnessOfWhatThePolicyRefuses(t *testing.T) {
	o := baseOptions(t)
	o.Policy = mustPolicy(t, makePolicy(`products = ["turin"]`, ""))
	a, err := appraiseEvidence(evidencetest.New().Encode(t), o)
	if err != nil || a.Class != ClassPolicy || a.Freshness != FreshReport || a.Binding != BindingGuestAsserted {
		t.Errorf("%v, freshness %q, binding %s\n%s", err, a.Freshness, a.Binding, explain(a))
	}
}

// TestInventedFirmwareLog: PCRs that an unprotected log explains are
// named, and pinning them takes the words away.
func TestInventedFirmwareLog(t *testing.T) {
	const words = "firmware's log alone"
	r := evidencetest.New()
	r.Booted()
	a, err := appraiseEvidence(r.Encode(t), baseOptions(t))
	if err != nil || a.Verdict != Pass {
		t.Fatal(err, explain(a))
	}
	if !says(a, words) || !says(a, "PCR 0, 4 (sha256)") {
		t.Errorf("%q", a.Sentences)
	}
	r.FirmwareLog = nil
	if a, err = appraiseEvidence(r.Encode(t), baseOptions(t)); err != nil || says(a, words) || !says(a, "neither a log nor the policy") {
		t.Errorf("without the log: %v, %q", err, a.Sentences)
	}
}

// TestSHA1FromAnywhere: the start of a SHA-1 bank is compared with nothing, so a value
// that the log reaches from another start than zero is not explained.
func TestSHA1FromAnywhere(t *testing.T) {
	for _, c := range []struct {
		name  string
		start []byte
		want  Explanation
	}{{"zero", make([]byte, 20), ByLog}, {"somewhere", bytes.Repeat([]byte{7}, 20), Unexplained}} {
		t.Run(c.name, func(t *testing.T) {
			r := evidencetest.New()
			r.Banks = []pcr.Algorithm{pcr.SHA1, pcr.SHA256}
			r.Start = map[pcr.Algorithm][]byte{pcr.SHA1: c.start}
			r.Select = pcr.Selection{{Algorithm: pcr.SHA1, PCRs: []uint32{13}}, {Algorithm: pcr.SHA256, PCRs: []uint32{0, 13}}}
			a, err := appraiseEvidence(r.Encode(t), baseOptions(t))
			if err != nil || a.Verdict != Pass {
				t.Fatal(err, explain(a))
			}
			i := slices.IndexFunc(a.Accepted.claims.PCRs, func(p PCRClaim) bool { return p.Bank == "sha1" })
			if got := a.Accepted.claims.PCRs[i]; got.Explained != c.want || got.Index != 13 {
				t.Errorf("%+v, want %s", got, c.want)
			}
			if says(a, "PCR 13 (sha1)") != (c.want == Unexplained) {
				t.Errorf("%q", a.Sentences)
			}
		})
	}
}

// TestKnownLogAndAWholeOne: a whole log is compared with the state that is known from
// before, unless it is of another boot or machine, which is said.
func TestKnownLogAndAWholeOne(t *testing.T) {
	for _, c := range []struct {
		name    string
		recipe  func(*evidencetest.Recipe)
		verdict Verdict
	}{
		{"later state", func(*evidencetest.Recipe) {}, Pass},
		{"same state", unmeasured, Pass},
		{"another boot", func(r *evidencetest.Recipe) { otherAgent(t, r); r.Batch.Reset++ }, NotAsserted},
		{"another AK", func(r *evidencetest.Recipe) { otherAgent(t, r); r.AK = evidencetest.ECCKey('o') }, NotAsserted},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := baseOptions(t)
			continued(func(s *LogState) { s.ReportID = "" })(t, &o)
			r := evidencetest.New()
			c.recipe(r)
			a, err := appraiseEvidence(r.Encode(t), o)
			if err != nil || a.Verdict != Pass {
				t.Fatal(err, explain(a))
			}
			if got := a.Check(LogContinuation).Verdict; got != c.verdict {
				t.Errorf("%s is %s, want %s", LogContinuation, got, c.verdict)
			}
			if says(a, "not a later state") != (c.verdict == NotAsserted) {
				t.Errorf("%q", a.Sentences)
			}
			if a.Accepted.claims.Log.AKName != a.Accepted.claims.AKName || a.Accepted.claims.Log.ResetCount != r.Batch.Reset {
				t.Errorf("state %+v of AK %s", a.Accepted.claims.Log, a.Accepted.claims.AKName)
			}
		})
	}
}

// TestExplainBehindLaunch: a PCR that says nothing of the kernel does not silence the
// danger that any kernel is accepted, and none of them says what is on a disk.
func TestExplainBehindLaunch(t *testing.T) {
	pin := func(indexes ...string) string {
		var out string
		for _, i := range indexes {
			out += "[[pcr]]\nbank = \"sha256\"\nindex = " + i + "\nvalues = [\"" + repeated(1, 32) + "\"]\n"
		}
		return out
	}
	const any, disks = "any kernel and any disk image", "the root disk too"
	for _, c := range []struct {
		name, root, covers, tables string
		danger                     bool
		loader                     string // the PCRs that are named as not pinned
		disks                      bool
	}{
		{"nothing", "", "firmware", "", true, "", false},
		{"PCR 0", "", "firmware", pin("0"), true, "", false},
		{"what later software extends", "", "firmware", pin("8", "9", "11", "12", "13"), true, "", false},
		{"PCR 4", "", "firmware", pin("4"), false, "PCR 8, 9, 12, 13, which", true},
		{"PCRs 4 and 9", "", "firmware", pin("4", "9"), false, "PCR 8, 12, 13, which", true},
		{"all that a loader extends", "", "firmware", pin("4", "8", "9", "12", "13"), false, "", true},
		{"direct boot", "", "firmware+kernel+cmdline", "", false, "", true},
		{"any firmware", `unlisted_launch = "allow"`, "firmware", pin("4"), false, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(makePolicy(c.root, c.tables), `"firmware+kernel+cmdline"`, `"`+c.covers+`"`, 1)
			w := mustPolicy(t, text).Explain()
			said := func(list []string, text string) bool {
				return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, text) })
			}
			if said(w.Dangers, any) != c.danger || said(w.Unchecked, disks) != c.disks {
				t.Errorf("dangers %q, unchecked %q", w.Dangers, w.Unchecked)
			}
			if said(w.Unchecked, "program in PCR 4") != (c.loader != "") || !said(w.Unchecked, c.loader) {
				t.Errorf("want %q in %q", c.loader, w.Unchecked)
			}
		})
	}
}

// TestExplainUnlistedLaunch: if any launch measurement is accepted, those that are
// listed are not demanded.
func TestExplainUnlistedLaunch(t *testing.T) {
	for root, demanded := range map[string]bool{"": true, `unlisted_launch = "allow"`: false} {
		w := mustPolicy(t, makePolicy(root, "")).Explain()
		launch := func(s string) bool { return strings.Contains(s, "aunch measurement is 4d4d") }
		if slices.ContainsFunc(w.Demands, launch) != demanded || slices.ContainsFunc(w.Unchecked, launch) == demanded {
			t.Errorf("%q: demands %q, unchecked %q", root, w.Demands, w.Unchecked)
		}
	}
}

// TestDisksAreNotCovered: whatever a launch measurement covers, the appraisal says that
// disks are not in it.
func TestDisksAreNotCovered(t *testing.T) {
	for _, covers := range []string{"firmware", "firmware+kernel+cmdline"} {
		o := baseOptions(t)
		o.Policy = mustPolicy(t, strings.Replace(makePolicy("", ""), `"firmware+kernel+cmdline"`, `"`+covers+`"`, 1))
		a, err := appraiseEvidence(evidencetest.New().Encode(t), o)
		if err != nil || a.Verdict != Pass || !says(a, "what is on the disks only if") || says(a, "firmware only") != (covers == "firmware") {
			t.Errorf("%v, %q", err, a.Sentences)
		}
		if got := a.Accepted.claims.Machine; string(got.Covers) != covers || got.Label != "test firmware" {
			t.Errorf("covers %q, label %q", got.Covers, got.Label)
		}
	}
}
