// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/elliptic"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestAccepted: what the mutations start from is good, whatever signs the quote.
func TestAccepted(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy string
		change func(*testing.T, *evidencetest.Recipe)
	}{
		{"fresh", "", func(*testing.T, *evidencetest.Recipe) {}},
		{"alone in its batch", "", func(_ *testing.T, r *evidencetest.Recipe) { r.Neighbours = 0 }},
		{"anchored", anchoredPolicy, func(_ *testing.T, r *evidencetest.Recipe) { anchored(r) }},
		{"fresh, and anchored would be accepted", anchoredPolicy, func(_ *testing.T, r *evidencetest.Recipe) { r.Statement.Freshness = "anchored" }},
		{"no log", `log = "optional"`, func(_ *testing.T, r *evidencetest.Recipe) { r.NoLog = true }},
		{"P-384", "", func(_ *testing.T, r *evidencetest.Recipe) {
			r.AK = evidencetest.ECCKeyOn(elliptic.P384(), tpm2.TPMECCNistP384, tpm2.TPMAlgSHA384, 'k')
		}},
		{"an instance of the template that was declared", "caller.unit = \"billing@.service\"\ncaller.app = \"billing\"", templated("billing@.service", "billing@7-1.service")},
		{"a further user that was declared", "caller.uid = 991\napp = [{name = \"billing\", digests = [\"DIGEST\"], user = \"billing\", users = [\"www-data\"]}]", withUsers(991, pcr.AppUser{User: "www-data", UID: 991})},
		{"a further user, and any is accepted", "app = [{name = \"billing\", digests = [\"DIGEST\"]}]", withUsers(991, pcr.AppUser{User: "www-data", UID: 991})},
		{"the user, and there is a further one", "", withUsers(990, pcr.AppUser{User: "www-data", UID: 991})},
		{"a dynamic user", "app = [{name = \"billing\", digests = [\"DIGEST\"], user = \"billing\", dynamic_user = true}]", dynamic(pcr.MinDynamicUID)},
		{"a dynamic user, and any is accepted", "app = [{name = \"billing\", digests = [\"DIGEST\"], unit = \"billing.service\"}]", dynamic(pcr.MaxDynamicUID)},
		{"one dynamic uid of one unit", "caller.unit = \"billing.service\"\ncaller.uid = 61184", dynamic(61184)},
		{"the instance that was declared", "caller.unit = \"billing@7.service\"", templated("billing@7.service", "billing@7.service")},
		{"RSASSA", "", func(t *testing.T, r *evidencetest.Recipe) { r.AK = evidencetest.RSAKey(t, 2048, tpm2.TPMAlgRSASSA) }},
		{"RSAPSS", "", func(t *testing.T, r *evidencetest.Recipe) { r.AK = evidencetest.RSAKey(t, 2048, tpm2.TPMAlgRSAPSS) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := evidencetest.New()
			c.change(t, r)
			o := baseOptions(t)
			o.Policy = mustPolicy(t, makePolicy(strings.ReplaceAll(c.policy, "DIGEST", billingApp.App.Digest.String()), ""))
			a, err := appraiseEvidence(r.Encode(t), o)
			if err != nil {
				t.Fatal(err)
			}
			if a.Verdict != Pass || a.ExitCode() != 0 {
				t.Fatalf("%s, class %v:\n%s", a.Verdict, a.Class, explain(a))
			}
			if a.Binding != BindingGuestAsserted {
				t.Errorf("binding %s", a.Binding)
			}
			if _, err := a.Claims(); err != nil {
				t.Error(err)
			}
			for i, x := range a.Checks {
				if x.ID != definitions[i].ID || x.Sentence == "" || x.Verdict == "" {
					t.Errorf("check %d is %+v, want one of %s with a sentence", i, x, definitions[i].ID)
				}
			}
		})
	}
}
