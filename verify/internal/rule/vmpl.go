// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/sevsnp"
)

// VMPLRules are rules about the VM privilege level that asked for the report.
type VMPLRules struct {
	quiet
	VMPL []int `toml:"vmpl,omitempty" value:"range 0 3" default:"[0]" doc:"VM privilege levels that may ask for the report, 0 to 3. At a level other than 0, less privileged software of the guest can speak for it"`
}

var vmplChecks = []check.Definition{{ID: "policy.vmpl", Class: check.Policy, Ground: check.OnProcessor, Checks: "the report was asked for at a VM privilege level that the policy lists", Stops: "less privileged software speaking for the guest"}}

func (r *VMPLRules) vmpl() []int { return listOr(r.VMPL, 0) }

func (r *VMPLRules) conflicts(p *Policy, f *faults) {
	if b := p.binding(); b.Rank() > BindingGuestAsserted.Rank() && !slices.Contains(r.vmpl(), 0) {
		f.fail("vmpl", "binding is %q, which only a report asked for at VMPL 0 can give, so every evidence would be refused", b)
	}
}

func (r *VMPLRules) explain(_ *Policy, w *Words) {
	w.demand("The report was asked for at VMPL %s.", joined(r.vmpl(), " or "))
	if slices.ContainsFunc(r.vmpl(), func(v int) bool { return v != 0 }) {
		w.danger("vmpl contains a level other than 0: less privileged software of the guest can speak for it.")
	}
}

func (r *VMPLRules) survey() { r.VMPL = []int{0, 1, 2, 3} }

func (*VMPLRules) draft(g *Golden, d *Draft) {
	v := g.SNP.VMPL
	d.root.dangerIf(v != 0, fmt.Sprintf("vmpl = [%d]", v), "the report was asked for at VMPL %d, not 0.", v)
}

func (r *VMPLRules) judgeSNP(_ *Policy, m *sevsnp.Report, f *check.Findings) {
	listed := slices.ContainsFunc(r.vmpl(), func(v int) bool { return int64(v) == int64(m.VMPL) })
	f.Decide("policy.vmpl", listed, fmt.Sprint(r.vmpl()), fmt.Sprint(m.VMPL), "the report was asked for at VMPL %d", m.VMPL)
}
