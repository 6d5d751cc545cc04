// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"maps"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/pcr"
)

// binding says what ties vTPM, attestation key and PCR values to the report.
func (w *PolicyWords) binding(p *Policy) {
	if p.binding == BindingNone {
		w.danger("binding is \"none\": a report is accepted without any vTPM, so that nothing is known of what ran after the launch.")
	} else {
		w.demand("vTPM and report hang together at least as %q. %s", p.binding, restsOn[p.binding])
		if p.binding == BindingSVSM {
			w.demand("Nothing that this version verifies hangs together as %q: everything is refused.", p.binding)
		}
	}
	if known := len(p.aks) + len(p.enrolments); known > 0 {
		w.demand("The attestation key is one of %d that were enrolled.", known)
		w.endorsement(p)
	} else {
		w.open("Which vTPM it is: no attestation key is enrolled (ak_names, [[enrolment]]).")
	}
	switch p.freshness {
	case FreshReport:
		w.demand("The report was made for this very request.")
	case AnchoredReport:
		w.demand("The report is at most %v old, by the clock of the vTPM, which whoever runs the vTPM can set.", p.maxAnchorAge)
	default:
		w.danger("freshness is \"any\": a report of any age is accepted, and a change of firmware after it is not seen.")
	}
	for _, r := range p.pcrs {
		w.demand("PCR %d of bank %s has one of %d listed values.", r.index, r.bank, len(r.values))
	}
	if len(p.pcrs) == 0 {
		w.open("The PCRs of firmware, boot loader and kernel: no [[pcr]] pins one.")
	}
	for _, bank := range slices.SortedFunc(maps.Keys(p.startValues), func(a, b pcr.Algorithm) int { return strings.Compare(a.String(), b.String()) }) {
		w.danger("start_value: the PCR of the log may begin at a listed value of bank %s. If that is one that an earlier log of the agent leaves, that log can be deleted unnoticed.", bank)
	}
}

// endorsement says what is asked of the certificates of TPMs.
func (w *PolicyWords) endorsement(p *Policy) {
	switch {
	case p.akOrigin == AKCertified:
		w.demand("A certificate of its TPM leads to %s.", subjects(p.ekRoots))
	case len(p.ekRoots) > 0:
		w.demand("Where its enrolment holds a certificate of its TPM, that leads to %s.", subjects(p.ekRoots))
	}
	if len(p.ekRoots) > 0 {
		w.open("Whether the maker of the TPM withdrew its certificate: no revocation list of TPM makers is looked at.")
	}
}
