// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto/sha256"
	"fmt"
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
		aks:               r.keyNames("ak_names", t.AKNames),
		akOrigin:          AKOrigin(r.oneOf("ak_origin", t.AKOrigin, string(AKNone), "none", "enrolled", "certified")),
		ekRoots:           r.ekRoots(t.EKRoots),
		guest:             r.guest(&t.Guest),
		image:             r.image(&t.Image),
		platform:          r.platform(&t.Platform),
		tcb:               r.tcbs(t.TCB),
		launchMitigation:  uint64(r.floor("mitigations.launch", t.Mitigations.Launch, 1<<62)),
		currentMitigation: uint64(r.floor("mitigations.current", t.Mitigations.Current, 1<<62)),

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
