// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify/internal/cache"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// A list that is in order does not hide another that revokes, in whatever order they
// are handed in; and what a list revoked stays revoked when the list is past its time.
func TestEveryRevocationListCounts(t *testing.T) {
	at := evidencetest.Time
	old := evidencetest.RevocationList(t, snp.Genoa, at.AddDate(0, -1, 0), at.AddDate(0, 1, 0))
	newer := evidencetest.RevocationList(t, snp.Genoa, at.AddDate(0, 0, -1), at.AddDate(0, 1, 0), evidencetest.Serial)
	expired := evidencetest.RevocationList(t, snp.Genoa, at.AddDate(0, -3, 0), at.AddDate(0, -1, 0), evidencetest.Serial)
	empty := evidencetest.RevocationList(t, snp.Genoa, at.AddDate(0, -3, 0), at.AddDate(0, -1, 0))
	for name, c := range map[string]struct {
		lists []*snp.RevocationList
		fails CheckID // with lists required
	}{
		"old, newer":   {[]*snp.RevocationList{old, newer}, ReportRevocation},
		"newer, old":   {[]*snp.RevocationList{newer, old}, ReportRevocation},
		"expired":      {[]*snp.RevocationList{expired}, ReportRevocation},
		"expired, old": {[]*snp.RevocationList{expired, old}, ReportRevocation},
		"old, expired": {[]*snp.RevocationList{old, expired}, ReportRevocation},
		"past, old":    {[]*snp.RevocationList{empty, old}, ""},
		"old, past":    {[]*snp.RevocationList{old, empty}, ""},
		"past":         {[]*snp.RevocationList{empty}, ReportRevocationList},
	} {
		for _, asked := range []string{"required", "optional"} {
			for _, cache := range []*cache.Cache{nil, cache.New(16)} {
				o := baseOptions(t)
				o.Policy = mustPolicy(t, makePolicy(`revocation = "`+asked+`"`, ""))
				o.Revocation, o.Cache = c.lists, cache
				a, err := appraiseEvidence(evidencetest.New().Encode(t), o)
				if err != nil {
					t.Fatal(err)
				}
				want := c.fails
				if asked == "optional" && want == ReportRevocationList {
					want = ""
				}
				failed := failedIDs(a)
				if want == "" && len(failed) != 0 || want != "" && (len(failed) != 1 || failed[0] != want) {
					t.Errorf("%s, %s: failed %v, want %q", name, asked, failed, want)
				}
			}
		}
	}
}

// An attacker cannot keep a verifier from its own valid certificate of a key by putting one that
// is past its time, or before it, into the evidence.
func TestValidCertificateOfTheSameKey(t *testing.T) {
	at := evidencetest.Time
	valid := evidencetest.New()
	valid.Report.NotBefore = at.AddDate(-2, 0, 0)
	past := evidencetest.New()
	past.Report.NotAfter = at.AddDate(0, -1, 0)
	o := baseOptions(t)
	a, err := appraiseEvidence(past.Encode(t), o)
	if err != nil || len(failedIDs(a)) != 1 || failedIDs(a)[0] != ReportValidity {
		t.Fatalf("%v, %v", failedIDs(a), err)
	}
	early := evidencetest.New()
	early.Report.NotBefore = at.AddDate(0, 1, 0)
	if a, err = appraiseEvidence(early.Encode(t), o); err != nil || len(failedIDs(a)) != 1 || failedIDs(a)[0] != ReportValidity {
		t.Fatalf("%v, %v", failedIDs(a), err)
	}
	o.Certificates = valid.Report.CertificatesNamed(t, "SEV-VCEK", "SEV-Genoa")[:1]
	for _, r := range []*evidencetest.Recipe{past, early} {
		if a, err = appraiseEvidence(r.Encode(t), o); err != nil || a.Verdict != Pass {
			t.Errorf("%v, %v\n%s", failedIDs(a), err, explain(a))
		}
	}
}
