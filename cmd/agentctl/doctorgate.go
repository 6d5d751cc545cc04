// SPDX-License-Identifier: Apache-2.0

package main

import "github.com/cvm-agentd/agentd/api"

// lookAtGate checks that the gate guards the applications that ask for it.
func (d *doctor) lookAtGate(g *api.GateStatus) {
	const name = "gate"
	switch {
	case g == nil:
	case !g.Present:
		d.warn(name, "`systemctl enable --now agentd-gate.service`", "%d applications ask for the gate, and it is not there: their programs start without it", g.Asked)
	case g.Guarded < g.Asked:
		d.warn(name, "`journalctl -u agentd-gate.service` says why", "the gate guards %d of the %d applications that ask for it", g.Guarded, g.Asked)
	default:
		d.good(name, "it guards all %d applications that ask for it", g.Asked)
	}
}
