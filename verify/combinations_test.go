// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/pcr"
)

// A combination puts parts of machine B into the evidence of machine A. Each part is
// genuine, both machines are acceptable, and both were asked with the verifier's nonce:
// an attacker who has both can do this.
type combination struct {
	id       CheckID // has to fail; others may
	name     string
	anchored bool
	policy   string
	mix      func(t *testing.T, a, b *evidence.Evidence)
}

// twoMachines are two complete machines: chip, vTPM, agent and log each of their own.
func twoMachines(t *testing.T, isAnchored bool) (a, b *evidence.Evidence) {
	t.Helper()
	first, second := evidencetest.New(), evidencetest.New()
	second.AK = evidencetest.ECCKey('o')
	second.AgentKey = evidencetest.Key('b')
	second.Events[0] = evidencetest.Agent(pcr.EventAgent, "1.0.1", second.AgentKey)
	second.Events = append(second.Events, evidencetest.App("more", "more.service", "more", "more 1"))
	second.Statement.Salt = bytes.Repeat([]byte{0x54}, 32)
	second.PCRs.Set(pcr.SHA256, 4, bytes.Repeat([]byte{0x24}, 32))
	second.Batch.QualifiedSigner = append([]byte{0x00, 0x0b}, bytes.Repeat([]byte{0x52}, 32)...)
	second.Anchor.QualifiedSigner = second.Batch.QualifiedSigner
	chip := bytes.Repeat([]byte{0x64}, 64)
	second.Report.Leaf.HWID = chip
	second.Report.Body = func(b []byte) { copy(b[evidencetest.AtChipID:], chip) }
	if isAnchored {
		anchored(first)
		anchored(second)
	}
	return first.Build(t), second.Build(t)
}

