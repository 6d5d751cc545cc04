// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
)

// TestWords: each state says what it means, and names a command if there is something to do.
func TestWords(t *testing.T) {
	seen := map[string]string{}
	for name, c := range map[string]struct {
		u    api.UpgradeStatus
		open bool
		says string
	}{
		"no key":                  {api.UpgradeStatus{}, true, "pin-release-key"},
		"a key":                   {api.UpgradeStatus{ReleaseKey: "k"}, true, "a release key is pinned"},
		"a key of unknown origin": {api.UpgradeStatus{ReleaseKey: "k", Unproven: true}, true, "pin it again"},
		"locked":                  {api.UpgradeStatus{Code: api.CodeOtherChip}, false, "the store does not open"},
		"a damaged record":        {api.UpgradeStatus{Code: api.CodeAltered}, true, "upgrade-abort"},
		"prepared":                {api.UpgradeStatus{State: api.UpgradePrepared, Preparing: 7}, true, "upgrade-request"},
		"answered":                {api.UpgradeStatus{State: api.UpgradeAnswered, Preparing: 7}, true, "upgrade-abort"},
		"asked":                   {api.UpgradeStatus{State: api.UpgradeAsked}, true, "upgrade-accept"},
		"accepted":                {api.UpgradeStatus{State: api.UpgradeAccepted, Number: 7}, true, "upgrade-finish"},
		"replaced":                {api.UpgradeStatus{State: api.UpgradeReplaced, Code: api.CodeOtherMeasurement}, false, "goes back"},
	} {
		got := words(c.u, c.open)
		if !strings.Contains(got, c.says) {
			t.Errorf("%s: %q", name, got)
		}
		if other := seen[got]; other != "" {
			t.Errorf("%s and %s say the same", name, other)
		}
		seen[got] = name
	}
}
