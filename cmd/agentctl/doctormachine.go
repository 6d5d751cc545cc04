// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/cvm-agentd/agentd/collateral"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// lookAtCloud says what is particular about the machine for those who write policies: whose key
// signs reports, what a launch measurement covers, and who certified the attestation key. The
// certificates of e are unverified: the sentences say what a policy has to name, not what is true.
func (d *doctor) lookAtCloud(is platform.Machine, e *evidence.Evidence) {
	ders := dersOf(e)
	aws := is == platform.MachineAWS
	leaves, _, _ := snp.SortCertificates(ders)
	for _, leaf := range leaves {
		if leaf.Signer == snp.SignerVLEK {
			d.good("signer of reports", "a VLEK of %q: policies say so in signers and vlek_csps, and can name no chip", cleanLine(leaf.CSPID))
			aws = aws || strings.HasSuffix(leaf.CSPID, ".amazonaws.com")
		}
	}
	d.lookAtGoogle(is, ders)
	d.lookAtBinding(e)
	const boots = "what boots shows in PCRs 4, 8, 9 and 12 alone, so policies pin these"
	if aws {
		is = platform.MachineAWS
	}
	covers := map[platform.Machine]string{
		platform.MachineAWS:   "the firmware of AWS, for this number of processors",
		platform.MachineGCP:   "the firmware of Google, for this number of processors",
		platform.MachineAzure: "the paravisor and the firmware of Azure",
		platform.MachineSVSM:  "the SVSM and the firmware",
	}[is]
	if is == platform.MachineSNP {
		d.good("launch measurement", "it covers the firmware, and kernel, initrd and command line only if the host gave them to the firmware with their hashes (QEMU: kernel-hashes=on), which nothing in the guest tells; compare it with `agentctl policy launch`. Without hashes, %s", boots)
	}
	if covers != "" {
		d.good("launch measurement", "it covers %s; %s (`agentctl policy init --machine %s` begins a policy)", covers, boots, is)
	}
}

// bindings are what evidence of a kind can have at most, and so what its launch measurement is
// listed as.
var bindings = map[evidence.ReportKind]verify.Binding{
	evidence.ReportParavisor: verify.BindingParavisor, evidence.ReportSVSM: verify.BindingSVSM,
}

// lookAtBinding says what binding evidence of this kind can have, and what a policy must list for
// it. The report is unverified.
func (d *doctor) lookAtBinding(e *evidence.Evidence) {
	r, err := snp.ParseReport(firmwareReport(e))
	b, known := bindings[e.Report.Kind]
	if err != nil || !known {
		return
	}
	more := ""
	if b == verify.BindingSVSM {
		more = "; if the SVSM names no attestation key, also an [[enrolment]] with its endorsement key"
	}
	d.good("binding", "evidence can have the binding %s: the policy says binding = %q, and has a [[launch]] with measurement = \"%x\" and kind = %q%s. Listed as another kind, evidence has guest-asserted at most",
		b, b, r.Measurement, b, more)
}

// lookAtCertificates says whether evidence has the certificate of the key that signed its report.
func (d *doctor) lookAtCertificates(is platform.Machine, e *evidence.Evidence) {
	const name = "certificates"
	todo := "put the VCEK or VLEK certificate and its issuers into /etc/agentd/certs"
	if is == platform.MachineAzure {
		todo = "`systemctl enable --now agentd-azure.timer`, or `agentctl collateral fetch --azure --dir /etc/agentd/certs --reload`"
	}
	if len(e.Certificates) == 0 {
		d.bad(name, todo, "evidence has none: the host's table is empty and nothing is stapled; verifiers have to fetch them")
		return
	}
	if err := fitting(e); err != nil {
		d.bad(name, todo, "evidence has %d, and none is of the key that signed its report: %v; verifiers have to fetch it", len(e.Certificates), err)
		return
	}
	d.good(name, "evidence has %d", len(e.Certificates))
}

// fitting returns why none of the chips' certificates is of the key that signed the report, nil if
// one is, or if there are only those above it.
func fitting(e *evidence.Evidence) error {
	r, err := snp.ParseReport(firmwareReport(e))
	if err != nil {
		return nil // a verifier says what is wrong with it
	}
	leaves, _, _ := snp.SortCertificates(dersOf(e))
	for _, leaf := range leaves {
		if err = collateral.Fits(leaf, r); err == nil {
			return nil
		}
	}
	return err
}

// dersOf returns the certificates of e as the parsers take them.
func dersOf(e *evidence.Evidence) [][]byte {
	ders := make([][]byte, len(e.Certificates))
	for i, c := range e.Certificates {
		ders[i] = c
	}
	return ders
}

// lookAtGoogle says whether the agent quotes with a key that Google Cloud certified.
func (d *doctor) lookAtGoogle(is platform.Machine, ders [][]byte) {
	const name = "attestation key"
	for _, c := range keys.GoogleAKCertificates(ders) {
		if i, err := c.Instance(); err == nil {
			d.good(name, "its certificate names the machine %q (%s) of the project %q in %s", i.Name, i.ID, i.Project, i.Zone)
			return
		}
	}
	if is == platform.MachineGCP {
		d.note(name, "set ak = \"gcp-ecc\" in [tpm] of /etc/agentd/config.toml and restart the agent (docs/machines/gcp.md); verifiers have to accept the new key",
			"Google Cloud certifies a key of this vTPM, and the agent quotes with one of its own, which verifiers have to enrol")
	}
}
