// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// bareRoot is what a policy must say to accept a bare report.
const bareRoot = "binding = \"none\"\nlog = \"optional\""

// paravisorPolicy accepts what evidencetest.NewParavisor makes.
func paravisorPolicy(kind, root string) string {
	return fmt.Sprintf("version = 1\nlog = \"optional\"\n%s\n[[launch]]\nmeasurement = %q\nkind = %q\ncovers = \"firmware\"\n",
		root, hex.EncodeToString(evidencetest.Measurement), kind)
}

// rawMaterial is one of the two that a command takes.
type rawMaterial struct {
	report *RawReport
	set    *AzureSet
}

func (m rawMaterial) appraise(o options, ignored map[CheckID]bool) (*Appraisal, error) {
	if m.set != nil {
		return o.with(ignored, *m.set)
	}
	return o.with(ignored, *m.report)
}

type makeMaterial = func(*testing.T, *options) rawMaterial

// bare returns a bare report that contains the nonce.
func bare(change func(*evidencetest.Report), after func(*RawReport, *options)) makeMaterial {
	return func(t *testing.T, o *options) rawMaterial {
		r := evidencetest.NewReport(snp.Genoa)
		if change != nil {
			change(&r)
		}
		var data [64]byte
		copy(data[:], evidencetest.Nonce)
		report, certificates := r.Make(t, data)
		m := RawReport{Kind: evidence.ReportSNP, Report: report, Certificates: certificates}
		if after != nil {
			after(&m, o)
		}
		return rawMaterial{report: &m}
	}
}

// paravisor is a paravisor's set.
func paravisorSet(change func(*evidencetest.ParavisorRecipe), after func(*AzureSet, *options)) makeMaterial {
	return func(t *testing.T, o *options) rawMaterial {
		r := evidencetest.NewParavisor()
		o.UserData = r.UserData
		if change != nil {
			change(r)
		}
		s := AzureSet(r.Build(t))
		if after != nil {
			after(&s, o)
		}
		return rawMaterial{set: &s}
	}
}

func blob(f func(b []byte)) func(*evidencetest.ParavisorRecipe) {
	return func(r *evidencetest.ParavisorRecipe) { r.Blob = func(b []byte) []byte { f(b); return b } }
}

// runtimeText replaces text of the runtime data before the report is made over it.
func runtimeText(old, new string) func(*evidencetest.ParavisorRecipe) {
	return func(r *evidencetest.ParavisorRecipe) {
		r.Runtime = func(s string) string { return strings.Replace(s, old, new, 1) }
	}
}

// zeros is what a paravisor puts there that was handed nothing.
func zeros(r *evidencetest.ParavisorRecipe) { r.UserData = make([]byte, 64) }

// started has PCRs 0 and 4 explained by the firmware's log; otherPCRs pins those that the
// firmware owns besides.
func started(r *evidencetest.ParavisorRecipe) { r.Booted = true }

var otherPCRs = func() (rules string) {
	for _, i := range []byte{1, 2, 3, 5, 6, 7} {
		rules += fmt.Sprintf("[[pcr]]\nbank = \"sha256\"\nindex = %d\nvalues = [%q]\n", i, repeated(i, 32))
	}
	return rules
}()

