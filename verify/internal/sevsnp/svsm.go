// SPDX-License-Identifier: Apache-2.0

package sevsnp

import (
	"bytes"
	"crypto/sha512"
	"fmt"

	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/report"
	"github.com/cvm-agentd/agentd/verify/snp"
)

var (
	manifest       = check.Definition{ID: "svsm.manifest", Class: check.Binding, Ground: check.OnVerifier, Checks: "an SVSM's report is followed by exactly one manifest of its vTPM, of version 0 or 1, whose keys a TPM made for this alone", Stops: "keys read from the wrong place"}
	within         = check.Definition{ID: "svsm.manifest-within", Class: check.Binding, Ground: check.OnVerifier, Checks: "the manifest does not end with another manifest of an SVSM", Stops: "a nonce of any size, of which a verifier reads the end as the beginning of the manifest: only the SVSM can limit its size"}
	endorsementKey = check.Definition{ID: "policy.endorsement-key", Class: check.Policy, Ground: check.OnBinding, Checks: "if the policy has an enrolment of the AK, the endorsement key that the binding shows, in an SVSM's manifest, is the one of that enrolment", Stops: "the quote of an enrolled TPM with the report of a machine that has another vTPM"}
)

// The checks of an SVSM's structure around the report, in two lists since those of other rooms
// come between.
var (
	SVSMDefinitions        = []check.Definition{manifest, within}
	SVSMBindingDefinitions = []check.Definition{endorsementKey}
)

// SVSM checks reports of the kind [evidence.ReportSVSM]: a report of SEV-SNP, then the manifest
// of the vTPM. REPORT_DATA is SHA-512 over the 64 bytes of the guest and the manifest. Several
// goroutines may use it.
type SVSM struct {
	SNP *Platform // checks the report itself
}

// Definitions returns the checks of the structure around the report.
func (*SVSM) Definitions() []check.Definition {
	return []check.Definition{manifest, within, endorsementKey}
}

// Genuine returns the checks that tell that a processor of AMD made the report.
func (p *SVSM) Genuine() []check.ID { return append(p.SNP.Genuine(), manifest.ID, within.ID) }

// Split finds that the host adds nothing: its certificates come apart from report and manifest.
func (p *SVSM) Split(f *check.Findings, raw []byte) (body []byte, certificates [][]byte) {
	_, certificates = p.SNP.Split(f, nil)
	return raw, certificates
}

// Judge checks the manifest and the report before it, see [report.Platform].
func (p *SVSM) Judge(f *check.Findings, m report.Material) report.Report {
	r := new(SVSMReport)
	err := fmt.Errorf("%d bytes, want a report of %d and a manifest", len(m.Body), snp.ReportSize)
	if len(m.Body) > snp.ReportSize {
		r.encoded = bytes.Clone(m.Body[snp.ReportSize:])
		r.manifest, err = tpmwire.ParseManifest(r.encoded)
	}
	if !f.DecideError(manifest.ID, err) || r.manifest == nil {
		return nil
	}
	f.DecideError(within.ID, tpmwire.ManifestWithin(r.encoded))
	m.Body = m.Body[:snp.ReportSize]
	if r.Report = Of(p.SNP.Judge(f, m)); r.Report == nil {
		return nil
	}
	return r
}

// SVSMReport is what a report of SEV-SNP and the manifest after it say.
type SVSMReport struct {
	*Report
	manifest *tpmwire.Manifest
	encoded  []byte
}

// Over returns the REPORT_DATA of a report that the SVSM asked for over 64 bytes of the guest
// (Secure VM Service Module for SEV-SNP Guests, AMD 58019, section "Attestation Protocol").
func (r *SVSMReport) Over(data [report.DataSize]byte) [report.DataSize]byte {
	return sha512.Sum512(append(data[:], r.encoded...))
}

// Vouch checks that the manifest is about the TPM of the AK: it names the AK itself, or the
// endorsement key with which the policy enrolled it. An endorsement key cannot sign, so no
// quote shows that it is in the same TPM.
func (r *SVSMReport) Vouch(f *check.Findings, k report.Known) report.Voucher {
	if k.AK == nil {
		return report.ByGuest
	}
	named := r.manifest.AK != nil
	if named {
		found := signingName(r.manifest.AK)
		f.Decide(report.VouchedKey.ID, found.Equal(k.AK.Name), check.Short(found), check.Short(k.AK.Name),
			"the AK is not the attestation key of the SVSM's manifest: the SVSM vouches for another key")
	} else {
		f.Skip(report.VouchedKey.ID, "a manifest of version 0 names no attestation key")
	}
	if k.EK != nil {
		found := nameOf(r.manifest.EK)
		f.Decide(endorsementKey.ID, found.Equal(k.EK), check.Short(k.EK), check.Short(found),
			"the SVSM's manifest names another endorsement key than the one that the AK was enrolled with: it is about another vTPM, or the AK must be enrolled with that key")
	} else {
		f.Skip(endorsementKey.ID, "the policy contains no enrolment of the AK")
	}
	if f.Met(report.VouchedKey, endorsementKey) && (named || k.EK != nil) {
		return report.BySVSM
	}
	return report.ByGuest
}

// signingName returns the name of an attestation key, nil if no signature can be verified with
// it.
func signingName(encoded []byte) keys.Name {
	public, err := tpmwire.ParsePublic(encoded)
	if err != nil {
		return nil
	}
	key, err := tpmwire.SigningKey(public, encoded)
	if err != nil {
		return nil
	}
	return key.Name
}

// nameOf returns the name of an endorsement key, nil if it is named with another hash than
// enrolments have.
func nameOf(encoded []byte) keys.Name {
	p, err := keys.ParsePublic(encoded)
	if err != nil {
		return nil
	}
	return p.Name()
}
