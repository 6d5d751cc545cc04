// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/vectors"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// unfilledLaunch is in the policies that agentctl begins for kinds of machines.
var unfilledLaunch = hex.EncodeToString([]byte("FILL IN the launch measurement of your machine.."))

// machinePolicy is the policy that "agentctl policy init --machine" begins, with root keys added and
// the launch measurement of a report filled in; as it is if that is nil.
func machinePolicy(t *testing.T, name, root string, report []byte) *Policy {
	t.Helper()
	b, err := os.ReadFile("../cmd/agentctl/machines/" + name + ".toml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), "version = 1\n", "version = 1\n"+root, 1)
	if report != nil {
		text = strings.Replace(text, unfilledLaunch, hex.EncodeToString(report[0x90:0xc0]), 1)
	}
	return mustPolicy(t, text)
}

// TestMachinePoliciesOnRecordings: the policies for Azure and AWS accept what real machines there
// recorded, once the launch measurement is filled in, and refuse it for that alone before. These
// recordings are not of our agent: they have no log.
func TestMachinePoliciesOnRecordings(t *testing.T) {
	refused := func(t *testing.T, a *Appraisal, err error) {
		t.Helper()
		if err != nil || a.Verdict != Fail {
			t.Fatalf("as it is: %v\n%s", err, explain(a))
		}
		for _, id := range failedIDs(a) {
			if id != PolicyLaunch && id != PolicyBinding && id != PolicyBasisHistory { // they follow from it
				t.Errorf("as it is, %s fails", id)
			}
		}
	}
	const trustee = "confidential-containers_trustee/extracted_evidence-"
	for _, name := range []string{"v0", "genoa"} {
		t.Run("azure "+name, func(t *testing.T) {
			s := AzureSet{HCL: vectors.Read(t, trustee+name+".hcl.bin"), Quote: vectors.Read(t, trustee+name+".quote.msg"),
				Signature: vectors.Read(t, trustee+name+".quote.sig"), PCRs: vectors.Read(t, trustee+name+".pcrs.bin")}
			var key *snp.EndorsementKey
			s.Certificates, key = certificatesOf(t, trustee+name+".vcek.pem")
			o := options{AcceptReplay: true, Time: key.Certificate.NotBefore.Add(time.Hour)}
			const withoutAgent = "log = \"optional\"\nfreshness = \"any\"\n"
			o.Policy = machinePolicy(t, "azure", withoutAgent, nil)
			a, err := appraiseRecorded(s, o, "")
			refused(t, a, err)
			o.Policy = machinePolicy(t, "azure", withoutAgent, s.HCL[32:])
			if a, err = appraiseRecorded(s, o, ""); err != nil || a.Verdict != Pass || a.Binding != BindingParavisor {
				t.Errorf("%v\n%s", err, explain(a))
			}
		})
	}
	t.Run("aws", func(t *testing.T) {
		b := vectors.Read(t, "EternisAI_attestation-server/sevsnp_attestation_aws_evidence_0.sevsnp.bin")
		r := RawReport{Kind: evidence.ReportSNP, Report: b}
		o := options{AcceptReplay: true, Time: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)}
		const bare = "binding = \"none\"\nlog = \"optional\"\nfreshness = \"any\"\n"
		o.Policy = machinePolicy(t, "aws", bare, nil)
		a, err := appraiseReport(r, o)
		refused(t, a, err)
		o.Policy = machinePolicy(t, "aws", bare, b)
		if a, err = appraiseReport(r, o); err != nil || a.Verdict != Pass {
			t.Errorf("%v\n%s", err, explain(a))
		}
	})
}