var rawMutations = []mutation{
	{id: ReportTable, name: "garbage after the report", root: bareRoot, raw: bare(nil, func(m *RawReport, _ *options) { m.Report = append(m.Report, 1) })},
	{id: ReportTable, name: "a table that points outside itself", root: bareRoot, raw: bare(nil, func(m *RawReport, _ *options) {
		m.Report = append(m.Report, bytes.Repeat([]byte{0xff}, 48)...)
	})},
	{id: ReportExpectedData, name: "another nonce", root: bareRoot, raw: bare(nil, func(_ *RawReport, o *options) { o.Nonce = bytes.Repeat([]byte{1}, 32) })},
	{id: ReportExpectedData, name: "the nonce, and more after it", root: bareRoot, raw: bare(nil, func(_ *RawReport, o *options) { o.Nonce = evidencetest.Nonce[:16] })},
	{id: ReportExpectedData, name: "other report data", root: bareRoot + "\nfreshness = \"any\"", raw: bare(nil, func(_ *RawReport, o *options) {
		o.Nonce, o.ReportData = nil, bytes.Repeat([]byte{1}, 64)
	})},
	{id: ReportDecode, name: "bare, a byte short", root: bareRoot, blind: true, raw: bare(nil, func(m *RawReport, _ *options) { m.Report = m.Report[:snp.ReportSize-1] })},
	{id: ReportSignature, name: "bare, flipped", root: bareRoot, raw: bare(nil, func(m *RawReport, _ *options) { m.Report[0x140] ^= 1 })},
	{id: ReportCertificate, name: "bare, no certificate", root: bareRoot, blind: true, raw: bare(nil, func(m *RawReport, _ *options) { m.Certificates = nil })},
	{id: PolicyBinding, name: "a bare report binds no vTPM", root: `log = "optional"`, raw: bare(nil, nil)},
	{id: PolicyLog, name: "a bare report has no log", root: `binding = "none"`, raw: bare(nil, nil)},
	{id: PolicyPCR, name: "a bare report has no PCRs", root: bareRoot, tables: "[[pcr]]\nbank = \"sha256\"\nindex = 4\nvalues = [\"" + repeated(0, 32) + "\"]", raw: bare(nil, nil)},
	{id: PolicyAK, name: "a bare report has no AK", root: bareRoot + "\nak_names = [\"000b" + repeated(1, 32) + "\"]", raw: bare(nil, nil)},
	{id: PolicyCallerUnit, name: "no caller asked for a bare report", root: bareRoot, tables: "[caller]\nunit = \"billing.service\"", raw: bare(nil, nil)},
	{id: PolicyCallerUser, name: "no caller is not root", root: bareRoot, tables: "[caller]\nuid = 0", raw: bare(nil, nil)},
	{id: PolicyDebug, name: "bare", root: bareRoot, raw: bare(func(r *evidencetest.Report) { r.Body = setPolicy(1 << 19) }, nil)},

	{id: ParavisorDecode, name: "no paravisor's", policy: paravisorPolicy("paravisor", ""), blind: true, raw: paravisorSet(blob(func(b []byte) { b[0] ^= 1 }), nil)},
	{id: ParavisorDecode, name: "size of the whole", policy: paravisorPolicy("paravisor", ""), blind: true, raw: paravisorSet(blob(func(b []byte) { b[8]++ }), nil)},
	{id: ParavisorDecode, name: "size of the runtime data", policy: paravisorPolicy("paravisor", ""), blind: true, raw: paravisorSet(blob(func(b []byte) { b[1235] = 0xff }), nil)},
	{id: ParavisorDecode, name: "unknown hash", policy: paravisorPolicy("paravisor", ""), blind: true, raw: paravisorSet(blob(func(b []byte) { b[1228] = 9 }), nil)},
	{id: ParavisorDecode, name: "something after the runtime data", policy: paravisorPolicy("paravisor", ""), blind: true, raw: paravisorSet(blob(func(b []byte) { b[len(b)-1] = 1 }), nil)},
	{id: ParavisorDecode, name: "a member twice", policy: paravisorPolicy("paravisor", ""), blind: true, raw: paravisorSet(runtimeText(`{"keys":`, `{"keys":[],"keys":`), nil)},
	{id: ParavisorDecode, name: "too short", policy: paravisorPolicy("paravisor", ""), blind: true, raw: paravisorSet(nil, func(s *AzureSet, _ *options) { s.HCL = s.HCL[:1235] })},
	{id: ParavisorKey, name: "absent", policy: paravisorPolicy("paravisor", ""), blind: true, raw: paravisorSet(runtimeText("HCLAkPub", "HCLAkPriv"), nil)},
	{id: ParavisorKey, name: "two of the name", policy: paravisorPolicy("paravisor", ""), blind: true, raw: paravisorSet(runtimeText("HCLEkPub", "HCLAkPub"), nil)},
	{id: ParavisorKey, name: "exponent 3", policy: paravisorPolicy("paravisor", ""), blind: true, raw: paravisorSet(runtimeText("AQAB", "Aw"), nil)},
	{id: ParavisorKey, name: "modulus respelled", policy: paravisorPolicy("paravisor", ""), blind: true, raw: paravisorSet(runtimeText(`"n":"`, `"n":"AAAA`), nil)},
	{id: ParavisorUserData, name: "another", policy: paravisorPolicy("paravisor", ""), raw: paravisorSet(nil, func(_ *AzureSet, o *options) { o.UserData = append(bytes.Clone(evidencetest.Nonce), "other"...) })},
	{id: BindingRuntimeData, name: "case 51 runtime data altered", policy: paravisorPolicy("paravisor", `binding = "paravisor"`), raw: paravisorSet(blob(func(b []byte) {
		b[bytes.Index(b, []byte("secure"))] = 'S'
	}), nil)},
	{id: BindingRuntimeData, name: "more in the report data", policy: paravisorPolicy("paravisor", `binding = "paravisor"`), raw: paravisorSet(func(r *evidencetest.ParavisorRecipe) {
		r.Report.Body = func(b []byte) { b[evidencetest.AtReportData+63] = 1 }
	}, nil)},
	{id: ReportKind, name: "a paravisor's TDX report", policy: paravisorPolicy("paravisor", ""), raw: paravisorSet(blob(func(b []byte) { b[1224] = 4 }), nil), blind: true},
	{id: QuoteQualifyingData, name: "case 52 paravisor, another nonce", policy: paravisorPolicy("paravisor", ""), raw: paravisorSet(func(r *evidencetest.ParavisorRecipe) {
		r.UserData = bytes.Repeat([]byte{1}, 64) // a report of now, a quote of before
	}, func(_ *AzureSet, o *options) {
		o.Nonce, o.UserData = bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{1}, 64)
	})},
	{id: QuotePCRDigest, name: "paravisor, another value", policy: paravisorPolicy("paravisor", ""), raw: paravisorSet(nil, func(s *AzureSet, _ *options) { s.PCRs[767] ^= 1 })},
	{id: QuoteSelection, name: "paravisor, a value too few", policy: paravisorPolicy("paravisor", ""), blind: true, raw: paravisorSet(nil, func(s *AzureSet, _ *options) { s.PCRs = s.PCRs[32:] })},
	{id: QuoteSignature, name: "paravisor, flipped", policy: paravisorPolicy("paravisor", ""), raw: paravisorSet(nil, func(s *AzureSet, _ *options) { s.Signature[9] ^= 1 })},
	{id: QuoteSignatureEncoding, name: "paravisor, too short", policy: paravisorPolicy("paravisor", ""), blind: true, raw: paravisorSet(nil, func(s *AzureSet, _ *options) { s.Signature = s.Signature[1:] })},
	{id: PolicyBinding, name: "case 93 paravisor's set, listed as plain", policy: paravisorPolicy("plain", `binding = "paravisor"`) +
		"[[launch]]\nmeasurement = \"" + repeated(9, 48) + "\"\nkind = \"paravisor\"\ncovers = \"firmware\"\n", raw: paravisorSet(nil, nil)},
	{id: PolicyBinding, name: "case 55 paravisor's set asked for at VMPL 2", policy: paravisorPolicy("paravisor", "binding = \"paravisor\"\nvmpl = [0, 2]"), raw: paravisorSet(func(r *evidencetest.ParavisorRecipe) {
		r.Report.Body = le32(evidencetest.AtVMPL, 2)
	}, nil)},
	{id: PolicyFreshness, name: "paravisor's report of any age, and the policy accepts an anchored one", policy: paravisorPolicy("paravisor", anchoredPolicy), raw: paravisorSet(nil, func(_ *AzureSet, o *options) { o.UserData = nil })},
	{id: PolicyFreshness, name: "paravisor's report of any age", policy: paravisorPolicy("paravisor", ""), raw: paravisorSet(nil, func(_ *AzureSet, o *options) { o.UserData = nil })},
	{id: PolicyFreshness, name: "paravisor's user data of zeros", policy: paravisorPolicy("paravisor", ""), raw: paravisorSet(zeros, func(_ *AzureSet, o *options) { o.UserData = make([]byte, 64) })},
	{id: PolicyFreshness, name: "paravisor's user data of one zero", policy: paravisorPolicy("paravisor", ""), raw: paravisorSet(zeros, func(_ *AzureSet, o *options) { o.UserData = []byte{0} })},
	{id: PolicyFreshness, name: "paravisor's user data of another nonce", policy: paravisorPolicy("paravisor", ""), raw: paravisorSet(func(r *evidencetest.ParavisorRecipe) {
		r.UserData = bytes.Repeat([]byte{0x75}, 64)
	}, func(_ *AzureSet, o *options) { o.UserData = bytes.Repeat([]byte{0x75}, 64) })},
	{id: PolicyFreshness, name: "report data that may be a constant", root: bareRoot, raw: bare(nil, func(_ *RawReport, o *options) {
		o.Nonce, o.ReportData = nil, evidencetest.Nonce
	})},
	{id: FirmwareDecode, name: "case 32 paravisor's set, garbage", policy: paravisorPolicy("paravisor", firmwareRoot), raw: paravisorSet(nil, func(s *AzureSet, _ *options) { s.FirmwareLog = []byte("no log") })},
	{id: FirmwareDecode, name: "case 30 paravisor's set, cut off", policy: paravisorPolicy("paravisor", firmwareRoot), raw: paravisorSet(started, func(s *AzureSet, _ *options) { s.FirmwareLog = s.FirmwareLog[:len(s.FirmwareLog)-1] })},
	{id: PolicyFirmwareLog, name: "paravisor's set without one", policy: paravisorPolicy("paravisor", firmwareRoot) + otherPCRs, raw: paravisorSet(started, func(s *AzureSet, _ *options) { s.FirmwareLog = nil })},
	{id: PolicyFirmwareLog, name: "case 28 paravisor's set, dropped", policy: paravisorPolicy("paravisor", firmwareRoot) + otherPCRs, raw: paravisorSet(started, func(s *AzureSet, _ *options) {
		s.FirmwareLog = evidencetest.FirmwareLog(evidencetest.Firmware[0])
	})},
	{id: PolicyAK, name: "paravisor's key has no name", policy: paravisorPolicy("paravisor", `ak_names = ["000b`+repeated(1, 32)+`"]`), raw: paravisorSet(nil, nil)},
}

