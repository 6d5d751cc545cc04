// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"fmt"

	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/sevsnp"
)

// FirmwareRules are rules about the state of the SNP firmware.
type FirmwareRules struct {
	quiet
	AllowProvisionalFirmware bool        `toml:"allow_provisional_firmware,omitempty" default:"false" doc:"accept firmware that is not committed: the host can go back to the older one at will"`
	Mitigations              Mitigations `toml:"mitigations,omitempty"`
}

// Mitigations is [mitigations]: bits that must be set.
type Mitigations struct {
	Launch  int64 `toml:"launch,omitempty" value:"range 1 4611686018427387904" default:"any" doc:"mitigations in place when the guest was launched, 1 to 2^62"`
	Current int64 `toml:"current,omitempty" value:"range 1 4611686018427387904" default:"any" doc:"mitigations in place when the report was made, 1 to 2^62"`
}

const maxMitigations = 1 << 62

var firmwareChecks = []check.Definition{
	{ID: "policy.provisional", Class: check.Policy, Ground: check.OnProcessor, Checks: "the current firmware is the committed one", Stops: "firmware that is on trial and can be rolled back"},
	{ID: "policy.mitigations", Class: check.Policy, Ground: check.OnProcessor, Checks: "the mitigations that the policy names were in place at launch and now", Stops: "a machine without the mitigation of a published hole"},
}

func (r *FirmwareRules) conflicts(p *Policy, f *faults) {
	if r.Mitigations != (Mitigations{}) && p.MinReportVersion != 0 && p.MinReportVersion < 5 {
		f.fail("mitigations", "reports before version 5 contain no mitigation vectors: min_report_version must be 5")
	}
}

func (r *FirmwareRules) explain(_ *Policy, w *Words) {
	w.tolerates(r.AllowProvisionalFirmware, "allow_provisional_firmware: the host can go back to older firmware at will.", "The firmware is committed: the host cannot go back to an older one.")
	w.demandIf(r.Mitigations.Launch != 0, "The mitigations 0x%x were in place at launch.", r.Mitigations.Launch)
	w.demandIf(r.Mitigations.Current != 0, "The mitigations 0x%x are in place.", r.Mitigations.Current)
	w.openIf(r.Mitigations == Mitigations{}, "Which mitigations of published holes the firmware has in place.")
}

func (r *FirmwareRules) survey() { r.AllowProvisionalFirmware = true }

func (*FirmwareRules) draft(g *Golden, d *Draft) {
	r := g.SNP
	d.root.dangerIf(r.Provisional(), "allow_provisional_firmware = true", "the firmware is not committed: the host can go back to the older one at will.")
	if r.LaunchMitigations == nil || r.CurrentMitigations == nil || r.Version < 5 || *r.LaunchMitigations > maxMitigations ||
		*r.CurrentMitigations > maxMitigations || *r.LaunchMitigations|*r.CurrentMitigations == 0 {
		return
	}
	d.tables.offer("Mitigations of published holes that were in place.", "[mitigations]")
	d.tables.lineIf(*r.LaunchMitigations != 0, "launch = %d", *r.LaunchMitigations)
	d.tables.lineIf(*r.CurrentMitigations != 0, "current = %d", *r.CurrentMitigations)
	d.tables.line("")
}

// judgeSNP judges the firmware. A nil vector means that the firmware does not state its
// mitigations, which is never a pass.
func (r *FirmwareRules) judgeSNP(_ *Policy, m *sevsnp.Report, f *check.Findings) {
	if !f.SkipIf(m.Provisional() && r.AllowProvisionalFirmware, "policy.provisional", "the policy accepts firmware that is not committed, and this is such: the host can go back to the older one") {
		f.Decide("policy.provisional", !m.Provisional(), "the committed firmware", fmt.Sprintf("current TCB %v, committed %v", m.CurrentTCB, m.CommittedTCB),
			"the firmware in use is not committed: it is on trial, and the host can go back to the older one")
	}
	want := r.Mitigations
	if f.SkipIf(want == Mitigations{}, "policy.mitigations", "the policy asks for no mitigation") {
		return
	}
	has := func(v *uint64, want int64) bool { return want == 0 || v != nil && *v&uint64(want) == uint64(want) }
	text := func(v *uint64) string {
		if v == nil {
			return "not stated"
		}
		return fmt.Sprintf("0x%x", *v)
	}
	f.Decide("policy.mitigations", has(m.LaunchMitigations, want.Launch) && has(m.CurrentMitigations, want.Current),
		fmt.Sprintf("at launch 0x%x, now 0x%x", want.Launch, want.Current),
		"at launch "+text(m.LaunchMitigations)+", now "+text(m.CurrentMitigations), "a mitigation that the policy names is missing, or the report does not state it")
}
