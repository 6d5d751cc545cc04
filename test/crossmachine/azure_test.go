// SPDX-License-Identifier: Apache-2.0

package crossmachine

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify"
)

// TestAzure: evidence of a machine with a paravisor has the binding that the policy asks for,
// fresh and anchored, and with one thing changed it is refused by a check of its own. A launch
// that is listed as another kind gives the binding of the guest's word. Cases 93, 115, 141.
func TestAzure(t *testing.T) {
	g, stranger := ofKind(t, "azure"), ofKind(t, "azure")
	const asked = "binding = \"paravisor\""
	policy := policyFor("paravisor", asked, "")
	for _, doc := range [][]byte{g.fresh, g.anchored} {
		if a := both(t, policy, doc); a.Binding != verify.BindingParavisor {
			t.Errorf("binding %s", a.Binding)
		}
		for _, kind := range []string{"plain", "svsm"} {
			if a := both(t, policyFor(kind, "", ""), doc); a.Binding != verify.BindingGuestAsserted {
				t.Errorf("listed as %s, the binding is %s", kind, a.Binding)
			}
			both(t, policyFor(kind, asked, elsewhere+"\"paravisor\"\n"), doc, "policy.binding")
		}
	}
	e, stale, other := parse(t, g.fresh), parse(t, g.stale), parse(t, stranger.fresh)
	for _, c := range []struct {
		name  string
		bytes []byte
		fails []verify.CheckID
	}{
		{"blob of another machine", other.Report.Bytes, []verify.CheckID{"report.signature", "report.chip", "binding.report-data", "binding.attestation-key"}},
		{"blob of before", stale.Report.Bytes, []verify.CheckID{"binding.report-data"}},
		{"runtime data altered", bytes.Replace(e.Report.Bytes, []byte("true"), []byte("null"), 1), []verify.CheckID{"binding.runtime-data"}},
		{"a zero after it", append(bytes.Clone(e.Report.Bytes), 0), []verify.CheckID{"paravisor.decode"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := *e
			changed.Report.Bytes = c.bytes
			both(t, policy, document(t, &changed), c.fails...)
		})
	}
}

// TestAzureFaults: what goes wrong between agent and paravisor has a code of its own.
func TestAzureFaults(t *testing.T) {
	for fault, code := range map[string]api.Code{
		"other-key": api.CodePlatformOtherKey, "vmpl": api.CodePlatformVMPL, "garbage": api.CodePlatformMalformed,
	} {
		t.Run(fault, func(t *testing.T) {
			m := start(t, "azure", "--paravisor-fault", fault)
			_, err := m.Client().Evidence(t.Context(), api.EvidenceRequest{Nonce: nonce, Freshness: evidence.Fresh})
			if !errors.Is(err, &api.Problem{Code: code}) {
				t.Errorf("got %v, want %s", err, code)
			}
		})
	}
}
