// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"cmp"
	"maps"
	"slices"

	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/pcr"
)

// declared returns all declarations, ascending by name.
func declared(s *declaration.Set) (all []pcr.Declaration) {
	for _, some := range []map[string]*declaration.Declaration{s.Declarations, s.Containers} {
		for name, d := range some {
			all = append(all, pcr.Declaration{App: name, Digest: d.Digest})
		}
	}
	slices.SortFunc(all, func(x, y pcr.Declaration) int { return cmp.Compare(x.App, y.App) })
	return all
}

// adoptContainers puts the declarations of containers into force. Nothing is measured of them before
// one starts. The caller holds mu.
func (a *Apps) adoptContainers(now map[string]*declaration.Declaration, c *Change) {
	for name, d := range now {
		switch before := a.containers[name]; {
		case before == nil:
			c.Added = append(c.Added, name)
		case before.Digest != d.Digest:
			c.Changed = append(c.Changed, name)
		}
	}
	for name := range a.containers {
		if now[name] == nil {
			c.Removed = append(c.Removed, name)
		}
	}
	slices.Sort(c.Added)
	slices.Sort(c.Changed)
	slices.Sort(c.Removed)
	a.containers = maps.Clone(now)
}

// Containers returns the declarations of apps that are containers, in the order of their names. The
// caller must not change them.
func (a *Apps) Containers() []*declaration.Declaration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.SortedFunc(maps.Values(a.containers), func(x, y *declaration.Declaration) int { return cmp.Compare(x.Name, y.Name) })
}
