// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// TestCloudIsNamed: which cloud a VLEK belongs to is claimed and said, and a draft offers
// just that cloud. A VCEK belongs to none.
func TestCloudIsNamed(t *testing.T) {
	for signer, change := range map[string]func(*testing.T, *evidencetest.Recipe){"vlek": vlek, "vcek": func(*testing.T, *evidencetest.Recipe) {}} {
		t.Run(signer, func(t *testing.T) {
			r := evidencetest.New()
			change(t, r)
			document := r.Encode(t)
			text, a, err := draftOf(t, DraftPolicy, document)
			if err != nil {
				t.Fatalf("%v\n%s", err, explain(a))
			}
			draft := strings.NewReplacer("# signers", "signers", "# vlek_csps", "vlek_csps").Replace(string(text))
			o := baseOptions(t)
			o.Policy = mustPolicy(t, draft)
			if a, err = appraiseEvidence(document, o); err != nil || a.Verdict != Pass {
				t.Fatalf("%v\n%s\n%s", err, explain(a), draft)
			}
			want := map[string]string{"vlek": "test cloud 1"}[signer]
			if got := a.Accepted.claims.Machine.CSPID; got != want {
				t.Errorf("CSP id %q, want %q", got, want)
			}
			if says(a, `the cloud "test cloud 1"`) != (want != "") {
				t.Errorf("%q", a.Sentences)
			}
			if c := a.Check(PolicyVLEKCSP); (c.Verdict == Pass) != (want != "") || c.Verdict == Fail {
				t.Errorf("%+v", c)
			}
		})
	}
}
