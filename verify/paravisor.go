// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/pcr"
)

func (v *Verifier) appraiseParavisor(s AzureSet, expect Expect, now time.Time, ignored map[CheckID]bool) (*Appraisal, error) {
	a, err := v.begin(MaterialParavisor, expect, now, ignored)
	if err != nil {
		return nil, err
	}
	a.skipBeside("a paravisor's set", ParavisorDecode, ParavisorKey, ParavisorUserData, BindingRuntimeData, FirmwareDecode)
	for _, id := range []CheckID{AKDecode, AKAttributes, AKAlgorithm} {
		a.Skip(id, "the runtime data names modulus and exponent alone, see %s: what else the key signs is the paravisor's word", ParavisorKey)
	}
	h, err := parseHCL(s.HCL)
	if !a.DecideError(ParavisorDecode, err) || err != nil {
		return a.result(), nil
	}
	a.hcl = h
	a.e = &evidence.Evidence{Report: evidence.Report{Kind: evidence.ReportSNP, Bytes: h.report}}
	if h.reportType != hclTypeSNP {
		a.e.Report.Kind = evidence.ReportKind(hclKind(h.reportType))
	}
	a.rawCertificates(s.Certificates)
	if key, err := h.attestationKey(); a.DecideError(ParavisorKey, err) && key != nil {
		a.ak = key
	}
	a.checkParavisorUserData()
	a.checkRawQuote(s.Quote, s.Signature, quotedOf(s.PCRs, s.Quote))
	a.checkFirmwareLog(s.FirmwareLog)
	a.checkReport()
	a.checkBinding()
	a.p.Judge(subject{a}, a.Findings)
	return a.result(), nil
}

func hclKind(t uint32) string {
	if t == hclTypeTDX {
		return "tdx"
	}
	return fmt.Sprintf("type %d", t)
}

// checkParavisorUserData holds what the guest handed to the paravisor against what the
// verifier expects; a shorter expectation stands for one that zeros follow. It tells a
// report of today from one of the last boot only where it holds the nonce.
func (a *appraiser) checkParavisorUserData() {
	if a.expect.UserData == nil {
		a.Skip(ParavisorUserData, "no user data was expected: the report may be older than the quote")
		return
	}
	var want [hclUserData]byte
	n := copy(want[:], a.expect.UserData)
	a.Decide(ParavisorUserData, n == len(a.expect.UserData) && equal(want[:], a.hcl.userData), short(want[:]), short(a.hcl.userData),
		"the runtime data holds other user data than the expected: an old report, or one made for another purpose")
}

// checkRuntimeData ties the runtime data, and with it the attestation key, to the
// report. Any guest that may ask for reports can do the same, so what it is worth is
// for the policy's list of launch measurements to say; a paravisor asks at VMPL 0.
func (a *appraiser) checkRuntimeData() {
	var want [64]byte
	hash := a.hcl.hash.New()
	hash.Write(a.hcl.runtime)
	hash.Sum(want[:0])
	if !a.Decide(BindingRuntimeData, equal(want[:], a.report.ReportData[:]), hex.EncodeToString(want[:]), hex.EncodeToString(a.report.ReportData[:]),
		"the report was made for other runtime data: another attestation key") {
		return
	}
	a.structure = BindingGuestAsserted
	if a.report.VMPL == 0 {
		a.structure = BindingParavisor
	}
}

// quotedOf are the values, of 24 in a file, that the quote selects. Where the quote
// cannot be read, or the file has another size, it is all or none: the checks of the
// quote say why then.
func quotedOf(values, attest []byte) []evidence.Bank {
	size := pcr.SHA256.Size()
	if len(values) != pcr.Count*size {
		return nil
	}
	var selection pcr.Selection
	if at, err := tpmwire.ParseAttest(attest); err == nil {
		selection, _ = selected(at)
	}
	bank := evidence.Bank{Algorithm: pcr.SHA256.String()}
	for i := range uint32(pcr.Count) {
		if len(selection) == 1 && !slices.Contains(selection[0].PCRs, i) {
			continue
		}
		bank.PCRs = append(bank.PCRs, evidence.PCR{Index: i, Value: values[int(i)*size : int(i+1)*size]})
	}
	return []evidence.Bank{bank}
}
