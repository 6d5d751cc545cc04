// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
)

// TestDoctorLooksAtUpgrades: each state of an upgrade in which root has to do something is a finding,
// and so is a record that does not open in a store that does.
func TestDoctorLooksAtUpgrades(t *testing.T) {
	for name, c := range map[string]struct {
		status api.UpgradeStatus
		open   bool
		level  level
		todo   string // part of it; empty: no finding
	}{
		"a damaged record":       {api.UpgradeStatus{State: api.UpgradeNone, Code: api.CodeDamaged}, true, levelBad, "upgrade-abort"},
		"a store that is closed": {api.UpgradeStatus{State: api.UpgradeNone, Code: api.CodeOtherChip}, false, "", ""},
		"none":                   {api.UpgradeStatus{State: api.UpgradeNone}, true, "", ""},
		"an unproven key":        {api.UpgradeStatus{State: api.UpgradeNone, Unproven: true}, true, levelWarning, "pin-release-key"},
		"accepted":               {api.UpgradeStatus{State: api.UpgradeAccepted}, true, levelWarning, "upgrade-finish"},
		"handed over":            {api.UpgradeStatus{State: api.UpgradeAnswered, Preparing: 7}, true, levelWarning, "upgrade-abort"},
	} {
		d := &doctor{}
		d.sayUpgrade(&c.status, c.open)
		x := d.find("upgrade")
		if (x != nil) != (c.todo != "") || x != nil && (x.Level != c.level || !strings.Contains(x.Todo, c.todo)) {
			t.Errorf("%s: %+v", name, d.symptoms)
		}
	}
}