func combinations() []combination {
	return []combination{
		{id: QuoteSignature, name: "case 51 quote of B", mix: func(_ *testing.T, a, b *evidence.Evidence) {
			a.Batch.Quote, a.Batch.PCRs = b.Batch.Quote, b.Batch.PCRs
		}},
		{id: BindingReportData, name: "case 51 quote and AK of B", mix: func(_ *testing.T, a, b *evidence.Evidence) {
			a.Batch.Quote, a.Batch.PCRs, a.AK = b.Batch.Quote, b.Batch.PCRs, b.AK
		}},
		{id: BindingReportData, name: "case 51 whole batch of B, report of A", mix: func(_ *testing.T, a, b *evidence.Evidence) {
			report, certificates := a.Report, a.Certificates
			*a = *b
			a.Report, a.Certificates = report, certificates
		}},
		{id: BindingReportData, name: "case 51 report and certificates of B", mix: func(_ *testing.T, a, b *evidence.Evidence) {
			a.Report, a.Certificates = b.Report, b.Certificates
		}},
		{id: ReportChip, name: "case 58 report of B under the certificate of A", mix: func(_ *testing.T, a, b *evidence.Evidence) { a.Report = b.Report }},
		{id: ReportChip, name: "case 58 certificates of B", mix: func(_ *testing.T, a, b *evidence.Evidence) { a.Certificates = b.Certificates }},
		{id: LogHead, name: "case 28 log of B", mix: func(_ *testing.T, a, b *evidence.Evidence) { a.Log = b.Log }},
		{id: LogReplay, name: "log and log head of B", mix: func(_ *testing.T, a, b *evidence.Evidence) {
			a.Log, a.Batch.LogHead = b.Log, b.Batch.LogHead
		}},
		{id: BatchAgentSignature, name: "agent key of B", mix: func(_ *testing.T, a, b *evidence.Evidence) { a.AgentKey = b.AgentKey }},
		{id: BatchAgentSignature, name: "agent signature of B", mix: func(_ *testing.T, a, b *evidence.Evidence) { a.AgentSignature = b.AgentSignature }},
		{id: BindingReportData, name: "agent key and agent signature of B", mix: func(_ *testing.T, a, b *evidence.Evidence) {
			a.AgentKey, a.AgentSignature = b.AgentKey, b.AgentSignature
		}},
		{id: BatchInclusion, name: "case 52 statement of B", mix: func(_ *testing.T, a, b *evidence.Evidence) { a.Statement = b.Statement }},
		{id: BatchInclusion, name: "case 52 statement and proof of B", mix: func(_ *testing.T, a, b *evidence.Evidence) {
			a.Statement, a.Inclusion = b.Statement, b.Inclusion
		}},
		{id: QuoteQualifyingData, name: "statement, proof and tree of B", mix: func(_ *testing.T, a, b *evidence.Evidence) {
			a.Statement, a.Inclusion, a.Batch.Tree = b.Statement, b.Inclusion, b.Batch.Tree
		}},
		{id: QuotePCRDigest, name: "PCR values of B", mix: func(_ *testing.T, a, b *evidence.Evidence) { a.Batch.PCRs = b.Batch.PCRs }},
		{id: QuoteSignature, name: "AK of B", mix: func(_ *testing.T, a, b *evidence.Evidence) { a.AK = b.AK }},
		{id: QuoteSignature, name: "signature over the quote of B", mix: func(_ *testing.T, a, b *evidence.Evidence) {
			a.Batch.Quote.Signature = b.Batch.Quote.Signature
		}},
		{id: QuoteQualifyingData, name: "case 51 anchor of B", anchored: true, mix: func(_ *testing.T, a, b *evidence.Evidence) { a.Anchor = b.Anchor }},
		{id: AnchorSignature, name: "case 51 anchor and report of B", anchored: true, mix: func(_ *testing.T, a, b *evidence.Evidence) {
			a.Anchor, a.Report, a.Certificates = b.Anchor, b.Report, b.Certificates
		}},
		{id: BatchAgentSignature, name: "case 91 batch of B over the anchor and the agent key of A", anchored: true, mix: func(_ *testing.T, a, b *evidence.Evidence) {
			a.Statement, a.Inclusion, a.Batch, a.AgentSignature = b.Statement, b.Inclusion, b.Batch, b.AgentSignature
		}},
		{id: AnchorLogPrefix, name: "case 92 log of B after the anchor of A", anchored: true, mix: func(_ *testing.T, a, b *evidence.Evidence) { a.Log = b.Log }},
		{id: BindingReportData, name: "case 51 report of B under the anchor of A", anchored: true, mix: func(_ *testing.T, a, b *evidence.Evidence) {
			a.Report, a.Certificates = b.Report, b.Certificates
		}},
		{id: PolicyChip, name: "machine B, and chip A is listed", policy: makePolicy(`chips = ["`+chipHex(0x63)+`"]`, ""), mix: func(_ *testing.T, a, b *evidence.Evidence) { *a = *b }},
		{id: PolicyBinding, name: "case 93 machine B instead of a paravisor", policy: listedAs("paravisor", "paravisor"), mix: func(_ *testing.T, a, b *evidence.Evidence) { *a = *b }},
		{id: PolicyAgent, name: "machine B, and the agent of A is listed", policy: makePolicy("", "[agent]\nversions = [\"1.0.0\"]"), mix: func(_ *testing.T, a, b *evidence.Evidence) { *a = *b }},
		{id: PolicyAppUnlisted, name: "machine B with a further application", policy: makePolicy(`unlisted_apps = "refuse"`, app("billing", "", "billing 1")), mix: func(_ *testing.T, a, b *evidence.Evidence) { *a = *b }},
	}
}

// TestTwoMachinesAreGood: what the combinations are made of is accepted by itself.
func TestTwoMachinesAreGood(t *testing.T) {
	for _, isAnchored := range []bool{false, true} {
		a, b := twoMachines(t, isAnchored)
		for i, e := range []*evidence.Evidence{a, b} {
			document, err := strictjson.Encode(e)
			if err != nil {
				t.Fatal(err)
			}
			o := baseOptions(t)
			if isAnchored {
				o.Policy = mustPolicy(t, makePolicy(anchoredPolicy, ""))
			}
			if got, err := appraiseEvidence(document, o); err != nil || got.Verdict != Pass {
				t.Errorf("machine %d: %v\n%s", i, err, explain(got))
			}
		}
	}
}

// TestCombinations: wrong, and valid in each part; cases 51, 52, 58 and 91 to 93.
func TestCombinations(t *testing.T) {
	for _, c := range combinations() {
		t.Run(c.name, func(t *testing.T) {
			a, b := twoMachines(t, c.anchored)
			c.mix(t, a, b)
			document, err := strictjson.Encode(a)
			if err != nil {
				t.Fatal(err)
			}
			o := baseOptions(t)
			switch {
			case c.policy != "":
				o.Policy = mustPolicy(t, c.policy)
			case c.anchored:
				o.Policy = mustPolicy(t, makePolicy(anchoredPolicy, ""))
			}
			got, err := appraiseEvidence(document, o)
			if err != nil {
				t.Fatal(err)
			}
			if got.Verdict != Fail || got.Check(c.id).Verdict != Fail {
				t.Errorf("failed are %v, want %s among them\n%s", failedIDs(got), c.id, explain(got))
			}
		})
	}
}
