// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/sevsnp"
)

// LaunchRules are rules about what was launched.
type LaunchRules struct {
	quiet
	UnlistedLaunch     Choice   `toml:"unlisted_launch,omitempty" value:"one refuse allow" default:"\"refuse\"" doc:"|allow| accepts launch measurements that no |[[launch]]| lists: nothing is known of the firmware then, and binding is at most |guest-asserted|"`
	DeniedMeasurements []string `toml:"denied_measurements,omitempty" value:"hex 48" default:"none" doc:"launch measurements that are refused, 48 bytes each; for policies with |unlisted_launch = \"allow\"|: with |refuse|, what is not listed is refused anyway"`
	Launches           []Launch `toml:"launch,omitempty"`
}

// Launch is one [[launch]]: a launch measurement that is acceptable.
type Launch struct {
	Measurement string `toml:"measurement" value:"hex 48" default:"required" doc:"MEASUREMENT of the report, 48 bytes"`
	Kind        Kind   `toml:"kind" value:"one plain paravisor svsm" default:"required" doc:"|plain|: firmware that runs no vTPM for the guest. |paravisor|, |svsm|: firmware, built and measured, that keeps a vTPM out of the guest's reach. An SVSM is of kind |svsm| only if it has the firmware report on nothing but a nonce of 64 bytes and a manifest that it made itself: see machines/svsm.md"`
	Covers      Cover  `toml:"covers" value:"one firmware firmware+kernel+cmdline firmware+kernel+cmdline+system" default:"required" doc:"|firmware|: what it boots shows in PCRs only. |firmware+kernel+cmdline|: direct boot, also kernel, initrd and command line. |firmware+kernel+cmdline+system|: also everything that can become root: the root disk is under dm-verity with its root hash on the command line, or the initrd is the whole system, and neither runs code from elsewhere as root. Only the builder of the image knows: if it is not so, what rests on |launch| rests on the guest alone"`
	Label       string `toml:"label,omitempty" value:"name" default:"none" doc:"for people; shown in the appraisal"`
}

// Cover says what a launch measurement was computed over.
type Cover string

// Covers.
const (
	CoversFirmware Cover = "firmware"                       // the firmware alone; what it boots shows in PCRs only
	CoversKernel   Cover = "firmware+kernel+cmdline"        // direct kernel boot: also kernel, initrd and command line
	CoversSystem   Cover = "firmware+kernel+cmdline+system" // likewise, and by hashes everything that can become root
)

// Kind says what the firmware of a launch measurement does for the vTPM.
type Kind string

// Kinds of firmware.
const (
	KindPlain     Kind = "plain"     // it runs no vTPM for the guest
	KindParavisor Kind = "paravisor" // a paravisor that keeps a vTPM out of the guest's reach
	KindSVSM      Kind = "svsm"      // an SVSM that does so
)

// Binding returns the strongest binding that firmware of this kind can give.
func (k Kind) Binding() Binding {
	return cmp.Or(map[Kind]Binding{KindParavisor: BindingParavisor, KindSVSM: BindingSVSM}[k], BindingGuestAsserted)
}

var launchChecks = []check.Definition{
	{ID: "policy.launch", Class: check.Policy, Ground: check.OnProcessor, Checks: "the launch measurement is one that the policy lists", Stops: "other firmware or another kernel"},
	{ID: "policy.denied", Class: check.Policy, Ground: check.OnProcessor, Checks: "neither launch measurement nor chip is on the policy's deny list", Stops: "a version that is known to be bad"},
}

func (r *LaunchRules) values(f *faults) {
	f.twice("launch[%d].measurement", len(r.Launches), func(i int) string { return r.Launches[i].Measurement })
}

func (r *LaunchRules) conflicts(_ *Policy, f *faults) {
	f.failIf(len(r.Launches) == 0 && r.UnlistedLaunch != Allow, "unlisted_launch", `no [[launch]] is listed, so every evidence would be refused: list one, or set unlisted_launch = "allow" and know that any firmware is accepted`)
	denied := set(r.DeniedMeasurements)
	for i, l := range r.Launches {
		f.failIf(denied[l.Measurement], fmt.Sprintf("launch[%d].measurement", i), "it is listed here and in denied_measurements")
	}
}

// Launch returns the rule that lists a launch measurement, nil if there is none.
func (r *LaunchRules) Launch(measurement []byte) *Launch {
	text := hex.EncodeToString(measurement)
	if i := slices.IndexFunc(r.Launches, func(l Launch) bool { return l.Measurement == text }); i >= 0 {
		return &r.Launches[i]
	}
	return nil
}

// listsSystem reports whether the launch measurement is listed as one that covers
// everything that can become root, and the most privileged software asked for the report.
func (r *LaunchRules) listsSystem(s *Subject, f *check.Findings) bool {
	if s.SNP == nil || !s.SNP.Privileged() || !f.Passed("policy.launch") {
		return false
	}
	l := r.Launch(s.SNP.Measurement())
	return l != nil && l.Covers == CoversSystem
}

// refusedLaunch returns the check of the launch that failed, if one did: of the
// measurement, or of the host's power over the guest's memory.
func refusedLaunch(f *check.Findings) check.ID {
	if f.Verdict("policy.launch") == check.Fail {
		return "policy.launch"
	}
	return refusedMemory(f)
}

