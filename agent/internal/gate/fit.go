// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"cmp"
	"slices"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/internal/gatewire"
)

// Sizes of rules. A byte of a name is two of a message at most: it needs one escape.
const (
	maxRules   = gatewire.MaxToGate/2 - 1<<20 // bytes of all that is counted below
	folderSize = 64                           // of a folder, besides path and names
	nameSize   = 8
)

// fit returns the apps whose folders a gate can take, and the names of the others. Those with the
// fewest folders come first: who may make folders in one app must not end the guarding of others.
func fit(all []apps.Guarded) (fits []apps.Guarded, left []string) {
	size := make(map[string]int)
	for _, g := range all {
		for _, f := range g.Folders {
			size[g.App.App] += folderSize + len(f.Path)
			for _, name := range f.Names {
				size[g.App.App] += nameSize + len(name)
			}
		}
	}
	byName := func(x, y apps.Guarded) int { return cmp.Compare(x.App.App, y.App.App) }
	folders, bytes := 0, 0
	for _, g := range slices.SortedFunc(slices.Values(all), func(x, y apps.Guarded) int {
		return cmp.Or(cmp.Compare(len(x.Folders), len(y.Folders)), cmp.Compare(size[x.App.App], size[y.App.App]), byName(x, y))
	}) {
		if folders+len(g.Folders) > gatewire.MaxFolders || bytes+size[g.App.App] > maxRules {
			left = append(left, g.App.App)
			continue
		}
		folders, bytes = folders+len(g.Folders), bytes+size[g.App.App]
		fits = append(fits, g)
	}
	slices.SortFunc(fits, byName)
	return fits, left
}
