// SPDX-License-Identifier: Apache-2.0

package rule

import "github.com/cvm-agentd/agentd/verify/internal/check"

// Vouched returns what vouches for an evidence apart from the guest's own word, by the
// checks that passed.
func (p *Policy) Vouched(s *Subject, f *check.Findings) check.Vouched {
	v := check.Vouched{Tied: s.Tie.Binding != BindingNone}
	if memoryClosed(f) {
		v.System = p.listsSystem(s, f)
		v.Below = s.Tie.Binding.Rank() > BindingGuestAsserted.Rank()
	}
	v.TPM = Origin(f) != AKNone || v.Below
	return v
}
