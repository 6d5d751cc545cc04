// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"slices"
	"strings"
)

// emptyTables refuses those of the text that hold nothing.
func (r *policyReader) emptyTables(t *policyText) {
	for key, is := range map[string]bool{
		"launch":       len(t.Launch) == 0,
		"enrolment":    len(t.Enrolment) == 0,
		"pcr":          len(t.PCR) == 0,
		"start_value":  len(t.StartValue) == 0,
		"app":          len(t.App) == 0,
		"tcb":          len(t.TCB) == 0,
		"guest_policy": t.Guest == guestText{},
		"image":        t.Image == imageText{},
		"platform":     t.Platform == platformText{},
		"mitigations":  t.Mitigations == mitigationsText{},
		"agent":        t.Agent == agentText{},
		"caller":       t.Caller == callerText{},
	} {
		r.empty(key, is)
	}
}

// contradictions refuses rules that no evidence could meet, and rules that would be
// passed over: whoever wrote them expects to be protected by them.
func (r *policyReader) contradictions(p *Policy, t *policyText) {
	if len(p.launches) == 0 && !p.allowUnlisted {
		r.fail("unlisted_launch", `no [[launch]] is listed, so every evidence would be refused: list one, or set unlisted_launch = "allow" and know that any firmware is accepted`)
	}
	r.checkBinding(p, t)
	r.checkOrigin(p)
	deniedLaunches := holding(p.deniedLaunches)
	for i, l := range p.launches {
		if deniedLaunches[string(l.measurement)] {
			r.fail(fmt.Sprintf("launch[%d].measurement", i), "it is listed here and in denied_measurements")
		}
	}
	r.checkChips(p)
	r.checkImage(p)
	for product := range p.tcb {
		if !slices.Contains(p.products, product) {
			r.fail("tcb."+product, "products does not list %q, so this floor would never be looked at", product)
		}
	}
	if (p.launchMitigation != 0 || p.currentMitigation != 0) && t.MinReportVersion != nil && p.minReportVersion < 5 {
		r.fail("mitigations", "reports before version 5 hold no mitigation vectors: min_report_version must be 5")
	}
	if !p.logRequired {
		for key, asked := range map[string]bool{
			"app":           len(p.apps) > 0,
			"agent":         len(p.agent.versions) > 0 || len(p.agent.digests) > 0,
			"unlisted_apps": p.refuseUnlistedApps,
		} {
			if asked {
				r.fail("log", `%s rests on the log: log must be "required"`, key)
			}
		}
	}
	if p.caller.unit == "" && len(p.caller.executables) > 0 {
		r.fail("caller.executables", "the executable is an observation within a unit: caller.unit must be given too")
	}
	if p.caller.covered && p.caller.app == "" {
		r.fail("caller.covered", "an executable is covered by an application's manifest: caller.app must be given too")
	}
	if p.caller.app != "" && p.caller.unit == "" {
		r.fail("caller.app", "an application is known by its unit: caller.unit must be given too")
	}
}

// checkBinding refuses what stands in the way of the binding that is asked for. Only a
// paravisor's set gives more than guest-asserted, see [Paravisor]; what such a set does
// not hold cannot be asked for beside it.
func (r *policyReader) checkBinding(p *Policy, t *policyText) {
	if p.binding.rank() <= BindingGuestAsserted.rank() {
		return
	}
	if !slices.ContainsFunc(p.launches, func(l launchRule) bool { return l.kind.rank() >= p.binding.rank() }) {
		r.fail("binding", "no [[launch]] is of a kind that can give %q, so every evidence would be refused", p.binding)
	}
	if !slices.Contains(p.vmpl, 0) {
		r.fail("vmpl", "binding is %q, which only a report asked for at VMPL 0 can give, so every evidence would be refused", p.binding)
	}
	if p.binding != BindingParavisor {
		return
	}
	for key, x := range map[string]struct {
		asked bool
		none  string
	}{
		"log":       {p.logRequired, `holds no measurement log: log must be "optional"`},
		"ak_names":  {len(p.aks) > 0, "does not name its attestation key"},
		"enrolment": {len(p.enrolments) > 0, "does not name its attestation key"},
		"caller":    {t.Caller != callerText{}, "names no caller"},
	} {
		if x.asked {
			r.fail(key, `binding is "paravisor", which only a paravisor's set gives, and that %s, so every evidence would be refused`, x.none)
		}
	}
}

// checkChips refuses lists of chips that reports could not be held against.
func (r *policyReader) checkChips(p *Policy) {
	denied := make(map[string]bool, len(p.deniedChips))
	for _, c := range p.deniedChips {
		denied[chipID(c)] = true
	}
	for i, c := range p.chips {
		if denied[chipID(c)] {
			r.fail(fmt.Sprintf("chips[%d]", i), "it is listed here and in denied_chips")
		}
	}
	if (len(p.chips) > 0 || len(p.deniedChips) > 0) && p.allowMaskedChip {
		r.fail("allow_masked_chip", "a masked chip id can be held against neither chips nor denied_chips")
	}
	if len(p.chips) > 0 && !slices.Contains(p.signers, "vcek") {
		r.fail("chips", `reports signed by a VLEK show no chip id: signers must hold "vcek"`)
	}
	if len(p.deniedChips) > 0 && slices.Contains(p.signers, "vlek") {
		r.fail("denied_chips", `reports signed by a VLEK show no chip id, so that it can not be held against this list: signers must not hold "vlek"`)
	}
	for key, list := range map[string][][]byte{"chips": p.chips, "denied_chips": p.deniedChips} {
		seen := make(map[string]bool, len(list))
		for i, c := range list {
			id := chipID(c)
			at := fmt.Sprintf("%s[%d]", key, i)
			switch {
			case seen[id]:
				r.fail(at, "it is listed twice: zeros behind the 8 bytes of a Turin chip tell nothing")
			case len(id) == turinChip && !slices.Contains(p.products, "turin"):
				r.fail(at, `only chips of the line "turin", which products does not list, have ids of 8 bytes, so no report would ever be held against it: want 64 bytes`)
			case len(id) > turinChip && strings.Join(p.products, "") == "turin":
				r.fail(at, `chips of the line "turin" have ids of 8 bytes, so no report would ever be held against it`)
			}
			seen[id] = true
		}
	}
}

// turinChip is the size of a chip id on Turin, in bytes; zeros follow in the report.
const turinChip = 8

// chipID is the part of a listed id that tells chips apart: one chip has one spelling.
func chipID(listed []byte) string {
	if isZero(listed[turinChip:]) {
		listed = listed[:turinChip]
	}
	return string(listed)
}

// checkImage refuses rules about an ID block that anybody may have signed: the host may
// hand one to the firmware with family, image and security version of its choice, under
// a key that it made (SEV-SNP Firmware ABI Specification, section "SNP_LAUNCH_FINISH").
func (r *policyReader) checkImage(p *Policy) {
	i := &p.image
	if len(i.idKeys) > 0 || len(i.authorKeys) > 0 {
		return
	}
	for key, asked := range map[string]bool{
		"image.min_guest_svn": i.minGuestSVN > 0,
		"image.family_id":     i.familyID != nil,
		"image.image_id":      i.imageID != nil,
	} {
		if asked {
			r.fail(key, "it stands in the ID block, which the host can sign with a key of its own: image.id_key_digests or image.author_key_digests must be given too")
		}
	}
}

// holding is what a list holds, for lists that are held against each other.
func holding(list [][]byte) map[string]bool {
	out := make(map[string]bool, len(list))
	for _, b := range list {
		out[string(b)] = true
	}
	return out
}
