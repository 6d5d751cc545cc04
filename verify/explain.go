// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// PolicyWords is a policy in sentences for people. What a policy leaves open belongs
// to its meaning as much as what it demands: nothing that the appraisal lists as not
// asserted should come as news.
type PolicyWords struct {
	Demands   []string `json:"demands"`   // evidence that does not meet one of these is refused
	Unchecked []string `json:"unchecked"` // nothing is asked about these
	Dangers   []string `json:"dangers"`   // the policy accepts what a cautious one refuses
}

// Explain says what p demands, what it leaves unchecked, and which of its rules
// weaken it. Signatures, formats and bindings are always checked and not listed.
func (p *Policy) Explain() *PolicyWords {
	w := &PolicyWords{}
	w.machine(p)
	w.launches(p)
	w.guest(p)
	w.platform(p)
	w.levels(p)
	w.image(p)
	w.binding(p)
	w.log(p)
	w.caller(p)
	return w
}

func (w *PolicyWords) demand(format string, a ...any) {
	w.Demands = append(w.Demands, fmt.Sprintf(format, a...))
}

func (w *PolicyWords) open(format string, a ...any) {
	w.Unchecked = append(w.Unchecked, fmt.Sprintf(format, a...))
}

func (w *PolicyWords) danger(format string, a ...any) {
	w.Dangers = append(w.Dangers, fmt.Sprintf(format, a...))
}

func (w *PolicyWords) machine(p *Policy) {
	w.demand("The processor is of the line %s.", strings.Join(p.products, " or "))
	if slices.Contains(p.products, "milan") {
		w.danger("products holds milan: there is hardware that attacks its memory, and no newer firmware undoes that.")
	}
	w.demand("The report is signed by a %s.", strings.ToUpper(strings.Join(p.signers, " or a ")))
	if slices.Contains(p.signers, "vlek") {
		w.danger("signers holds vlek: such a key belongs to a cloud, which could load it into any of its machines.")
	}
	if p.minReportVersion > 2 {
		w.demand("The report has version %d or later.", p.minReportVersion)
	}
	if len(p.chips) > 0 {
		w.demand("The chip is one of %d that are listed.", len(p.chips))
	}
	if len(p.deniedChips) > 0 {
		w.demand("The chip is none of %d that are denied.", len(p.deniedChips))
	}
	if len(p.chips)+len(p.deniedChips) == 0 {
		w.open("Which chip it is: any genuine processor will do.")
	}
	if p.allowMaskedChip {
		w.danger("allow_masked_chip: the host may hide the chip id, and report and certificate are then not held against each other.")
	}
	switch p.revocation {
	case "required":
		w.demand("A current revocation list of the root is at hand, and neither it nor one past its time names a certificate of the chain.")
	case "optional":
		w.demand("Where a revocation list of the root is given to the verifier, current or past its time, it names no certificate of the chain.")
		w.open("Whether a key was revoked, where no current list is given (revocation = \"required\" asks for one).")
	default:
		w.danger("revocation is off: keys that AMD withdrew are accepted.")
	}
	w.demand("The report was asked for at VMPL %s.", joined(p.vmpl, " or "))
	if slices.ContainsFunc(p.vmpl, func(v uint32) bool { return v != 0 }) {
		w.danger("vmpl holds a level other than 0: less privileged software of the guest can speak for it.")
	}
}

func joined[T any](list []T, with string) string {
	parts := make([]string, len(list))
	for i, v := range list {
		parts[i] = fmt.Sprint(v)
	}
	return strings.Join(parts, with)
}

func (w *PolicyWords) launches(p *Policy) {
	for i := range p.launches {
		l := &p.launches[i]
		covers := "the firmware alone"
		if l.covers == CoversKernel {
			covers = "firmware, kernel, initrd and command line"
		}
		label := ""
		if l.label != "" {
			label = fmt.Sprintf(" (%q)", l.label)
		}
		lead, say := "The launch measurement is", w.demand
		if i > 0 {
			lead = "Or it is"
		}
		if p.allowUnlisted { // then the list tells what a measurement is, and no more
			lead, say = "Whether the launch measurement is", w.open
		}
		say("%s %s%s, of kind %s, which covers %s.", lead, shortHex(l.measurement), label, l.kindName(), covers)
	}
	if p.allowUnlisted {
		w.danger("unlisted_launch is \"allow\": any firmware and kernel are accepted, those of an attacker included.")
	}
	if len(p.deniedLaunches) > 0 {
		w.demand("The launch measurement is none of %d that are denied.", len(p.deniedLaunches))
	}
	if !p.allowUnlisted { // then any firmware is accepted, whatever it loads
		w.behindLaunch(p)
	}
}

// loaderPCRs show what the program in PCR 4 loads in turn, and with which command line
// (UAPI Group, Linux TPM PCR Registry).
var loaderPCRs = []uint32{8, 9, 12, 13}

