// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"strings"
	"testing"
)

const small = "version = 1\n[[launch]]\nmeasurement = \"%s\"\nkind = \"plain\"\ncovers = \"firmware\"\n"

// TestDefaults: what a policy that says little refuses.
func TestDefaults(t *testing.T) {
	p, err := Parse([]byte(strings.Replace(small, "%s", strings.Repeat("01", 48), 1)))
	if err != nil {
		t.Fatal(err)
	}
	g := p.GuestPolicy
	if p.AllowProvisionalFirmware || g.AllowDebug || g.AllowMigrationAgent || g.AllowCXL || g.AllowReservedBits ||
		p.AllowMaskedChip || p.UnlistedLaunch == Allow || p.TolerateGaps || p.TolerateUnmeasured || !p.LogRules.required() {
		t.Errorf("a default is unsafe: %+v", p)
	}
	if len(p.vmpl()) != 1 || p.vmpl()[0] != 0 || p.freshness() != FreshReport || p.binding() != BindingGuestAsserted ||
		strings.Join(p.signers(), " ") != "vcek" || strings.Join(p.products(), " ") != "genoa turin" || p.NeedsRevocation() != Optional || !g.allowsSMT() {
		t.Errorf("a default is not the documented one: %+v", p)
	}
}
