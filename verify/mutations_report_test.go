// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify/snp"
)

func body(f func(b []byte)) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) { r.Report.Body = f }
}

func signed(f func(b []byte)) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) { r.Report.Signed = f }
}

func le32(at int, v uint32) func([]byte) {
	return func(b []byte) { binary.LittleEndian.PutUint32(b[at:], v) }
}

// setPolicy sets bits of the guest policy.
func setPolicy(bits uint64) func([]byte) {
	return func(b []byte) {
		p := b[evidencetest.AtPolicy:]
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)|bits)
	}
}

// version3 takes out what reports before version 5 do not have.
func version3(b []byte) {
	b[evidencetest.AtVersion] = 3
	clear(b[evidencetest.AtLaunchMitigations : evidencetest.AtLaunchMitigations+16])
}

var reportMutations = []mutation{
	{id: ReportKind, name: "unknown kind", recipe: document(func(e *evidence.Evidence) { e.Report.Kind = "tdx" }), blind: true},
	{id: ReportDecode, name: "case 60 version 1", blind: true, recipe: body(le32(evidencetest.AtVersion, 1))},
	{id: ReportDecode, name: "case 60 version 7", blind: true, recipe: body(le32(evidencetest.AtVersion, 7))},
	{id: ReportDecode, name: "case 60 a byte short", blind: true, recipe: document(func(e *evidence.Evidence) { e.Report.Bytes = e.Report.Bytes[:1183] })},
	{id: ReportDecode, name: "case 60 a byte long", blind: true, recipe: document(func(e *evidence.Evidence) { e.Report.Bytes = append(e.Report.Bytes, 0) })},
	{id: ReportDecode, name: "reserved byte", blind: true, recipe: body(func(b []byte) { b[0x4C] = 1 })},

	{id: ReportSigner, name: "case 58 VLEK named, VCEK signed", recipe: body(le32(evidencetest.AtKeyInfo, 1<<2))},
	{id: ReportSigner, name: "case 58 masked chip key", recipe: body(le32(evidencetest.AtKeyInfo, 1<<1))},
	{id: ReportSigner, name: "unsigned", recipe: body(le32(evidencetest.AtKeyInfo, 7<<2))},
	{id: ReportSigner, name: "unsigned, and no certificate", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Report.Body = le32(evidencetest.AtKeyInfo, 7<<2)
		r.Report.NoCertificates = true
	}},

	{id: ReportProduct, name: "case 58 Milan report, Genoa chain", recipe: body(func(b []byte) { b[evidencetest.AtCPU+1] = 0x01 })},
	{id: ReportProduct, name: "case 58 Milan certificate, Genoa chain", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Report.Leaf.ProductName = "Milan-B0"
		r.Report.Body = func(b []byte) {
			version3(b)
			b[evidencetest.AtVersion] = 2
			clear(b[evidencetest.AtCPU : evidencetest.AtCPU+3])
		}
	}},
	{id: ReportProduct, name: "unknown processor", recipe: body(func(b []byte) { b[evidencetest.AtCPU+1] = 0x77 })},

	{id: ReportCertificate, name: "case 43 no certificates", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.Report.NoCertificates = true }},
	{id: ReportCertificate, name: "case 43 garbage", blind: true, recipe: document(func(e *evidence.Evidence) {
		e.Certificates = []evidence.Bytes{bytes.Repeat([]byte{0x30}, 100), {0}}
	})},
	{id: ReportCertificate, name: "issuer missing", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.Report.OnlyLeaf = true }},
	{id: ReportChain, name: "root that the verifier does not trust", blind: true, opts: func(_ *testing.T, o *options) { o.Roots = nil }},
	{id: ReportChain, name: "issuer under another name", blind: true, recipe: func(t *testing.T, r *evidencetest.Recipe) {
		r.Document = func(e *evidence.Evidence) {
			e.Certificates = nil
			for _, c := range r.Report.CertificatesNamed(t, "SEV-VCEK", "SEV-VLEK-Genoa") {
				e.Certificates = append(e.Certificates, c)
			}
		}
	}},
	{id: ReportValidity, name: "expired", recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.Report.NotAfter = evidencetest.Time.Add(-time.Hour) }},
	{id: ReportValidity, name: "not yet valid", recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.Report.NotBefore = evidencetest.Time.Add(time.Hour) }},

	{id: ReportRevocationList, name: "case 59 absent", root: `revocation = "required"`},
	{id: ReportRevocationList, name: "case 59 stale", root: `revocation = "required"`, opts: func(t *testing.T, o *options) {
		o.Revocation = []*snp.RevocationList{evidencetest.RevocationList(t, snp.Genoa, o.Time.AddDate(0, -2, 0), o.Time.AddDate(0, -1, 0))}
	}},
	{id: ReportRevocationList, name: "case 59 of another product", root: `revocation = "required"`, opts: func(t *testing.T, o *options) {
		o.Revocation = []*snp.RevocationList{evidencetest.RevocationList(t, snp.Milan, o.Time.AddDate(0, -1, 0), o.Time.AddDate(0, 1, 0))}
	}},
	{id: ReportRevocation, name: "case 59 revoked", root: `revocation = "required"`, opts: revoked},
	{id: ReportRevocation, name: "case 59 revoked, and a list was not demanded", opts: revoked},

	{id: ReportSignature, name: "flipped", recipe: signed(func(b []byte) { b[evidencetest.AtSignature] ^= 1 })},
	{id: ReportSignature, name: "report altered", recipe: signed(func(b []byte) { b[0x140] ^= 1 })},
	{id: ReportSignature, name: "case 58 zero", recipe: signed(func(b []byte) { clear(b[evidencetest.AtSignature:]) })},
	{id: ReportSignature, name: "case 60 r is zero", recipe: signed(func(b []byte) { clear(b[evidencetest.AtSignature : evidencetest.AtSignature+72]) })},
	{id: ReportSignature, name: "case 60 s is n", recipe: signed(func(b []byte) { copy(b[evidencetest.AtSignature+72:], evidencetest.CurveOrder()) })},

	{id: ReportChip, name: "case 58 another chip", recipe: body(func(b []byte) { b[evidencetest.AtChipID+63] ^= 1 })},
	{id: ReportTCB, name: "case 56 boot loader", recipe: reportedLevel(0)},
	{id: ReportTCB, name: "case 56 TEE", recipe: reportedLevel(1)},
	{id: ReportTCB, name: "case 56 reserved", recipe: reportedLevel(3)},
	{id: ReportTCB, name: "case 56 SNP", recipe: reportedLevel(6)},
	{id: ReportTCB, name: "case 56 microcode", recipe: reportedLevel(7)},

	{id: BindingReportData, name: "another tree", recipe: reportOf(func(s *evidence.Snapshot) { s.Tree.Root[0] ^= 1 })},
	{id: BindingReportData, name: "case 53 another size", recipe: reportOf(func(s *evidence.Snapshot) { s.Tree.Size++ })},
	{id: BindingReportData, name: "another log", recipe: reportOf(func(s *evidence.Snapshot) { s.LogHead.Count++ })},
	{id: BindingReportData, name: "another quote", recipe: reportOf(func(s *evidence.Snapshot) { s.Quote.Attest = append([]byte{0}, s.Quote.Attest...) })},
	{id: BindingReportData, name: "case 51 report of another machine", recipe: func(t *testing.T, r *evidencetest.Recipe) {
		other := evidencetest.New()
		other.AK = evidencetest.ECCKey('o')
		report := other.Build(t).Report
		r.Document = func(e *evidence.Evidence) { e.Report = report }
	}},
	{id: BindingReportData, name: "case 52 old report", recipe: func(t *testing.T, r *evidencetest.Recipe) {
		old := evidencetest.New()
		old.Statement.Nonce = bytes.Repeat([]byte{1}, 32)
		report := old.Build(t).Report
		r.Document = func(e *evidence.Evidence) { e.Report = report }
	}},
}

func revoked(t *testing.T, o *options) {
	o.Revocation = []*snp.RevocationList{evidencetest.RevocationList(t, snp.Genoa, o.Time.AddDate(0, -1, 0), o.Time.AddDate(0, 1, 0), evidencetest.Serial)}
}

func reportedLevel(i int) func(*testing.T, *evidencetest.Recipe) {
	return body(func(b []byte) { b[evidencetest.AtReportedTCB+i]++ })
}

func reportOf(f func(*evidence.Snapshot)) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) {
		r.ReportOf = func(s evidence.Snapshot) evidence.Snapshot { f(&s); return s }
	}
}
