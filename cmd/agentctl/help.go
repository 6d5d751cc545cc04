// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func helpHint(c *cobra.Command) string { return fmt.Sprintf("run `%s --help`", c.CommandPath()) }

// helpCommand explains the command that its arguments name.
func helpCommand(t *terminal, root *cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use:   "help",
		Short: "explain a command",
		Long:  helpUsage,
		Args:  cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			c, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 && c.HasSubCommands() {
				return unknown(c, rest[0])
			}
			if len(args) == 0 {
				c = root
			}
			fmt.Fprint(t.out, c.Long)
			return nil
		},
	}
	c.ValidArgsFunction = func(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		above, rest, err := root.Find(args)
		var names []string
		if err == nil && len(rest) == 0 {
			for _, below := range above.Commands() {
				names = append(names, below.Name())
			}
		}
		return plainWords(names, typed), cobra.ShellCompDirectiveNoFileComp
	}
	return c
}

const helpUsage = `Usage: agentctl help [COMMAND...]

Explain a command, as --help does.

Examples:
  agentctl help
  agentctl help key rotate
`

// summary returns the first sentence of a help text, in one line.
func summary(long string) string {
	_, rest, _ := strings.Cut(long, "\n\n")
	paragraph, _, _ := strings.Cut(rest, "\n\n")
	words := strings.Join(strings.Fields(paragraph), " ")
	sentence, _, _ := strings.Cut(strings.ReplaceAll(words, ": ", ". "), ". ")
	return strings.TrimRight(sentence, ".:")
}

// group returns a command that only has subcommands.
func group(t *terminal, use, long string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: summary(long), Long: long, Args: cobra.ArbitraryArgs, RunE: choose(t, long)}
	c.AddCommand(children...)
	return c
}

// choose is what a command with subcommands does.
func choose(t *terminal, long string) func(*cobra.Command, []string) error {
	return func(*cobra.Command, []string) error {
		fmt.Fprint(t.err, long)
		return &exitError{code: exitMisuse}
	}
}

// misnamed refuses a command line that names no command, before its flags are looked at: one of them
// may be --help, which would explain the command above, or belong to what was meant.
func misnamed(args []string) error {
	c, rest, err := newRoot(&terminal{}, &sockets{}).Find(args)
	if err != nil || !c.HasSubCommands() {
		return nil
	}
	c.InitDefaultHelpFlag()
	c.InitDefaultVersionFlag()
	_ = c.ParseFlags(rest) // what is before an unknown flag counts; the flag is refused later
	if words := c.Flags().Args(); len(words) > 0 {
		return unknown(c, words[0])
	}
	return nil
}

// unknown refuses the name of a command, and suggests a similar one.
func unknown(c *cobra.Command, name string) error {
	c.SuggestionsMinimumDistance = max(1, min(2, len(name)/2)) // letters that differ: two that are swapped are two
	hint := helpHint(c)
	if near := c.SuggestionsFor(name); len(near) > 0 {
		hint = fmt.Sprintf("did you mean `%s %s`? `%s --help` lists all", c.CommandPath(), near[0], c.CommandPath())
	}
	return misuse(fmt.Errorf("unknown command %q for %q", name, c.CommandPath())).withHint(hint)
}

// command returns a command that does run.
func command(use, long string, args cobra.PositionalArgs, run func(c *cobra.Command, args []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: summary(long), Long: long, Args: args, RunE: run}
}
