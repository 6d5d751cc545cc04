// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/corpus"
)

// ofChecks is which feature a failed check belongs to, by how its name begins. The first that fits
// counts.
var ofChecks = []struct{ begins, feature string }{
	{"policy.ima", "ima"}, {"policy.gcp-", "gcp"}, {"policy.container", "container"}, {"policy.event-", "event"},
	{"policy.ek-", "enrolment"}, {"policy.endorsement-key", "enrolment"}, {"policy.ak-", "enrolment"}, {"policy.firmware-log", "firmware-log"},
	{"policy.app-gated", "gate"}, {"policy.app-exec", "gate"}, {"policy.continuation", "continuation"},
	{"anchor.", "anchor"}, {"paravisor.", "paravisor"}, {"svsm.", "svsm"}, {"ima.", "ima"}, {"firmware.", "firmware-log"},
	{"report.revocation", "revocation"}, {"log.continuation", "continuation"},
}

// inPolicy is which feature a table or key of a policy belongs to.
var inPolicy = []struct{ contains, feature string }{
	{"[gcp]", "gcp"}, {"[[container]]", "container"}, {"[[event]]", "event"}, {"exec = ", "gate"}, {"[[enrolment]]", "enrolment"}, {"ak_names", "enrolment"},
	{"ak_origin", "enrolment"}, {"[[ima_files]]", "ima"}, {"firmware_log", "firmware-log"},
}

// caseFeatures lists what a verifier needs for a case, in the order of [corpus.Features]. The policy
// counts if only its rules refuse the case.
func caseFeatures(c *corpus.Case) (out []string) {
	need := map[string]bool{
		c.Material: c.Material != "", "ima": c.IMAList != nil || c.IMAReference != nil,
		"revocation": len(c.Revoked) > 0, "continuation": c.LogState != nil, "firmware-log": c.FirmwareLog != nil,
	}
	if e, err := evidence.Parse(c.Evidence); err == nil && c.Material == "" {
		need["paravisor"], need["svsm"] = e.Report.Kind == evidence.ReportParavisor, e.Report.Kind == evidence.ReportSVSM
		need["anchor"] = e.Anchor != nil
		need["firmware-log"] = e.FirmwareLog != nil
		need["ima"] = need["ima"] || e.IMA != nil
	}
	need["policy"] = !c.Accepted() && !slices.ContainsFunc(c.Fails, func(id string) bool { return !ofPolicy(id) })
	for _, id := range c.Fails {
		for _, x := range ofChecks {
			if strings.HasPrefix(id, x.begins) {
				need[x.feature] = true
				break
			}
		}
	}
	for _, x := range inPolicy {
		if strings.Contains(string(c.Policy), x.contains) {
			need[x.feature] = true
		}
	}
	for _, f := range corpus.Features {
		if need[f.Name] {
			out = append(out, f.Name)
		}
	}
	return out
}

// ofPolicy reports whether a check depends on the policy.
func ofPolicy(id string) bool {
	return strings.HasPrefix(id, "policy.") || id == string(ReportRevocationList)
}

// TestCaseFeatures: the features of a case are those that this source gives. Each feature has cases
// that are refused, and each apart from the policy has some that are accepted.
func TestCaseFeatures(t *testing.T) {
	all, err := corpus.Read(corpusDir)
	if err != nil {
		t.Fatal(err)
	}
	accepted, refused, core := make(map[string]int), make(map[string]int), 0
	for _, c := range slices.Concat(all.Cases, all.Accepted) {
		if want := caseFeatures(c); !slices.Equal(c.Features, want) {
			t.Errorf("%s has features %q, want %q: run go generate ./verify", c.Name, c.Features, want)
		}
		if len(c.Features) == 0 {
			core++
		}
		for _, f := range c.Features {
			if c.Accepted() {
				accepted[f]++
			} else {
				refused[f]++
			}
		}
	}
	for _, f := range corpus.Features {
		if accepted[f.Name] == 0 && f.Name != "policy" || refused[f.Name] == 0 {
			t.Errorf("%s: %d accepted, %d refused", f.Name, accepted[f.Name], refused[f.Name])
		}
	}
	if core < 200 {
		t.Errorf("%d cases need no feature", core)
	}
}
