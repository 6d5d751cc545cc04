// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// knownProducts are the processor generations by the name of AMD's root, lower case.
func knownProducts() []string {
	var names []string
	for _, p := range snp.Products() {
		names = append(names, strings.ToLower(p.String()))
	}
	return names
}

// tcbComponents are the names of the levels that a product's TCB has, in its order.
func tcbComponents(product string) []string {
	for _, p := range snp.Products() {
		if strings.ToLower(p.String()) != product {
			continue
		}
		var names []string
		levels, _, _ := snp.TCB(0).Components(p) // every product of the list has a layout
		for _, l := range levels {
			names = append(names, string(l.Component))
		}
		return names
	}
	return nil
}

func (r *policyReader) launches(p *Policy, in []launchText) {
	seen := make(map[string]bool)
	for i, l := range in {
		key := fmt.Sprintf("launch[%d]", i)
		rule := launchRule{
			kind:   BindingGuestAsserted,
			covers: Cover(r.oneOf(key+".covers", l.Covers, "", string(CoversFirmware), string(CoversKernel))),
			label:  r.text(key+".label", l.Label),
		}
		if l.Measurement == nil {
			r.fail(key, "measurement is missing")
			continue
		}
		if l.Kind == nil || l.Covers == nil {
			r.fail(key, `kind ("plain", "paravisor" or "svsm") and covers (%q or %q) must be given: nobody can read them from a report`, CoversFirmware, CoversKernel)
		}
		switch r.oneOf(key+".kind", l.Kind, "plain", "plain", "paravisor", "svsm") {
		case "paravisor":
			rule.kind = BindingParavisor
		case "svsm":
			rule.kind = BindingSVSM
		}
		m, ok := r.listed(key+".measurement", *l.Measurement, 48)
		if ok && seen[string(m)] {
			r.fail(key+".measurement", "it is listed twice")
		}
		seen[string(m)] = true
		rule.measurement = m
		p.launches = append(p.launches, rule)
	}
}

func (r *policyReader) guest(t *guestText) guestRule {
	g := guestRule{
		allowDebug:           given(t.AllowDebug, false),
		allowMigrationAgent:  given(t.AllowMigrationAgent, false),
		allowSMT:             given(t.AllowSMT, true),
		allowCXL:             given(t.AllowCXL, false),
		allowReserved:        given(t.AllowReserved, false),
		requireSingleSocket:  given(t.SingleSocket, false),
		requireAES256XTS:     given(t.AES256XTS, false),
		requireRAPLDisabled:  given(t.RAPLDisabled, false),
		requireCiphertextHid: given(t.CiphertextHiding, false),
		requirePageSwapOff:   given(t.PageSwapDisabled, false),
	}
	if t.MinABI != nil {
		major, minor, ok := strings.Cut(*t.MinABI, ".")
		a, errA := strconv.ParseUint(major, 10, 8)
		b, errB := strconv.ParseUint(minor, 10, 8)
		if !ok || errA != nil || errB != nil || fmt.Sprintf("%d.%d", a, b) != *t.MinABI {
			r.fail("guest_policy.min_abi", `%q is not a version of the form "1.55"`, *t.MinABI)
		} else if a == 0 && b == 0 {
			r.fail("guest_policy.min_abi", "%q demands nothing: leave it out where any version is acceptable", *t.MinABI)
		}
		g.minABIMajor, g.minABIMin = uint8(a), uint8(b)
	}
	return g
}

func (r *policyReader) image(t *imageText) imageRule {
	one := func(key string, v *string) []byte {
		if v == nil {
			return nil
		}
		b, _ := r.listed(key, *v, 16)
		return b
	}
	return imageRule{
		minGuestSVN: uint32(r.floor("image.min_guest_svn", t.MinGuestSVN, 1<<32-1)),
		familyID:    one("image.family_id", t.FamilyID),
		imageID:     one("image.image_id", t.ImageID),
		hostData:    r.hexList("image.host_data", t.HostData, 32),
		idKeys:      r.identities("image.id_key_digests", t.IDKeys, 48),
		authorKeys:  r.identities("image.author_key_digests", t.AuthorKeys, 48),
	}
}

// platformBits names the bits of PLATFORM_INFO.
var platformBits = []struct {
	name string
	mask snp.PlatformInfo
}{
	{"smt", snp.PlatformSMT},
	{"tsme", snp.PlatformTSME},
	{"ecc", snp.PlatformECC},
	{"rapl_disabled", snp.PlatformRAPLDisabled},
	{"ciphertext_hiding", snp.PlatformCiphertextHiding},
	{"alias_check_complete", snp.PlatformAliasCheck},
	{"trusted_io", snp.PlatformTIO},
}

func (r *policyReader) platform(t *platformText) platformRule {
	known := make([]string, len(platformBits))
	for i, b := range platformBits {
		known[i] = b.name
	}
	bits := func(key string, v *[]string) (mask snp.PlatformInfo) {
		for _, n := range r.names(key, v, nil, known) {
			mask |= platformBits[slices.Index(known, n)].mask
		}
		return mask
	}
	p := platformRule{
		require:     bits("platform.require", t.Require),
		refuse:      bits("platform.refuse", t.Refuse),
		refuseOther: r.oneOf("platform.unknown_bits", t.UnknownBits, "allow", "allow", "refuse") == "refuse",
	}
	if p.require&p.refuse != 0 {
		r.fail("platform.refuse", "a property is both required and refused")
	}
	return p
}

