// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func helpHint(c *cobra.Command) string { return fmt.Sprintf("run `%s --help`", c.CommandPath()) }

// helpCommand explains the command that its arguments name.
func helpCommand(t *terminal, root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:    "help",
		Long:   usage,
		Hidden: true,
		Args:   cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			c, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 && c.HasSubCommands() {
				return unknown(c, rest[0])
			}
			fmt.Fprint(t.out, c.Long)
			return nil
		},
	}
}

// group returns a command that only has subcommands.
func group(t *terminal, use, long string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Long: long, Args: cobra.ArbitraryArgs, RunE: choose(t, long)}
	c.AddCommand(children...)
	return c
}

// choose is what a command with subcommands does.
func choose(t *terminal, long string) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknown(c, args[0])
		}
		fmt.Fprint(t.err, long)
		return &exitError{code: exitMisuse}
	}
}

// unknown refuses the name of a command, and suggests a similar one.
func unknown(c *cobra.Command, name string) error {
	if c.SuggestionsMinimumDistance <= 0 {
		c.SuggestionsMinimumDistance = 2
	}
	hint := helpHint(c)
	if near := c.SuggestionsFor(name); len(near) > 0 {
		hint = fmt.Sprintf("did you mean `%s %s`? %s lists all", c.CommandPath(), near[0], hint)
	}
	return misuse(fmt.Errorf("unknown command %q for %q", name, c.CommandPath())).withHint(hint)
}

// command returns a command that does run.
func command(use, long string, args cobra.PositionalArgs, run func(c *cobra.Command, args []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Long: long, Args: args, RunE: run}
}

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
