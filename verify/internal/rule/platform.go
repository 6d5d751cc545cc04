// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/sevsnp"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// PlatformRules are rules about the properties of the machine.
type PlatformRules struct {
	quiet
	Platform Platform `toml:"platform,omitempty"`
}

// Platform is [platform]: bits of PLATFORM_INFO, by the names in docs/policy.md.
type Platform struct {
	Require     []string `toml:"require,omitempty" value:"later" default:"none" doc:"properties that the machine must have. |alias_check_complete| shows that memory is not aliased (BadRAM)"`
	Refuse      []string `toml:"refuse,omitempty" value:"later" default:"none" doc:"properties that it must not state. Firmware that is too old to state one passes: this is for properties such as |smt|, which every report states"`
	UnknownBits Choice   `toml:"unknown_bits,omitempty" value:"one allow refuse" default:"\"allow\"" doc:"|refuse| refuses bits without a name. Turin sets some"`
}

// platformBits are the named bits of PLATFORM_INFO.
var platformBits = []struct {
	name string
	mask snp.PlatformInfo
}{
	{"smt", snp.PlatformSMT},
	{"tsme", snp.PlatformTSME},
	{"ecc", snp.PlatformECC},
	{"rapl_disabled", snp.PlatformRAPLDisabled},
	{"ciphertext_hiding", snp.PlatformCiphertextHiding},
	{aliasCheck, snp.PlatformAliasCheck},
	{"trusted_io", snp.PlatformTIO},
}

const aliasCheck = "alias_check_complete" // memory is not aliased (BadRAM)

var platformChecks = []check.Definition{
	{ID: "policy.platform", Class: check.Policy, Ground: check.OnProcessor, Checks: "the platform has the properties that the policy names, and none that it refuses", Stops: "aliased memory (BadRAM), SMT, power measurement, visible ciphertext"},
	{ID: "policy.platform-reserved", Class: check.Policy, Ground: check.OnProcessor, Checks: "no platform bit is set that this version cannot name, if the policy refuses those", Stops: "a platform property without a known meaning"},
}

func (r *PlatformRules) values(f *faults) {
	p := &r.Platform
	known := []string{"one"}
	for _, b := range platformBits {
		known = append(known, b.name)
	}
	f.list("platform.require", p.Require, known)
	f.list("platform.refuse", p.Refuse, known)
	f.failIf(platformMask(p.Require)&platformMask(p.Refuse) != 0, "platform.refuse", "a property is both required and refused")
}

func platformMask(names []string) (mask snp.PlatformInfo) {
	for _, b := range platformBits {
		if slices.Contains(names, b.name) {
			mask |= b.mask
		}
	}
	return mask
}

func platformNames(mask snp.PlatformInfo) string {
	var names []string
	for _, b := range platformBits {
		if mask.Has(b.mask) {
			names = append(names, b.name)
		}
	}
	return strings.Join(names, ", ")
}

func (r *PlatformRules) explain(_ *Policy, w *Words) {
	for _, name := range r.Platform.Require {
		w.demand("The platform has the property %s.", name)
	}
	for _, name := range r.Platform.Refuse {
		w.demand("The platform does not state the property %s.", name)
	}
	w.openIf(!slices.Contains(r.Platform.Require, aliasCheck), "Whether memory is aliased (BadRAM): platform.require = [\"alias_check_complete\"] asks.")
	w.demandIf(r.Platform.UnknownBits == Refuse, "The platform has no property that this version cannot name.")
}

func (*PlatformRules) draft(g *Golden, d *Draft) {
	var have []string
	for _, b := range platformBits {
		if g.SNP.PlatformInfo.Has(b.mask) && b.mask != snp.PlatformSMT {
			have = append(have, quoted(b.name))
		}
	}
	d.tables.offer("Properties of the machine that were found. alias_check_complete shows that memory is not aliased (BadRAM).", "[platform]")
	d.tables.lineIf(len(have) > 0, "require = [%s]", strings.Join(have, ", "))
	if !g.SNP.PlatformInfo.Has(snp.PlatformAliasCheck) {
		d.tables.say("DANGER: the machine does not state alias_check_complete.")
	}
	d.tables.line("unknown_bits = \"allow\"\n")
}

func (r *PlatformRules) judgeSNP(_ *Policy, m *sevsnp.Report, f *check.Findings) {
	require, refuse := platformMask(r.Platform.Require), platformMask(r.Platform.Refuse)
	missing, present := platformNames(require&^m.PlatformInfo), platformNames(refuse&m.PlatformInfo)
	if !f.SkipIf(require|refuse == 0, "policy.platform", "the policy asks for no property of the platform") {
		f.Decide("policy.platform", missing == "" && present == "", "with "+platformNames(require)+", without "+platformNames(refuse), m.PlatformInfo.String(),
			"the platform lacks, or its firmware is too old to state: %q; it has, and must not: %q", missing, present)
	}
	info, key := m.PlatformInfo.Reserved(), m.KeyInfo.Reserved()
	if !f.SkipIf(r.Platform.UnknownBits != Refuse, "policy.platform-reserved", "the policy does not ask about bits without a name; set are %v and %v", info, key) {
		f.Decide("policy.platform-reserved", info == 0 && key == 0, "none", fmt.Sprintf("%v, 0x%x", info, key),
			"platform or key info has bits set that this version cannot name")
	}
}
