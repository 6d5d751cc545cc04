// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify/internal/cache"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// TestSupportedUntil: an accepted appraisal says when the first thing ends that it rests on: a certificate
// of the report or of the AK, the revocation list, the greatest age of an anchor, or the policy. A cache
// changes nothing.
func TestSupportedUntil(t *testing.T) {
	now := evidencetest.Time
	in := func(m time.Duration) time.Time { return now.Add(m) }
	leaf := func(to time.Time) func(*evidencetest.Recipe) {
		return func(r *evidencetest.Recipe) { r.Report.NotBefore, r.Report.NotAfter = now.AddDate(-1, 0, 0), to }
	}
	until := func(to time.Time) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotAfter = to }
	}
	soon := newMaker('r', "TPM root", nil, until(in(30*time.Minute)))
	lists := func(ends ...time.Time) (out []*snp.RevocationList) {
		for _, to := range ends {
			out = append(out, evidencetest.RevocationList(t, snp.Genoa, now.AddDate(0, -1, 0), to))
		}
		return out
	}
	for _, c := range []struct {
		name         string
		root, tables string
		change       func(*evidencetest.Recipe)
		lists        []*snp.RevocationList
		expires      time.Time // of the policy
		want         time.Time
	}{
		{name: "certificate", change: leaf(in(time.Hour)), want: in(time.Hour)},
		{name: "list", change: leaf(in(time.Hour)), lists: lists(in(10 * time.Minute)), want: in(10 * time.Minute)},
		{name: "the last of the current lists", change: leaf(in(time.Hour)), lists: lists(in(20*time.Minute), in(10*time.Minute), in(-time.Minute)), want: in(20 * time.Minute)},
		{name: "certificate before list", change: leaf(in(time.Minute)), lists: lists(in(10 * time.Minute)), want: in(time.Minute)},
		{name: "list that is not asked for", root: "revocation = \"off\"", change: leaf(in(time.Hour)), lists: lists(in(10 * time.Minute)), want: in(time.Hour)},
		{name: "expired list, which does not count", change: leaf(in(time.Hour)), lists: lists(in(-time.Minute)), want: in(time.Hour)},
		{name: "certificate of the TPM", root: trusting(tpmRoot), tables: certified(tpmRoot.certify('e', until(in(40*time.Minute)))), change: leaf(in(time.Hour)), want: in(40 * time.Minute)},
		{name: "root of the TPM", root: trusting(soon), tables: certified(soon.certify('e', nil)), change: leaf(in(time.Hour)), want: in(30 * time.Minute)},
		{name: "anchor", root: anchoredPolicy, change: func(r *evidencetest.Recipe) { anchored(r); leaf(in(time.Hour))(r) }, want: in(2*time.Minute - 60500*time.Millisecond)},
		{name: "no anchor", root: anchoredPolicy, change: leaf(in(time.Hour)), want: in(2 * time.Minute)},
		{name: "policy", change: leaf(in(time.Hour)), expires: in(15 * time.Minute), want: in(15 * time.Minute)},
		{name: "certificate before policy", change: leaf(in(time.Minute)), expires: in(15 * time.Minute), want: in(time.Minute)},
		{name: "policy that expired, and is not in force", change: leaf(in(time.Hour)), expires: in(-time.Minute), want: in(-time.Minute)},
		{name: "refused", root: "vmpl = [1]", change: leaf(in(time.Hour))},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := baseOptions(t)
			o.Policy, o.Revocation, o.Cache = mustPolicy(t, makePolicy(c.root, c.tables)), c.lists, cache.New(100)
			o.Expires = c.expires
			r := evidencetest.New()
			c.change(r)
			document := r.Encode(t)
			for _, o.Cache = range []*cache.Cache{nil, o.Cache, o.Cache} {
				a, err := appraiseEvidence(document, o)
				if err != nil {
					t.Fatal(err)
				}
				if (a.Verdict == Pass) == c.want.IsZero() || !a.SupportedUntil.Equal(c.want) {
					t.Errorf("%s, until %v, want %v\n%s", a.Verdict, a.SupportedUntil, c.want, explain(a))
				}
			}
		})
	}
	for name, r := range map[string]*evidencetest.Recipe{"SVSM": evidencetest.NewSVSM(), "paravisor": evidencetest.NewAzure()} {
		leaf(in(time.Hour))(r)
		o := baseOptions(t)
		o.Policy = mustPolicy(t, "version = 1\nunlisted_launch = \"allow\"\nproducts = [\"milan\", \"genoa\"]\n")
		a, err := appraiseEvidence(r.Encode(t), o)
		if err != nil || a.Verdict != Pass || !a.SupportedUntil.Equal(in(time.Hour)) {
			t.Errorf("%s: %v, until %v\n%s", name, err, a.SupportedUntil, explain(a))
		}
	}
}
