// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// Material says what was appraised. Only evidence of this project binds a statement,
// a quote and a report to each other; everything else proves less, and the checks that
// it gives nothing for are listed as not asserted.
type Material string

const (
	MaterialEvidence  Material = "evidence"            // [Verifier.Appraise]
	MaterialReport    Material = "snp-report"          // [Verifier.AppraiseReport]: no vTPM, no log, no statement
	MaterialParavisor Material = "azure-paravisor-set" // [Verifier.AppraiseParavisor]: no log, no statement
	MaterialQuote     Material = "tpm-quote"           // [Verifier.AppraiseQuote]: no report, so that nothing is known of the machine
)

// RawReport is a bare report, as another system recorded it.
type RawReport struct {
	Report       []byte   // 1184 bytes; behind them the host's certificate table (GHCB, section "SNP Extended Guest Request"), or nothing
	Certificates [][]byte // X.509 DER, any order, unverified
}

// AzureSet is what a guest on Azure reads from its vTPM.
type AzureSet struct {
	HCL          []byte   // NV index 0x01400001: report, sizes and runtime data of the paravisor
	Quote        []byte   // TPMS_ATTEST
	Signature    []byte   // TPMT_SIGNATURE, or the bare RSASSA signature with SHA-256
	PCRs         []byte   // PCRs 0 to 23 of bank SHA-256, 24 times 32 bytes
	FirmwareLog  []byte   // the firmware's event log as the kernel gives it; may be absent
	Certificates [][]byte // X.509 DER, any order, unverified
}

// QuoteSet is a quote beside the key that made it. Nothing says where that key lives.
type QuoteSet struct {
	Key       []byte          // TPMT_PUBLIC, or an RSA key as SubjectPublicKeyInfo in DER
	Quote     []byte          // TPMS_ATTEST
	Signature []byte          // TPMT_SIGNATURE, or the bare RSASSA signature with SHA-256
	PCRs      []evidence.Bank // quoted values, in the order of the quote's selection
}

func (v *Verifier) appraiseReport(r RawReport, expect Expect, now time.Time, ignored map[CheckID]bool) (*Appraisal, error) {
	a, err := v.begin(MaterialReport, expect, now, ignored)
	if err != nil {
		return nil, err
	}
	a.skipBeside("a bare report", ReportTable, ReportExpectedData)
	body, table := r.Report, []byte(nil)
	if len(body) > snp.ReportSize {
		body, table = body[:snp.ReportSize], body[snp.ReportSize:]
	}
	a.e = &evidence.Evidence{Report: evidence.Report{Kind: evidence.ReportSNP, Bytes: body}}
	a.rawCertificates(r.Certificates)
	if table == nil {
		a.Skip(ReportTable, "nothing follows the report")
	} else if ders, err := snp.TableCertificates(table); a.DecideError(ReportTable, err) {
		a.rawCertificates(ders)
	}
	a.checkReport()
	a.checkExpectedData()
	a.checkBinding()
	a.p.Judge(subject{a}, a.Findings)
	return a.result(), nil
}

func (v *Verifier) appraiseQuote(s QuoteSet, expect Expect, now time.Time, ignored map[CheckID]bool) (*Appraisal, error) {
	a, err := v.begin(MaterialQuote, expect, now, ignored)
	if err != nil {
		return nil, err
	}
	a.e = &evidence.Evidence{}
	a.skipBeside("a bare quote", AKDecode, AKAttributes, AKAlgorithm)
	for _, d := range definitions {
		switch d.ID {
		case ReportKind, ReportDecode, ReportSigner, ReportProduct, ReportCertificate, ReportChain, ReportValidity, ReportRevocationList, ReportRevocation, ReportSignature, ReportChip, ReportTCB:
			a.Block(d.ID, "there is no report: nothing is known of the machine that the TPM belongs to")
		}
	}
	a.checkRawKey(s.Key)
	a.checkRawQuote(s.Quote, s.Signature, s.PCRs)
	a.p.Judge(subject{a}, a.Findings)
	return a.result(), nil
}