func (r *LaunchRules) explain(p *Policy, w *Words) {
	for i, l := range r.Launches {
		covers := "the firmware alone"
		switch l.Covers {
		case CoversKernel:
			covers = "firmware, kernel, initrd and command line"
		case CoversSystem:
			covers = "firmware, kernel, initrd and command line, and by their hashes everything that can become root"
		}
		label := ""
		if l.Label != "" {
			label = fmt.Sprintf(" (%q)", l.Label)
		}
		lead, say := "The launch measurement is", w.demand
		if i > 0 {
			lead = "Or it is"
		}
		if r.UnlistedLaunch == Allow { // then the list only says what a measurement is
			lead, say = "Whether the launch measurement is", w.open
		}
		say("%s %s...%s, of kind %s, which covers %s.", lead, l.Measurement[:min(16, len(l.Measurement))], label, l.Kind, covers)
	}
	w.openIf(slices.ContainsFunc(r.Launches, func(l Launch) bool { return l.Kind == KindSVSM }),
		"Whether the SVSM has the firmware report on nothing but a nonce of 64 bytes and a manifest of its own: no report shows it. An SVSM that lets host or guest choose more vouches for any key, and is not of kind %q.", KindSVSM)
	w.openIf(slices.ContainsFunc(r.Launches, func(l Launch) bool { return l.Kind == KindParavisor }),
		"What the paravisor is: its maker does not publish the image, so this measurement was taken from a machine, and not computed. No report shows that it keeps the vTPM out of the host's reach, nor that its attestation key signs nothing but what the TPM composed: both is its maker's word.")
	w.demandIf(len(r.DeniedMeasurements) > 0, "The launch measurement is %s.", noneOf(len(r.DeniedMeasurements), "measurement"))
	if r.UnlistedLaunch == Allow { // then any firmware is accepted, whatever it loads
		w.danger("unlisted_launch is \"allow\": any firmware and kernel are accepted, those of an attacker included.")
		return
	}
	r.explainBoot(p, w)
}

// loaderPCRs show what the program in PCR 4 loads in turn, and with which command line
// (UAPI Group, Linux TPM PCR Registry).
var loaderPCRs = []int{8, 9, 12, 13}

// explainBoot says what a launch measurement leaves to PCRs, and what neither covers.
// What the firmware loads first shows in PCR 4 (TCG PC Client Platform Firmware Profile,
// section 3.3.4) and there alone: a PCR that later software extends has whatever value
// that software wants.
func (r *LaunchRules) explainBoot(p *Policy, w *Words) {
	if slices.ContainsFunc(r.Launches, func(l Launch) bool { return l.Covers == CoversFirmware }) {
		if !p.pinned(4) {
			w.danger("A launch measurement covers the firmware alone, and PCR 4, in which the firmware records what it loads, is not pinned: any kernel and any disk image are accepted after it.")
			return
		}
		if left := slices.DeleteFunc(slices.Clone(loaderPCRs), p.pinned); len(left) > 0 {
			w.open("What the program in PCR 4 loads in turn, and with which command line. It may show in PCR %s, which is not pinned: GRUB records its commands and the command line in PCR 8, kernel and initrd in PCR 9; a kernel that the firmware starts records initrd and command line in PCR 9; a unified kernel image is in PCR 4 as a whole, and records what it is given besides in PCRs 12 (command line, credentials) and 13 (system extensions).", joined(left, ", "))
		}
	}
	if !slices.ContainsFunc(r.Launches, func(l Launch) bool { return l.Covers != CoversSystem }) {
		return
	}
	w.open("What is on the disks, the root disk too: no launch measurement and no PCR of the boot covers it, unless they cover a hash of it, such as the root hash of dm-verity on the command line or in a unified kernel image.")
}

func (r *LaunchRules) survey() { r.UnlistedLaunch = Allow }

func (*LaunchRules) draft(g *Golden, d *Draft) {
	d.tables.say("What was launched. A report does not show what kind of firmware it is and what its measurement covers: the builder of the image knows. \"plain\" and \"firmware\" claim the least.")
	d.tables.line("[[launch]]\nmeasurement = %s\nkind = %q\ncovers = %q\nlabel = \"golden machine, %s\"\n",
		hexOf(g.SNP.Measurement()), KindPlain, CoversFirmware, g.Time.UTC().Format("2006-01-02"))
}

func (r *LaunchRules) judgeSNP(p *Policy, m *sevsnp.Report, f *check.Findings) {
	measurement, listed := hex.EncodeToString(m.Measurement()), r.Launch(m.Measurement()) != nil
	if !f.SkipIf(!listed && r.UnlistedLaunch == Allow, "policy.launch", "the policy accepts launch measurements that it does not list, and this is one") {
		f.Decide("policy.launch", listed, oneOf(len(r.Launches), "measurement"), measurement,
			"the launch measurement is not listed: another firmware or, with direct boot, another kernel was launched")
	}
	denied := ""
	switch {
	case slices.Contains(r.DeniedMeasurements, measurement):
		denied = "launch measurement " + measurement
	case listsChip(p.DeniedChips, m.ChipID):
		denied = "chip " + hex.EncodeToString(m.ChipID[:])
	}
	if !f.SkipIf(len(r.DeniedMeasurements)+len(p.DeniedChips) == 0, "policy.denied", "the policy denies nothing by name") {
		f.Decide("policy.denied", denied == "", "nothing that the policy denies", denied, "the policy denies this by name")
	}
}
