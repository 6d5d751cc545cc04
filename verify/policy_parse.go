package verify

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/cvm-agentd/agentd/evidence"
)

// ParsePolicy reads a policy in TOML and checks it. Unknown keys, wrong types, values
// out of range and rules that contradict each other are errors of type *[PolicyError],
// joined where there are several; so is a policy that says nothing.
func ParsePolicy(text []byte) (*Policy, error) {
	if len(text) > MaxPolicy {
		return nil, &PolicyError{Message: fmt.Sprintf("%d bytes, at most %d are read", len(text), MaxPolicy)}
	}
	where, err := locate(text)
	if err != nil {
		return nil, err
	}
	if len(where) == 0 {
		return nil, &PolicyError{Message: "it is empty: an empty policy would accept everything; docs/policy.md shows a small one"}
	}
	var t policyText
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return nil, decodeError(err)
	}
	r := &policyReader{where: where}
	p := r.policy(&t)
	if err := r.err(); err != nil {
		return nil, err
	}
	p.digest = evidence.Digest(sha256.Sum256(text))
	return p, nil
}

// policy converts the text; what is wrong is collected in r.
func (r *policyReader) policy(t *policyText) *Policy {
	if t.Version == nil {
		r.fail("version", "missing: want version = %d", PolicyVersion)
	} else if *t.Version != PolicyVersion {
		r.fail("version", "%d is not known: want %d", *t.Version, PolicyVersion)
	}
	r.emptyTables(t)
	p := &Policy{
		products:          r.names("products", t.Products, []string{"genoa", "turin"}, knownProducts()),
		signers:           r.names("signers", t.Signers, []string{"vcek"}, []string{"vcek", "vlek"}),
		minReportVersion:  uint32(r.number("min_report_version", t.MinReportVersion, 2, 2, 5)),
		vmpl:              r.vmpl(t.VMPL),
		binding:           Binding(r.oneOf("binding", t.Binding, string(BindingGuestAsserted), "none", "guest-asserted", "paravisor", "svsm")),
		freshness:         Freshness(r.oneOf("freshness", t.Freshness, string(FreshReport), "fresh", "anchored", "any")),
		allowProvisional:  given(t.AllowProvisional, false),
		revocation:        r.oneOf("revocation", t.Revocation, "optional", "required", "optional", "off"),
		allowUnlisted:     r.oneOf("unlisted_launch", t.UnlistedLaunch, "refuse", "refuse", "allow") == "allow",
		deniedLaunches:    r.identities("denied_measurements", t.DeniedLaunches, 48),
		chips:             r.identities("chips", t.Chips, 8, 64),
		deniedChips:       r.identities("denied_chips", t.DeniedChips, 8, 64),
		allowMaskedChip:   given(t.AllowMaskedChip, false),
		aks:               r.hexList("ak_names", t.AKNames, 34, 50, 66),
		akOrigin:          AKOrigin(r.oneOf("ak_origin", t.AKOrigin, string(AKNone), "none", "enrolled", "certified")),
		ekRoots:           r.ekRoots(t.EKRoots),
		guest:             r.guest(&t.Guest),
		image:             r.image(&t.Image),
		platform:          r.platform(&t.Platform),
		tcb:               r.tcbs(t.TCB),
		launchMitigation:  uint64(r.number("mitigations.launch", t.Mitigations.Launch, 0, 0, 1<<62)),
		currentMitigation: uint64(r.number("mitigations.current", t.Mitigations.Current, 0, 0, 1<<62)),

		tolerateGaps:       given(t.TolerateGaps, false),
		tolerateUnmeasured: given(t.TolerateUnmeasure, false),
		refuseUnlistedApps: r.oneOf("unlisted_apps", t.UnlistedApps, "allow", "refuse", "allow") == "refuse",
		agent:              agentRule{versions: r.texts("agent.versions", t.Agent.Versions), digests: r.digests("agent.digests", t.Agent.Digests)},
		caller:             r.caller(&t.Caller),
	}
	p.logRequired = r.oneOf("log", t.Log, "required", "required", "optional") == "required"
	p.firmwareRequired = r.oneOf("firmware_log", t.FirmwareLog, "optional", "required", "optional") == "required"
	r.launches(p, t.Launch)
	r.enrolments(p, t.Enrolment)
	r.anchorAge(p, t.MaxAnchorAge)
	r.pcrs(p, t.PCR)
	r.startValues(p, t.StartValue)
	r.apps(p, t.App)
	if len(r.errors) == 0 { // a value that was refused would contradict others for no reason
		r.contradictions(p, t)
	}
	return p
}

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

// holding is what a list holds, for lists that are held against each other.
func holding(list [][]byte) map[string]bool {
	out := make(map[string]bool, len(list))
	for _, b := range list {
		out[string(b)] = true
	}
	return out
}

// contradictions refuses rules that no evidence could meet, and rules that would be
// passed over: whoever wrote them expects to be protected by them.
func (r *policyReader) contradictions(p *Policy, t *policyText) {
	if len(p.launches) == 0 && !p.allowUnlisted {
		r.fail("unlisted_launch", `no [[launch]] is listed, so every evidence would be refused: list one, or set unlisted_launch = "allow" and know that any firmware is accepted`)
	}
	if p.binding.rank() > BindingGuestAsserted.rank() {
		strong := slices.ContainsFunc(p.launches, func(l launchRule) bool { return l.kind.rank() >= p.binding.rank() })
		if !strong {
			r.fail("binding", "no [[launch]] is of a kind that can give %q, so every evidence would be refused", p.binding)
		}
	}
	r.checkOrigin(p)
	deniedLaunches, deniedChips := holding(p.deniedLaunches), holding(p.deniedChips)
	for i, l := range p.launches {
		if deniedLaunches[string(l.measurement)] {
			r.fail(fmt.Sprintf("launch[%d].measurement", i), "it is listed here and in denied_measurements")
		}
	}
	for i, c := range p.chips {
		if deniedChips[string(c)] {
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

// anchorAge is required exactly where anchored evidence is acceptable.
func (r *policyReader) anchorAge(p *Policy, text *string) {
	switch {
	case p.freshness == AnchoredReport && text == nil:
		r.fail("freshness", `"anchored" needs max_anchor_age, or a report of any age would do`)
	case p.freshness == AnyReport && text != nil:
		r.fail("max_anchor_age", `freshness is "any", so an anchor of any age is accepted`)
	case p.freshness == FreshReport && text != nil:
		r.fail("max_anchor_age", `freshness is "fresh", so no anchor is accepted at all`)
	case text != nil:
		d, err := time.ParseDuration(*text)
		if err != nil || d < time.Second || d > 366*24*time.Hour {
			r.fail("max_anchor_age", `%q is not a duration from "1s" to "8784h"`, *text)
		}
		p.maxAnchorAge = d
	}
}