// TestRawAccepted: what the mutations above start from is accepted, and says what it
// is and what it does not show.
func TestRawAccepted(t *testing.T) {
	for _, c := range []struct {
		name      string
		policy    string
		raw       makeMaterial
		material  Material
		binding   Binding
		freshness Freshness
		says      string
	}{
		{"bare", makePolicy(bareRoot, ""), bare(nil, nil), MaterialReport, BindingNone, FreshReport, "A bare report"},
		{"bare, old", makePolicy(bareRoot, ""), bare(nil, func(_ *RawReport, o *options) { o.Nonce, o.AcceptReplay = nil, true }), MaterialReport, BindingNone, UnknownReport, "may be old"},
		{"paravisor", paravisorPolicy("paravisor", `binding = "paravisor"`), paravisorSet(nil, nil), MaterialParavisor, BindingParavisor, FreshReport, "measured paravisor"},
		{"paravisor, listed as plain", paravisorPolicy("plain", ""), paravisorSet(nil, nil), MaterialParavisor, BindingGuestAsserted, FreshReport, "By the guest's word alone: the quoted PCR values"},
		{"paravisor, listed as svsm", paravisorPolicy("svsm", ""), paravisorSet(nil, nil), MaterialParavisor, BindingGuestAsserted, FreshReport, "By the guest's word alone: the quoted PCR values"},
		{"paravisor, not listed", "version = 1\nunlisted_launch = \"allow\"\nlog = \"optional\"\n", paravisorSet(nil, nil), MaterialParavisor, BindingGuestAsserted, FreshReport, "not listed"},
		{"paravisor, report of any age", paravisorPolicy("paravisor", `freshness = "any"`), paravisorSet(nil, func(_ *AzureSet, o *options) { o.UserData = nil }),
			MaterialParavisor, BindingParavisor, UnknownReport, "the report is of unknown age and may be old"},
		{"paravisor, constant user data", paravisorPolicy("paravisor", `freshness = "any"`), paravisorSet(zeros, func(_ *AzureSet, o *options) { o.UserData = make([]byte, 64) }),
			MaterialParavisor, BindingParavisor, UnknownReport, "The quote contains the nonce and is new; the report is of unknown age"},
		{"bare, report data stated", makePolicy(bareRoot+"\nfreshness = \"any\"", ""), bare(nil, func(_ *RawReport, o *options) { o.Nonce, o.ReportData = nil, evidencetest.Nonce }),
			MaterialReport, BindingNone, UnknownReport, "a constant dates nothing"},
		{"paravisor, with the firmware's log", paravisorPolicy("paravisor", firmwareRoot) + otherPCRs, paravisorSet(started, nil), MaterialParavisor, BindingParavisor, FreshReport, "measured paravisor"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := baseOptions(t)
			o.Policy = mustPolicy(t, c.policy)
			a, err := c.raw(t, &o).appraise(o, nil)
			if err != nil {
				t.Fatal(err)
			}
			if a.Verdict != Pass || a.Material != c.material || a.Binding != c.binding || a.Freshness != c.freshness || !says(a, c.says) {
				t.Errorf("%s, %s, binding %s, report %s, %q\n%s", a.Verdict, a.Material, a.Binding, a.Freshness, a.Sentences, explain(a))
			}
			if _, err := a.Claims(); err != nil {
				t.Error(err)
			}
			for _, x := range a.Checks {
				if x.Sentence == "" {
					t.Errorf("%s says nothing", x.ID)
				}
			}
		})
	}
}

