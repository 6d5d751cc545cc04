// SPDX-License-Identifier: Apache-2.0

package paravisor

import (
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/report"
	"github.com/cvm-agentd/agentd/verify/internal/sevsnp"
)

// Platform checks reports of the kind [evidence.ReportParavisor]: a report of SEV-SNP over
// runtime data, which name the attestation key and have the 64 bytes of the guest. Several
// goroutines may use it.
type Platform struct {
	SNP *sevsnp.Platform // checks the report itself
}

var platformDefinitions = []check.Definition{decode, key, RuntimeData}

// Definitions returns the checks of the structure around the report.
func (*Platform) Definitions() []check.Definition { return platformDefinitions }

// Genuine returns the checks that tell that a processor of AMD made the report, and over this
// structure.
func (p *Platform) Genuine() []check.ID { return append(p.SNP.Genuine(), RuntimeData.ID) }

// Split cuts off the zeros that fill the NV index up. The host adds nothing else.
func (p *Platform) Split(f *check.Findings, raw []byte) (body []byte, certificates [][]byte) {
	_, certificates = p.SNP.Split(f, nil)
	if h, err := tpmwire.ParseHCL(raw); err == nil {
		raw = raw[:h.Size]
	}
	return raw, certificates
}

// Report is what a paravisor's structure says.
type Report struct {
	*sevsnp.Report
	blob *Blob
	key  *tpmwire.Key // HCLAkPub; nil if it cannot be used
	over bool         // REPORT_DATA is the hash of the runtime data
}

// Judge checks the structure and the report in it, see [report.Platform].
func (p *Platform) Judge(f *check.Findings, m report.Material) report.Report {
	blob := decided(f, m.Body, tpmwire.ParseHCLOfSNP)
	if blob == nil {
		return nil
	}
	r := &Report{blob: blob, key: blob.CheckKey(f)}
	m.Body = blob.Report
	if r.Report = sevsnp.Of(p.SNP.Judge(f, m)); r.Report == nil {
		return nil
	}
	r.over = blob.CheckRuntimeData(f, r.Report)
	return r
}

// Data returns the user data of the runtime data, zeros if there is none.
func (r *Report) Data() (data [report.DataSize]byte) {
	copy(data[:], r.blob.UserData)
	return data
}

// Vouch checks that the runtime data name the AK: the same modulus and exponent, which is all
// that they say of a key. Without it, an attacker could quote with a TPM in software, under the
// runtime data of a genuine one.
func (r *Report) Vouch(f *check.Findings, known report.Known) report.Voucher {
	ak := known.AK
	if ak == nil || r.key == nil {
		return report.ByGuest
	}
	found := "a key of another algorithm"
	if ak.RSA != nil {
		found = check.Short(ak.RSA.N.Bytes())
	}
	same := ak.RSA != nil && ak.RSA.Equal(r.key.RSA)
	if !f.Decide(report.VouchedKey.ID, same, check.Short(r.key.RSA.N.Bytes()), found,
		"the AK is not the HCLAkPub of the paravisor's runtime data: the paravisor vouches for another key") || !r.over {
		return report.ByGuest
	}
	return report.ByParavisor
}
