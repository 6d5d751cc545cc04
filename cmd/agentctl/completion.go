// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

const completionUsage = `Usage: agentctl completion bash|zsh|fish

Print a script with which a shell completes the commands of agentctl. The packages
install these scripts.

Examples:
  agentctl completion bash >~/.local/share/bash-completion/completions/agentctl
`

func completionCommand(t *terminal) *cobra.Command {
	return &cobra.Command{
		Use:    "completion",
		Long:   completionUsage,
		Hidden: true,
		Args:   arguments("SHELL"),
		RunE: func(c *cobra.Command, args []string) error {
			switch root := c.Root(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(t.out, false)
			case "zsh":
				return root.GenZshCompletionNoDesc(t.out)
			case "fish":
				return root.GenFishCompletion(t.out, false)
			}
			return misuse(fmt.Errorf("shell %q is not known: want bash, zsh or fish", args[0]))
		},
	}
}