// behindLaunch says what a launch measurement leaves to PCRs, and what neither covers.
// What the firmware loads first shows in PCR 4 (TCG PC Client Platform Firmware Profile,
// section 3.3.4) and there alone: a PCR that later software extends has whatever value
// that software wants.
func (w *PolicyWords) behindLaunch(p *Policy) {
	pinned := func(index uint32) bool {
		return slices.ContainsFunc(p.pcrs, func(r pcrRule) bool { return r.index == index })
	}
	if slices.ContainsFunc(p.launches, func(l launchRule) bool { return l.covers == CoversFirmware }) {
		if !pinned(4) {
			w.danger("A launch measurement covers the firmware alone, and PCR 4, where the firmware records what it loads, is not pinned: any kernel and any disk image are accepted behind it.")
			return
		}
		if left := slices.DeleteFunc(slices.Clone(loaderPCRs), pinned); len(left) > 0 {
			w.open("What the program in PCR 4 loads in turn, and with which command line, as far as it shows in PCR %s, which is not pinned: GRUB records its commands and the command line in PCR 8, kernel and initrd in PCR 9; a kernel that the firmware starts records initrd and command line in PCR 9; a unified kernel image is in PCR 4 whole, and records what it is given besides in PCRs 12 (command line, credentials) and 13 (system extensions).", joined(left, ", "))
		}
	}
	w.open("What is on the disks, the root disk too: no launch measurement and no PCR of the boot covers it, unless what they do cover holds it to a hash, such as the root hash of dm-verity on the command line or in a unified kernel image.")
}

// kindName is the kind as a policy spells it.
func (l *launchRule) kindName() string {
	if l.kind == BindingGuestAsserted {
		return "plain"
	}
	return string(l.kind)
}

func shortHex(b []byte) string {
	s := hex.EncodeToString(b)
	if len(s) > 16 {
		return s[:16] + "..."
	}
	return s
}

func (w *PolicyWords) guest(p *Policy) {
	g := &p.guest
	for _, x := range []struct {
		allowed         bool
		refused, danger string
	}{
		{g.allowDebug, "The host may not debug the guest.", "guest_policy.allow_debug: the host may read and write all memory of the guest. Nothing in it is confidential."},
		{g.allowMigrationAgent, "The guest has no migration agent.", "guest_policy.allow_migration_agent: a migration agent may hand the guest's memory to another machine."},
		{g.allowCXL, "The guest has no memory behind CXL.", "guest_policy.allow_cxl: memory of the guest may lie on devices outside the processor."},
		{g.allowReserved, "The guest policy has no bit that this version cannot name.", "guest_policy.allow_reserved_bits: permissions that nobody can name are accepted."},
		{p.allowProvisional, "The firmware is committed: the host cannot go back to an older one.", "allow_provisional_firmware: the host can go back to older firmware at will."},
	} {
		if x.allowed {
			w.danger("%s", x.danger)
		} else {
			w.demand("%s", x.refused)
		}
	}
	for _, x := range []struct {
		asked          bool
		demanded, open string
	}{
		{!g.allowSMT, "The guest shares no core with another thread.", "Whether another thread runs on the guest's cores (SMT)."},
		{g.requireSingleSocket, "The guest is held to one socket.", "Whether the guest spans sockets."},
		{g.requireAES256XTS, "The guest asks for AES-256-XTS memory encryption.", ""},
		{g.requireRAPLDisabled, "The guest asks for power measurement to be off.", ""},
		{g.requireCiphertextHid, "The guest asks for its ciphertext to be hidden from the host.", "Whether the host sees the ciphertext of guest memory."},
		{g.requirePageSwapOff, "The guest forbids the host to move and swap its pages.", ""},
		{g.minABIMajor != 0 || g.minABIMin != 0, fmt.Sprintf("The guest asks for firmware ABI %d.%d or later.", g.minABIMajor, g.minABIMin), ""},
	} {
		switch {
		case x.asked:
			w.demand("%s", x.demanded)
		case x.open != "":
			w.open("%s", x.open)
		}
	}
}

func (w *PolicyWords) platform(p *Policy) {
	alias := false
	for _, b := range platformBits {
		if p.platform.require.Has(b.mask) {
			w.demand("The platform has the property %s.", b.name)
			alias = alias || b.name == "alias_check_complete"
		}
		if p.platform.refuse.Has(b.mask) {
			w.demand("The platform does not state the property %s.", b.name)
		}
	}
	if !alias {
		w.open("Whether memory is aliased (BadRAM): platform.require = [\"alias_check_complete\"] asks.")
	}
	if p.platform.refuseOther {
		w.demand("The platform has no property that this version cannot name.")
	}
	if p.launchMitigation != 0 {
		w.demand("The mitigations 0x%x were in place at launch.", p.launchMitigation)
	}
	if p.currentMitigation != 0 {
		w.demand("The mitigations 0x%x are in place.", p.currentMitigation)
	}
	if p.launchMitigation == 0 && p.currentMitigation == 0 {
		w.open("Which mitigations of published holes the firmware has in place.")
	}
}

