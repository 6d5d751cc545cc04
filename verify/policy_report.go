// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/verify/snp"
)

// checkPolicy holds what was read against the policy. Where a part could not be read,
// its checks stay open.
func (a *appraiser) checkPolicy() {
	if a.report != nil {
		a.policyMachine()
		a.policyGuest()
		a.policyImage()
	}
	if a.product != "" {
		a.policyTCB()
	}
	a.policyBinding()
	a.policyPCRs()
	a.policyFirmwareLog()
	a.policyLog()
	a.policyCaller()
}

func (a *appraiser) policyMachine() {
	r, p := a.report, a.p
	a.Decide(PolicyReportVersion, r.Version >= p.minReportVersion, fmt.Sprintf("at least %d", p.minReportVersion), fmt.Sprint(r.Version),
		"the report is of version %d, and the policy wants %d or later", r.Version, p.minReportVersion)
	if a.product != "" {
		a.Decide(PolicyProduct, slices.Contains(p.products, a.product), strings.Join(p.products, ", "), a.product,
			"the processor is of the line %q, which the policy does not list", a.product)
	}
	if a.signer != "" {
		a.Decide(PolicySigner, slices.Contains(p.signers, a.signer), strings.Join(p.signers, ", "), a.signer,
			"the report was signed by a %s, which the policy does not list", strings.ToUpper(a.signer))
		a.policyChip()
	}
	m := r.Measurement[:]
	if a.launch == nil && p.allowUnlisted {
		a.Skip(PolicyLaunch, "the policy accepts launch measurements that it does not list, and this is one")
	} else {
		a.Decide(PolicyLaunch, a.launch != nil, fmt.Sprintf("one of %d listed measurements", len(p.launches)), hex.EncodeToString(m),
			"the launch measurement is not listed: another firmware or, with direct boot, another kernel was launched")
	}
	denied := ""
	switch {
	case contains(p.deniedLaunches, m):
		denied = "launch measurement " + hex.EncodeToString(m)
	case slices.ContainsFunc(p.deniedChips, func(c []byte) bool { return sameChip(c, r.ChipID[:]) }):
		denied = "chip " + hex.EncodeToString(r.ChipID[:])
	}
	if len(p.deniedLaunches) == 0 && len(p.deniedChips) == 0 {
		a.Skip(PolicyDenied, "the policy denies nothing by name")
	} else {
		a.Decide(PolicyDenied, denied == "", "nothing that the policy denies", denied, "the policy denies this by name")
	}
	a.Decide(PolicyVMPL, slices.Contains(p.vmpl, r.VMPL), fmt.Sprint(p.vmpl), fmt.Sprint(r.VMPL), "the report was asked for at VMPL %d", r.VMPL)
	missing, present := platformNames(p.platform.require&^r.PlatformInfo), platformNames(p.platform.refuse&r.PlatformInfo)
	if p.platform.require|p.platform.refuse == 0 {
		a.Skip(PolicyPlatform, "the policy asks for no property of the platform")
	} else {
		a.Decide(PolicyPlatform, missing == "" && present == "", "with "+platformNames(p.platform.require)+", without "+platformNames(p.platform.refuse), r.PlatformInfo.String(),
			"the platform lacks, or its firmware is too old to state: %q; it has, and must not: %q", missing, present)
	}
	if !p.platform.refuseOther {
		a.Skip(PolicyPlatformReserved, "the policy does not ask about bits without a name; set are %v and %v", r.PlatformInfo.Reserved(), r.KeyInfo.Reserved())
	} else {
		a.Decide(PolicyPlatformReserved, r.PlatformInfo.Reserved() == 0 && r.KeyInfo.Reserved() == 0, "none", fmt.Sprintf("%v, 0x%x", r.PlatformInfo.Reserved(), r.KeyInfo.Reserved()),
			"platform or key info has bits set that this version cannot name")
	}
	if r.Provisional() && p.allowProvisional {
		a.Skip(PolicyProvisional, "the policy accepts firmware that is not committed, and this is such: the host can go back to the older one")
	} else {
		a.Decide(PolicyProvisional, !r.Provisional(), "the committed firmware", fmt.Sprintf("current TCB %v, committed %v", r.CurrentTCB, r.CommittedTCB),
			"the firmware in use is not committed: it is on trial, and the host can go back to the older one")
	}
	a.policyMitigations()
}

