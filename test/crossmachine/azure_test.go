// SPDX-License-Identifier: Apache-2.0

package crossmachine

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform/azure"
	"github.com/cvm-agentd/agentd/internal/platform/soft/paravisor"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/test/simulated"
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
	data, before := e.ReportData(), stale.ReportData()
	own, theirs := modulus(t, e.AK), modulus(t, other.AK)
	blob := func(key, userData []byte, vmpl uint32) []byte { // as the paravisor of this chip makes it
		runtime := paravisor.Runtime(key, userData)
		return paravisor.Blob(g.over(t, paravisor.ReportData(runtime), vmpl), runtime)
	}
	for _, c := range []struct {
		name  string
		bytes []byte
		fails []verify.CheckID
	}{
		{"blob of another machine", other.Report.Bytes, []verify.CheckID{"report.signature", "report.chip", "binding.report-data", "binding.attestation-key"}},
		{"blob of before", stale.Report.Bytes, []verify.CheckID{"binding.report-data"}},
		{"as the paravisor makes it", blob(own, data[:], 0), nil},
		{"runtime data of another AK", blob(theirs, data[:], 0), []verify.CheckID{"binding.attestation-key"}},
		{"runtime data with the commitment of before", blob(own, before[:], 0), []verify.CheckID{"binding.report-data"}},
		{"runtime data without a commitment", blob(own, nil, 0), []verify.CheckID{"binding.report-data"}},
		{"from VMPL 1", blob(own, data[:], 1), []verify.CheckID{"policy.vmpl", "policy.binding"}},
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

// modulus returns that of an RSA key, as a TPMT_PUBLIC.
func modulus(t *testing.T, encoded []byte) []byte {
	t.Helper()
	public, err := tpmwire.ParsePublic(encoded)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpmwire.SigningKey(public, encoded)
	if err != nil || key.RSA == nil {
		t.Fatalf("%+v, %v", key, err)
	}
	return key.RSA.N.Bytes()
}

// TestAzureFaults: what goes wrong between agent and paravisor has a code of its own, and no
// evidence comes. Case 141.
func TestAzureFaults(t *testing.T) {
	for fault, code := range map[string]api.Code{
		"other-key": api.CodePlatformOtherKey, "vmpl": api.CodePlatformVMPL, "garbage": api.CodePlatformMalformed,
		"stale": api.CodePlatformStale, "race": api.CodePlatformStale,
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			m := start(t, "azure", "--paravisor-fault", fault)
			b, err := m.Client().Evidence(t.Context(), api.EvidenceRequest{Nonce: nonce, Freshness: evidence.Fresh})
			if !errors.Is(err, &api.Problem{Code: code}) || b != nil {
				t.Errorf("got %d bytes, %v, want %s", len(b), err, code)
			}
		})
	}
}

// TestAzureRetries: a report of before, or one over the user data of another program, is asked for
// again, after the paravisor's two seconds. The evidence that comes is over what was asked, and
// its report is in no part of another. Case 141.
func TestAzureRetries(t *testing.T) {
	const faulty = 2
	for _, fault := range []string{"stale", "race"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			m := start(t, "azure", "--paravisor-fault", fmt.Sprintf("%s=%d", fault, faulty))
			doc, err := m.Client().Evidence(t.Context(), api.EvidenceRequest{Nonce: nonce, Freshness: evidence.Fresh})
			if err != nil {
				t.Fatal(err)
			}
			if a := both(t, policyFor("paravisor", "binding = \"paravisor\"", ""), doc); a.Binding != verify.BindingParavisor {
				t.Errorf("binding %s", a.Binding)
			}
			if least, took := faulty*azure.Renewal.Seconds(), reportsTook(t, m); took < least {
				t.Errorf("reports took %v s, want %v s for the tries that went wrong", took, least)
			}
		})
	}
}

// reportsTook returns how long the platform took for all reports, in seconds.
func reportsTook(t *testing.T, m *simulated.Machine) float64 {
	t.Helper()
	b, err := m.Client().Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "agentd_report_duration_seconds_sum "); ok {
			s, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	t.Fatalf("no duration of reports in:\n%s", b)
	return 0
}