func (a *appraiser) rawCertificates(ders [][]byte) {
	for _, d := range ders {
		a.e.Certificates = append(a.e.Certificates, d)
	}
}

// skipBeside skips what raw material never holds, but for the checks that this kind makes.
func (a *appraiser) skipBeside(what string, made ...CheckID) {
	never := append([]CheckID{EvidenceDecode, StatementDecode, StatementNonce, StatementAudience, StatementPublicKey, StatementUserData, StatementFreshness,
		BatchInclusion, BatchAgentSignature, AKDecode, AKAttributes, AKAlgorithm, ReportTable, BindingReportData}, logChecks...)
	never = append(append(never, rawChecks...), FirmwareDecode)
	if a.material == MaterialReport {
		never = append(never, QuoteMagic, QuoteType, QuoteDecode, QuoteTrailing, QuoteSignatureEncoding, QuoteSignature, QuoteSelection, QuotePCRDigest, QuoteQualifyingData)
	}
	why := what + " holds nothing of the kind"
	for _, id := range never {
		if !slices.Contains(made, id) {
			a.Skip(id, why)
		}
	}
	a.skipAnchor(what + " holds no anchor")
}

// rawChecks are those that only raw material undergoes.
var rawChecks = []CheckID{ReportExpectedData, ParavisorDecode, ParavisorKey, ParavisorUserData, BindingRuntimeData}

// checkExpectedData holds a bare report's REPORT_DATA against what the verifier
// expects. A shorter expectation stands for one that zeros follow, which is how other
// systems put a nonce there.
func (a *appraiser) checkExpectedData() {
	want := a.expect.ReportData
	if want == nil {
		want = a.expect.Nonce
	}
	switch {
	case len(want) == 0:
		a.Skip(ReportExpectedData, "no report data and no nonce was expected: this report may be old, or made for somebody else")
	case a.report != nil:
		var padded [64]byte
		copy(padded[:], want)
		a.Decide(ReportExpectedData, equal(padded[:], a.report.ReportData[:]), hex.EncodeToString(padded[:]), hex.EncodeToString(a.report.ReportData[:]),
			"REPORT_DATA is not the expected: an old report, or one made for another purpose")
	}
}

// checkRawKey reads a key that a quote stands beside. A TPMT_PUBLIC states what the key
// may do; a bare RSA key states nothing, and is then held to sign RSASSA with SHA-256.
func (a *appraiser) checkRawKey(b []byte) {
	public, err := x509.ParsePKIXPublicKey(b)
	if err != nil {
		a.e.AK = b
		a.checkKey()
		return
	}
	a.Decide(AKDecode, true, "", "", "")
	a.Skip(AKAttributes, "a bare public key says neither that a TPM holds it nor that it is restricted")
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		a.Decide(AKAlgorithm, false, "RSA", fmt.Sprintf("%T", public), "a bare key that is not RSA does not say how it signs: give its TPMT_PUBLIC")
		return
	}
	if k, err := tpmwire.BareRSA(key); a.DecideError(AKAlgorithm, err) && k != nil {
		a.ak = k
	}
}

// checkRawQuote judges a quote that holds the verifier's nonce itself. A signature as
// long as the modulus is one without the TPMT_SIGNATURE around it.
func (a *appraiser) checkRawQuote(attest, signature []byte, values []evidence.Bank) {
	if a.ak != nil && a.ak.RSA != nil && len(signature) == a.ak.RSA.Size() {
		signature = a.ak.Wrap(signature)
	}
	a.e.Batch = evidence.Snapshot{Quote: evidence.Quote{Attest: attest, Signature: signature}, PCRs: values}
	a.batch = a.checkQuote(quoteChecks, &a.e.Batch, a.expect.Nonce)
}
