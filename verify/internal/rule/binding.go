// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"cmp"
	"slices"

	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// BindingRules are rules about what ties the vTPM to the report.
type BindingRules struct {
	quiet
	Binding Binding `toml:"binding,omitempty" value:"one none guest-asserted paravisor svsm" default:"\"guest-asserted\"" doc:"the weakest binding that is acceptable: |guest-asserted|, |paravisor|, |svsm|. |none| also accepts a bare report, which vouches for no vTPM. |paravisor| needs evidence of an Azure machine, or a paravisor's set, and VMPL 0. Such a set contains neither a log nor a caller, and does not name its attestation key: rules about these refuse it. |svsm| needs evidence of a machine with an SVSM, VMPL 0, and, if the SVSM names no attestation key, an |[[enrolment]]|"`
}

// Binding says what ties the vTPM to the report.
type Binding string

// Bindings.
const (
	BindingNone          Binding = "none"           // nothing ties the vTPM to the report
	BindingGuestAsserted Binding = "guest-asserted" // the guest's own software put AK and agent key into its report
	BindingParavisor     Binding = "paravisor"      // a measured paravisor at VMPL 0 vouches for the AK
	BindingSVSM          Binding = "svsm"           // a measured SVSM at VMPL 0 vouches for the vTPM
)

// bindings in rising order of strength.
var bindings = []Binding{BindingNone, BindingGuestAsserted, BindingParavisor, BindingSVSM}

// Rank returns the strength of b, -1 if it is unknown.
func (b Binding) Rank() int { return slices.Index(bindings, b) }

// RestsOn says for people on whose word a binding rests.
func (b Binding) RestsOn() string {
	switch b {
	case BindingGuestAsserted:
		return "That this vTPM, this log and this agent belong to the machine is the word of every program in the guest that could ask for a report since boot, root's included."
	case BindingParavisor:
		return "That this vTPM belongs to the machine is the word of the measured paravisor, as the policy lists it."
	case BindingSVSM:
		return "That this vTPM belongs to the machine is the word of the measured SVSM, as the policy lists it."
	}
	return "Nothing ties the vTPM to the report: its PCR values prove nothing about this machine."
}

var bindingChecks = []check.Definition{{ID: "policy.binding", Class: check.Policy, Ground: check.OnBinding, Checks: "the binding of vTPM and report is at least as strong as the policy asks", Stops: "a vTPM that is tied to the report by less than the verifier thinks"}}

func (r *BindingRules) binding() Binding { return cmp.Or(r.Binding, BindingGuestAsserted) }

// conflicts refuses what contradicts the binding that is asked for.
func (r *BindingRules) conflicts(p *Policy, f *faults) {
	b := r.binding()
	if b.Rank() > BindingGuestAsserted.Rank() && !slices.ContainsFunc(p.Launches, func(l Launch) bool { return l.Kind.Binding().Rank() >= b.Rank() }) {
		f.fail("binding", "no [[launch]] is of a kind that can give %q, so every evidence would be refused", b)
	}
}

func (r *BindingRules) explain(_ *Policy, w *Words) {
	if r.binding() == BindingNone {
		w.danger("binding is \"none\": a report is accepted without any vTPM, so nothing is known of what ran after the launch.")
		return
	}
	w.demand("The binding of vTPM and report is %q or stronger. %s", r.binding(), r.binding().RestsOn())
}

func (r *BindingRules) judge(_ *Policy, s *Subject, f *check.Findings) {
	t, m := s.Tie, s.Material
	if t.Structure == BindingNone && m.Report && m.Quote {
		f.Block("policy.binding", "nothing ties the vTPM to the report: see %s", t.See)
		return
	}
	f.Decide("policy.binding", t.Binding.Rank() >= r.binding().Rank(), "at least "+string(r.binding()), string(t.Binding),
		"the binding of vTPM and report is %q, and the policy asks for %q or stronger", t.Binding, r.binding())
}