func (w *PolicyWords) levels(p *Policy) {
	for _, product := range p.products {
		rule, ok := p.tcb[product]
		if !ok {
			w.open("The firmware versions of %s: [tcb.%s] sets floors. Old firmware has published holes.", product, product)
			continue
		}
		for _, f := range []struct {
			name   string
			floors map[string]uint8
		}{{"reported", rule.reported}, {"committed", rule.committed}, {"launch", rule.launch}} {
			if f.floors == nil {
				w.open("The %s firmware versions of %s.", f.name, product)
				continue
			}
			var parts []string
			for _, c := range tcbComponents(product) {
				parts = append(parts, fmt.Sprintf("%s %d", c, f.floors[c]))
			}
			w.demand("On %s, the %s firmware is at least %s.", product, f.name, strings.Join(parts, ", "))
		}
	}
}

func (w *PolicyWords) image(p *Policy) {
	r := &p.image
	if r.minGuestSVN > 0 {
		w.demand("The security version of the guest image is %d or later.", r.minGuestSVN)
	}
	if r.familyID != nil {
		w.demand("The family id of the image is %x.", r.familyID)
	}
	if r.imageID != nil {
		w.demand("The image id is %x.", r.imageID)
	}
	for _, x := range []struct {
		list [][]byte
		name string
		open string
	}{
		{r.hostData, "host data", "What the host gave the guest at launch (host data)."},
		{r.idKeys, "ID key", "Who signed the launch (ID and author keys)."},
		{r.authorKeys, "author key", ""},
	} {
		switch {
		case len(x.list) > 0:
			w.demand("The %s is one of %d that are listed.", x.name, len(x.list))
		case x.open != "":
			w.open("%s", x.open)
		}
	}
}

func (w *PolicyWords) log(p *Policy) {
	if p.firmwareRequired {
		w.demand("The firmware's log leads to the quoted PCRs 0 to 7, but for those that are pinned.")
	} else {
		w.open("Whether the firmware's log leads to the quoted PCRs (firmware_log = \"required\" asks).")
	}
	if !p.logRequired {
		w.danger("log is \"optional\": evidence without a log is accepted, and which applications ran is then not known.")
		w.demand("Where the evidence holds a measurement log, replaying it gives the quoted PCR.")
	} else {
		w.demand("The evidence holds the measurement log, and replaying it gives the quoted PCR.")
	}
	if p.tolerateGaps {
		w.danger("tolerate_gaps: the log may say that it missed changes.")
	} else {
		w.demand("The log records no gap.")
	}
	if p.tolerateUnmeasured {
		w.danger("tolerate_unmeasured: declared applications may have run unmeasured.")
	} else {
		w.demand("The log records no declared application that could not be measured.")
	}
	for _, a := range p.apps {
		as := ""
		if a.unit != "" {
			as += fmt.Sprintf(", as unit %q", a.unit)
		}
		if a.user != "" {
			as += fmt.Sprintf(", as user %q", a.user)
		}
		if a.required {
			w.demand("The application %q was measured%s; since boot it had only digests of %d that are listed.", a.name, as, len(a.digests))
		} else {
			w.demand("If the application %q was measured, then%s since boot only with digests of %d that are listed.", a.name, as, len(a.digests))
		}
	}
	switch {
	case p.refuseUnlistedApps:
		w.demand("No application was measured that the policy does not list.")
	case len(p.apps) == 0:
		w.open("Which applications run: no [[app]] is listed.")
	default:
		w.open("Which applications run beside those that are listed (unlisted_apps = \"refuse\" asks).")
	}
	if len(p.agent.versions) > 0 {
		w.demand("Every agent that wrote to the log has one of the versions %s.", strings.Join(slices.Sorted(maps.Keys(p.agent.versions)), ", "))
	}
	if len(p.agent.digests) > 0 {
		w.demand("Every agent that wrote to the log has one of %d listed digests.", len(p.agent.digests))
	}
	if len(p.agent.versions) == 0 && len(p.agent.digests) == 0 {
		w.open("Which agent wrote the log ([agent]).")
	}
	w.open("Programs that nobody declared to the agent: they are in no log.")
}

func (w *PolicyWords) caller(p *Policy) {
	c := &p.caller
	if c.unit != "" {
		w.demand("The evidence was asked for by the unit %q.", c.unit)
	}
	if c.uid != nil {
		w.demand("The evidence was asked for by uid %d.", *c.uid)
	}
	if c.app != "" {
		w.demand("The evidence was asked for by the application %q.", c.app)
	}
	if len(c.executables) > 0 {
		w.demand("The caller was seen to run one of %d listed executables. That is an observation, no proof.", len(c.executables))
	}
	if c.covered {
		w.demand("The caller was seen to run a file of its application's manifest. That is an observation, no proof.")
	}
	if c.unit == "" && c.uid == nil {
		w.open("Which program on the machine asked for the evidence, and so holds the key in it ([caller]).")
	}
}