// TestRawExpectations: an expectation that the material cannot meet is misuse.
func TestRawExpectations(t *testing.T) {
	base := baseOptions(t)
	for _, c := range []struct {
		name   string
		change func(*options)
		run    func(options) error
	}{
		{"report data for evidence", func(o *options) { o.Nonce, o.ReportData = nil, make([]byte, 64) }, func(o options) error { _, err := appraiseEvidence(nil, o); return err }},
		{"report data for a quote", func(o *options) { o.Nonce, o.ReportData = nil, make([]byte, 64) }, func(o options) error { _, err := appraiseQuote(QuoteSet{}, o); return err }},
		{"both", func(o *options) { o.ReportData = make([]byte, 64) }, func(o options) error { _, err := appraiseReport(RawReport{}, o); return err }},
		{"too long", func(o *options) { o.Nonce, o.ReportData = nil, make([]byte, 65) }, func(o options) error { _, err := appraiseReport(RawReport{}, o); return err }},
		{"report data, replay accepted", func(o *options) { o.Nonce, o.ReportData, o.AcceptReplay = nil, make([]byte, 64), true }, func(o options) error { _, err := appraiseReport(RawReport{}, o); return err }},
		{"audience", func(o *options) { o.Audience = "me" }, func(o options) error { _, err := appraiseReport(RawReport{}, o); return err }},
		{"new history", func(o *options) { o.NewHistory = true }, func(o options) error { _, err := appraiseReport(RawReport{}, o); return err }},
		{"public key", func(o *options) { o.PublicKey = []byte{1} }, func(o options) error { _, err := appraiseParavisor(AzureSet{}, o); return err }},
		{"user data of a bare report", func(o *options) { o.UserData = []byte{1} }, func(o options) error { _, err := appraiseReport(RawReport{}, o); return err }},
		{"empty user data", func(o *options) { o.UserData = []byte{} }, func(o options) error { _, err := appraiseParavisor(AzureSet{}, o); return err }},
		{"empty report data", func(o *options) { o.ReportData = []byte{} }, func(o options) error { _, err := appraiseReport(RawReport{}, o); return err }},
		{"short nonce of a report", func(o *options) { o.Nonce = o.Nonce[:15] }, func(o options) error { _, err := appraiseReport(RawReport{}, o); return err }},
		{"short nonce of a paravisor's set", func(o *options) { o.Nonce = o.Nonce[:15] }, func(o options) error { _, err := appraiseParavisor(AzureSet{}, o); return err }},
		{"short nonce of a quote", func(o *options) { o.Nonce = o.Nonce[:1] }, func(o options) error { _, err := appraiseQuote(QuoteSet{}, o); return err }},
		{"certificates apart from a report", func(o *options) { o.Expected = [][]byte{{1}} }, func(o options) error { _, err := appraiseReport(RawReport{}, o); return err }},
		{"no nonce", func(o *options) { o.Nonce = nil }, func(o options) error { _, err := appraiseParavisor(AzureSet{}, o); return err }},
	} {
		o := base
		c.change(&o)
		if err := c.run(o); !errors.Is(err, ErrMisuse) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