func contains(list [][]byte, b []byte) bool {
	return slices.ContainsFunc(list, func(x []byte) bool { return equal(x, b) })
}

// sameChip compares a chip id of a policy, 64 bytes or the 8 that count on Turin, with
// the one of a report, whose other bytes are then zero.
func sameChip(listed, reported []byte) bool {
	return len(listed) <= len(reported) && equal(listed, reported[:len(listed)]) && isZero(reported[len(listed):])
}

func (a *appraiser) policyChip() {
	id := a.report.ChipID[:]
	listed := slices.ContainsFunc(a.p.chips, func(c []byte) bool { return sameChip(c, id) })
	switch {
	case len(a.p.chips) > 0:
		a.Decide(PolicyChip, listed, fmt.Sprintf("one of %d listed chips", len(a.p.chips)), hex.EncodeToString(id), "the chip is not one that the policy lists")
	case a.signer == "vlek":
		a.Skip(PolicyChip, "a VLEK names no chip, and the policy lists none")
	case isZero(id) && a.p.allowMaskedChip:
		a.Skip(PolicyChip, "the host masks the chip id, and the policy accepts that: report and certificate were not held against each other")
	default:
		a.Decide(PolicyChip, !isZero(id), "a chip id", "zero", "the host masks the chip id: report and certificate cannot be held against each other")
	}
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

// policyMitigations holds the vectors against the policy. Nil means that the firmware
// does not state them, which is never a pass.
func (a *appraiser) policyMitigations() {
	if a.p.launchMitigation == 0 && a.p.currentMitigation == 0 {
		a.Skip(PolicyMitigations, "the policy asks for no mitigation")
		return
	}
	has := func(v *uint64, want uint64) bool { return want == 0 || v != nil && *v&want == want }
	text := func(v *uint64) string {
		if v == nil {
			return "not stated"
		}
		return fmt.Sprintf("0x%x", *v)
	}
	r := a.report
	a.Decide(PolicyMitigations, has(r.LaunchMitigations, a.p.launchMitigation) && has(r.CurrentMitigations, a.p.currentMitigation),
		fmt.Sprintf("at launch 0x%x, now 0x%x", a.p.launchMitigation, a.p.currentMitigation),
		"at launch "+text(r.LaunchMitigations)+", now "+text(r.CurrentMitigations), "a mitigation that the policy names is missing, or the report does not state it")
}

// policyGuest holds the guest policy, which stands outside the measurement, against
// the policy.
func (a *appraiser) policyGuest() {
	g, p := a.p.guest, a.report.Policy
	allowed := func(id CheckID, bit snp.Policy, allow bool, what string) {
		if allow && p.Has(bit) { // to pass it would say that the guest does not allow it
			a.Skip(id, "the policy accepts it: the guest policy allows %s", what)
			return
		}
		a.Decide(id, !p.Has(bit), "not allowed by the guest policy", p.String(), "the guest policy allows %s", what)
	}
	allowed(PolicyDebug, snp.PolicyDebug, g.allowDebug, "the host to debug the guest, which means to read and write its memory")
	allowed(PolicyMigrationAgent, snp.PolicyMigrationAgent, g.allowMigrationAgent, "a migration agent, which can hand the guest's memory to another machine")
	allowed(PolicyCXL, snp.PolicyCXL, g.allowCXL, "CXL memory")
	if g.allowSMT {
		a.Skip(PolicySMT, "the policy allows SMT")
	} else {
		allowed(PolicySMT, snp.PolicySMT, false, "SMT")
	}
	if !g.requireSingleSocket {
		a.Skip(PolicySingleSocket, "the policy does not ask for a single socket")
	} else {
		a.Decide(PolicySingleSocket, p.Has(snp.PolicySingleSocket), "held to one socket", p.String(), "the guest policy allows more than one socket")
	}
	if g.minABIMajor == 0 && g.minABIMin == 0 {
		a.Skip(PolicyGuestABI, "the policy names no ABI version")
	} else {
		ok := p.ABIMajor() > g.minABIMajor || p.ABIMajor() == g.minABIMajor && p.ABIMinor() >= g.minABIMin
		a.Decide(PolicyGuestABI, ok, fmt.Sprintf("at least %d.%d", g.minABIMajor, g.minABIMin), fmt.Sprintf("%d.%d", p.ABIMajor(), p.ABIMinor()),
			"the guest policy asks for an older firmware ABI")
	}
	a.policyGuestFeatures(g, p)
	fault := p.Wellformed()
	if fault != nil && g.allowReserved {
		a.Skip(PolicyGuestReserved, "the policy allows it: %v", fault)
	} else {
		a.DecideError(PolicyGuestReserved, fault)
	}
}

func (a *appraiser) policyGuestFeatures(g guestRule, p snp.Policy) {
	var asked, missing []string
	for _, f := range []struct {
		want bool
		bit  snp.Policy
		name string
	}{
		{g.requireAES256XTS, snp.PolicyAES256XTS, "AES-256-XTS"},
		{g.requireRAPLDisabled, snp.PolicyRAPLDisabled, "RAPL disabled"},
		{g.requireCiphertextHid, snp.PolicyCiphertextHiding, "ciphertext hiding"},
		{g.requirePageSwapOff, snp.PolicyPageSwapDisabled, "page swap disabled"},
	} {
		if !f.want {
			continue
		}
		asked = append(asked, f.name)
		if !p.Has(f.bit) {
			missing = append(missing, f.name)
		}
	}
	if len(asked) == 0 {
		a.Skip(PolicyGuestFeatures, "the policy asks for no further protection")
		return
	}
	a.Decide(PolicyGuestFeatures, len(missing) == 0, strings.Join(asked, ", "), "without "+strings.Join(missing, ", "),
		"the guest policy does not ask for %s", strings.Join(missing, ", "))
}

func (a *appraiser) policyImage() {
	r, p := a.report, a.p.image
	if p.minGuestSVN == 0 {
		a.Skip(PolicyGuestSVN, "the policy names no security version")
	} else {
		a.Decide(PolicyGuestSVN, r.GuestSVN >= p.minGuestSVN, fmt.Sprintf("at least %d", p.minGuestSVN), fmt.Sprint(r.GuestSVN), "the guest image is too old")
	}
	one := func(id CheckID, want, got []byte, what string) {
		if want == nil {
			a.Skip(id, "the policy names no %s", what)
			return
		}
		a.Decide(id, equal(want, got), hex.EncodeToString(want), hex.EncodeToString(got), "the %s is another", what)
	}
	any := func(id CheckID, list [][]byte, got []byte, what string) {
		if len(list) == 0 {
			a.Skip(id, "the policy lists no %s", what)
			return
		}
		a.Decide(id, contains(list, got), fmt.Sprintf("one of %d listed", len(list)), hex.EncodeToString(got), "the %s is not one that the policy lists", what)
	}
	one(PolicyFamilyID, p.familyID, r.FamilyID[:], "family id")
	one(PolicyImageID, p.imageID, r.ImageID[:], "image id")
	any(PolicyHostData, p.hostData, r.HostData[:], "host data")
	any(PolicyIDKey, p.idKeys, r.IDKeyDigest[:], "ID key")
	any(PolicyAuthorKey, p.authorKeys, r.AuthorKeyDigest[:], "author key")
}

func (a *appraiser) policyTCB() {
	rule := a.p.tcb[a.product]
	for _, f := range []struct {
		id    CheckID
		floor map[string]uint8
		got   snp.TCB
		what  string
	}{
		{PolicyTCBReported, rule.reported, a.report.ReportedTCB, "reported"},
		{PolicyTCBCommitted, rule.committed, a.report.CommittedTCB, "committed"},
		{PolicyTCBLaunch, rule.launch, a.report.LaunchTCB, "launch"},
	} {
		if f.floor == nil {
			a.Skip(f.id, "the policy has no floor for the %s TCB of %s", f.what, a.product)
			continue
		}
		var levels []snp.Level
		for _, name := range tcbComponents(a.product) {
			levels = append(levels, snp.Level{Component: snp.Component(name), Value: f.floor[name]})
		}
		a.DecideError(f.id, f.got.AtLeast(a.chain.Product, levels))
	}
}
