// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/internal/version"
)

const versionUsage = `Usage: agentctl version [--json]

Print the version of agentctl and, if the agent answers, that of the agent.

Examples:
  agentctl version
  agentctl version --json | jq -r .agentd
`

func versionCommand(t *terminal, s *sockets) *cobra.Command {
	return command("version", versionUsage, arguments(), func(c *cobra.Command, _ []string) error {
		out := struct {
			Agentctl string `json:"agentctl"`
			Agentd   string `json:"agentd,omitempty"`
		}{Agentctl: version.Version}
		if st, err := soon(c.Context(), s.clientSocket().Status); err == nil {
			out.Agentd = st.Version
		}
		if t.json {
			return t.writeJSON(out)
		}
		fmt.Fprintf(t.out, "agentctl %s\n", out.Agentctl)
		if out.Agentd != "" {
			fmt.Fprintf(t.out, "agentd %s\n", cleanLine(out.Agentd))
		} else {
			fmt.Fprintln(t.out, "agentd does not answer")
		}
		return nil
	})
}
