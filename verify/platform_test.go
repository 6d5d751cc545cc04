// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"slices"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/report"
)

// otherPlatform is a room for reports that are nothing but REPORT_DATA and a measurement.
type otherPlatform struct{ body []byte }

func (*otherPlatform) Judge(_ *check.Findings, m report.Material) report.Report {
	return &otherPlatform{m.Body}
}

func (*otherPlatform) Split(_ *check.Findings, raw []byte) ([]byte, [][]byte) { return raw, nil }
func (*otherPlatform) Definitions() []check.Definition                        { return nil }
func (*otherPlatform) Genuine() []check.ID                                    { return nil }

func (*otherPlatform) Vouch(f *check.Findings, _ report.Known) report.Voucher {
	f.Skip(report.VouchedKey.ID, "it names no key")
	return report.ByGuest
}

func (*otherPlatform) Over(data [report.DataSize]byte) [report.DataSize]byte { return data }

func (p *otherPlatform) Data() (data [report.DataSize]byte) { copy(data[:], p.body); return data }
func (p *otherPlatform) Measurement() []byte                { return p.body[report.DataSize:] }
func (p *otherPlatform) Privileged() bool                   { return true }
func (p *otherPlatform) ReportID() string                   { return "" }
func (p *otherPlatform) Root() (string, bool)               { return "other root", false }
func (p *otherPlatform) Until() time.Time                   { return time.Time{} }

// TestOtherPlatform checks that the verifier takes a report to the room of its kind, and
// refuses it as long as the checks and rules of SEV-SNP are the only ones: what they ask
// about is then not established.
func TestOtherPlatform(t *testing.T) {
	o := baseOptions(t)
	v, err := o.verifier()
	if err != nil {
		t.Fatal(err)
	}
	v.platforms["other"] = &otherPlatform{}
	recipe := evidencetest.New()
	recipe.Document = func(e *evidence.Evidence) {
		data := e.ReportData()
		e.Report = evidence.Report{Kind: "other", Bytes: append(data[:], evidencetest.Measurement...)}
	}
	a, err := v.Appraise(recipe.Encode(t), o.expect(), o.Time)
	if err != nil {
		t.Fatal(err)
	}
	if failed := failedIDs(a); len(failed) != 0 || a.Verdict != Fail {
		t.Errorf("verdict %s, failed are %v, want a refusal for checks that are open", a.Verdict, failed)
	}
	for _, id := range []CheckID{ReportKind, BindingReportData, LogReplay} {
		if c := a.Check(id); c.Verdict != Pass {
			t.Errorf("%+v", c)
		}
	}
	var open []CheckID
	for _, c := range a.Failed() {
		open = append(open, c.ID)
	}
	for _, id := range []CheckID{ReportSignature, ReportChain, PolicyVMPL, PolicyDebug, PolicyLaunch} {
		if !slices.Contains(open, id) {
			t.Errorf("%s is not open: %v", id, open)
		}
	}
	if c, err := a.Claims(); c != nil || err == nil {
		t.Error("a report without checks gives claims")
	}
}
