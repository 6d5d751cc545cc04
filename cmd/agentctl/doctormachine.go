// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// lookAtCloud says what is particular about the machine for those who write policies: whose key
// signs reports, what a launch measurement covers, and who certified the attestation key. The
// certificates of e are unverified: the sentences say what a policy has to name, not what is true.
func (d *doctor) lookAtCloud(is platform.Machine, e *evidence.Evidence) {
	ders := make([][]byte, len(e.Certificates))
	for i, c := range e.Certificates {
		ders[i] = c
	}
	aws := is == platform.MachineAWS
	leaves, _, _ := snp.SortCertificates(ders)
	for _, leaf := range leaves {
		if leaf.Signer == snp.SignerVLEK {
			d.good("signer of reports", "a VLEK of %q: policies say so in signers and vlek_csps, and can name no chip", cleanLine(leaf.CSPID))
			aws = aws || strings.HasSuffix(leaf.CSPID, ".amazonaws.com")
		}
	}
	d.lookAtGoogle(is, ders)
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
	if covers != "" {
		d.good("launch measurement", "it covers %s; %s (`agentctl policy init --machine %s` begins a policy)", covers, boots, is)
	}
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
