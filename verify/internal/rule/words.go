// SPDX-License-Identifier: Apache-2.0

package rule

import "fmt"

// Words is a policy in sentences for people. What a policy leaves open is as much a part
// of its meaning as what it demands: no check that an appraisal lists as not asserted
// should come as a surprise.
type Words struct {
	Demands   []string `json:"demands"`   // evidence that does not meet one of these is refused
	Unchecked []string `json:"unchecked"` // nothing is asked about these
	Dangers   []string `json:"dangers"`   // the policy accepts what a cautious one refuses
}

// Explain returns what p demands, what it leaves unchecked, and which of its rules
// weaken it. Signatures, formats and bindings are always checked and not listed.
func (p *Policy) Explain() *Words {
	w := &Words{}
	for _, s := range p.subjects() {
		s.explain(p, w)
	}
	return w
}

func (w *Words) demandIf(asked bool, format string, a ...any) {
	if asked {
		w.demand(format, a...)
	}
}

func (w *Words) openIf(is bool, format string, a ...any) {
	if is {
		w.open(format, a...)
	}
}

func (w *Words) dangerIf(is bool, format string, a ...any) {
	if is {
		w.danger(format, a...)
	}
}

// tolerates says the danger of a rule that tolerates something, or the demand of its absence.
func (w *Words) tolerates(is bool, danger, demand string) {
	w.dangerIf(is, "%s", danger)
	w.demandIf(!is, "%s", demand)
}

func (w *Words) demand(format string, a ...any) {
	w.Demands = append(w.Demands, fmt.Sprintf(format, a...))
}

func (w *Words) open(format string, a ...any) {
	w.Unchecked = append(w.Unchecked, fmt.Sprintf(format, a...))
}

func (w *Words) danger(format string, a ...any) {
	w.Dangers = append(w.Dangers, fmt.Sprintf(format, a...))
}
