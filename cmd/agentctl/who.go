// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
)

const whoUsage = `Usage: agentctl who PID [--client] [--json]

Show how the agent identifies another process: user, unit, application or container,
and whether the log vouches for what it runs. That needs the admin socket.

  --client  ask the client socket, which answers the units that processes.askers names

Examples:
  agentctl who 4711
  agentctl who $(systemctl show -P MainPID billing.service)
  agentctl who 4711 --json | jq .sinceStart
`

func whoCommand(t *terminal, s *sockets) *cobra.Command {
	var client bool
	c := command("who", whoUsage, arguments("PID"), func(c *cobra.Command, args []string) error {
		pid, err := strconv.ParseUint(args[0], 10, 31)
		if err != nil || pid == 0 {
			return misuse(fmt.Errorf("%q is not the number of a process", args[0]))
		}
		ask := s.adminSocket().Process
		if client {
			ask = s.clientSocket().Process
		}
		p, err := soon(c.Context(), func(ctx context.Context) (*api.Process, error) { return ask(ctx, uint32(pid)) })
		return present(t, p, err, func() { t.printProcess(p) })
	})
	c.Flags().BoolVar(&client, "client", false, "")
	return c
}

func (t *terminal) printProcess(p *api.Process) {
	n := &node{text: fmt.Sprintf("process %d, started %s", p.PID, sinceBoot(p.Started))}
	n.add("uid %d, gid %d", p.UID, p.GID)
	n.addPlace(p.Unit, p.UnitReason, p.App)
	if c := p.Container; c != nil {
		n.add("container %s of %s, root %s", c.ID, c.Engine, c.Root)
	}
	n.add("%s", finding("measured", p.Measured))
	if p.Digest != nil && p.Container == nil {
		n.add("digest %s", p.Digest)
	}
	n.add("%s", finding("since its start", p.SinceStart))
	if x := p.Executable; x != nil {
		n.addExecutable(x, "observed, never proof")
	}
	n.draw(t)
}