func (r *policyReader) tcbs(in map[string]tcbText) map[string]tcbRule {
	out := make(map[string]tcbRule)
	for product, t := range in {
		key := "tcb." + product
		components := tcbComponents(product)
		if components == nil {
			r.fail(key, "%q is not one of %s", product, strings.Join(knownProducts(), ", "))
			continue
		}
		floors := func(key string, in map[string]int64) map[string]uint8 {
			if in == nil {
				return nil
			}
			out := make(map[string]uint8)
			for name, n := range in {
				if !slices.Contains(components, name) {
					r.fail(key+"."+name, "%s has no such component: want %s", product, strings.Join(components, ", "))
				}
				out[name] = uint8(r.number(key+"."+name, &n, 0, 0, 255))
			}
			for _, name := range components {
				if _, ok := in[name]; !ok {
					r.fail(key, "the floor of %s is missing: every component must be given, 0 where none is wanted", name)
				}
			}
			if len(out) == len(components) && !slices.ContainsFunc(components, func(name string) bool { return in[name] != 0 }) {
				r.fail(key, "every floor is 0, which demands nothing: leave it out where any version is acceptable")
			}
			return out
		}
		rule := tcbRule{
			reported:  floors(key+".reported", t.Reported),
			committed: floors(key+".committed", t.Committed),
			launch:    floors(key+".launch", t.Launch),
		}
		if rule.reported == nil && rule.committed == nil && rule.launch == nil {
			r.fail(key, "no floor is given: want reported, committed or launch")
		}
		out[product] = rule
	}
	return out
}

// bank is a PCR bank that may be relied on. Collisions of SHA-1 can be made, so a
// SHA-1 value says little about what was extended.
func (r *policyReader) bank(key string, v *string) (pcr.Algorithm, bool) {
	if v == nil {
		r.fail(key, `missing: want "sha256", "sha384" or "sha512"`)
		return 0, false
	}
	a, err := pcr.ParseAlgorithm(*v)
	if err != nil || a == pcr.SHA1 {
		r.fail(key, `%q is not one of sha256, sha384, sha512`, *v)
		return 0, false
	}
	return a, true
}

func (r *policyReader) pcrs(p *Policy, in []pcrText) {
	type place struct {
		bank  pcr.Algorithm
		index uint32
	}
	seen := make(map[place]bool)
	for i, t := range in {
		key := fmt.Sprintf("pcr[%d]", i)
		bank, ok := r.bank(key+".bank", t.Bank)
		if t.Index == nil {
			r.fail(key, "index is missing")
		}
		if t.Values == nil {
			r.fail(key, "values is missing")
		}
		if !ok || t.Index == nil || t.Values == nil {
			continue
		}
		rule := pcrRule{
			bank:   bank,
			index:  uint32(r.number(key+".index", t.Index, 0, 0, pcr.Count-1)),
			values: r.hexList(key+".values", t.Values, bank.Size()),
		}
		if seen[place{rule.bank, rule.index}] {
			r.fail(key, "PCR %d of bank %s is listed twice: give all values in one rule", rule.index, rule.bank)
		}
		seen[place{rule.bank, rule.index}] = true
		p.pcrs = append(p.pcrs, rule)
	}
}

func (r *policyReader) startValues(p *Policy, in []startText) {
	seen := make(map[string]bool) // values of different banks have different sizes
	for i, t := range in {
		key := fmt.Sprintf("start_value[%d]", i)
		bank, ok := r.bank(key+".bank", t.Bank)
		if t.Value == nil {
			r.fail(key, "value is missing")
		}
		if !ok || t.Value == nil {
			continue
		}
		if v, ok := r.hex(key+".value", *t.Value, bank.Size()); ok {
			switch {
			case isZero(v):
				r.fail(key+".value", "it is zero, which is accepted anyway: leave it out")
			case seen[string(v)]:
				r.fail(key+".value", "it is listed twice")
			}
			seen[string(v)] = true
			if p.startValues == nil {
				p.startValues = make(map[pcr.Algorithm][][]byte)
			}
			p.startValues[bank] = append(p.startValues[bank], v)
		}
	}
}

func (r *policyReader) apps(p *Policy, in []appText) {
	seen := make(map[string]bool)
	for i, t := range in {
		key := fmt.Sprintf("app[%d]", i)
		if t.Name == nil || t.Digests == nil {
			r.fail(key, "name and digests must be given")
			continue
		}
		rule := appRule{
			name:     r.text(key+".name", t.Name),
			unit:     r.text(key+".unit", t.Unit),
			user:     r.text(key+".user", t.User),
			digests:  r.digests(key+".digests", t.Digests),
			required: given(t.Required, true),
		}
		if seen[rule.name] {
			r.fail(key+".name", "application %q is listed twice: give all digests in one rule", rule.name)
		}
		seen[rule.name] = true
		p.apps = append(p.apps, rule)
	}
}

func (r *policyReader) caller(t *callerText) callerRule {
	c := callerRule{
		unit:        r.text("caller.unit", t.Unit),
		app:         r.text("caller.app", t.App),
		executables: r.digests("caller.executables", t.Executables),
		covered:     given(t.Covered, false),
	}
	if t.UID != nil {
		uid := uint32(r.number("caller.uid", t.UID, 0, 0, 1<<32-2))
		c.uid = &uid
	}
	return c
}
