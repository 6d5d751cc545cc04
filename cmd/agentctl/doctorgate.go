// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/gatewire"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/unitfile"
)

// lookAtGate checks that the gate guards the applications that ask for it, from before their units
// start.
func (d *doctor) lookAtGate(root string, g *api.GateStatus) {
	const name = "gate"
	switch {
	case g == nil:
		return
	case !g.Present:
		d.warn(name, "`systemctl enable --now agentd-gate.service`", "%s asked for the gate, and it is not there: programs start without it", text.Count(g.Asked, "application"))
	case g.Guarded < g.Asked:
		d.warn(name, "`journalctl -u agentd-gate.service` says why", "%s asked for the gate, and it guards %d", text.Count(g.Asked, "application"), g.Guarded)
	default:
		d.good(name, "it guards what asked for it: %s", text.Count(g.Asked, "application"))
	}
	declared, err := declarations(root)
	if err != nil {
		return // the agent reports it
	}
	for _, app := range slices.Sorted(maps.Keys(declared)) {
		x := declared[app]
		b, err := unitfile.Read(root, x.Unit)
		if x.Gate == declaration.NoGate || err != nil || strings.Contains(string(b), "After="+gatewire.Unit+"\n") {
			continue
		}
		d.warn(name+": unit "+x.Unit, "`agentctl app enable "+x.Unit+"`", "%s may start before the gate, and what starts then is not known", x.Unit)
	}
}
