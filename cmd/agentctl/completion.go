// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cvm-agentd/agentd/internal/unitfile"
	"github.com/cvm-agentd/agentd/launch"
)

const completionUsage = `Usage: agentctl completion bash|zsh|fish

Print a script with which a shell completes commands, flags, units, applications and
secrets. The packages install these scripts.

Examples:
  agentctl completion bash >~/.local/share/bash-completion/completions/agentctl
`

func completionCommand(t *terminal) *cobra.Command {
	return command("completion", completionUsage, arguments("SHELL"), func(c *cobra.Command, args []string) error {
		switch root := c.Root(); args[0] {
		case "bash":
			return root.GenBashCompletionV2(t.out, true)
		case "zsh":
			return root.GenZshCompletion(t.out)
		case "fish":
			return root.GenFishCompletion(t.out, true)
		}
		return misuse(fmt.Errorf("shell %q is not known: want bash, zsh or fish", args[0]))
	})
}

// offerTime is how long a person waits for words after TAB.
const offerTime = time.Second

// offer returns the words that fit after the arguments before.
type offer func(c *cobra.Command, before []string) []string

// offers are the words of arguments, by the path of the command below agentctl. The words
// of a command with another argument are names of files.
func offers(s *sockets) map[string][]offer {
	apps, secrets, disks := appWords(s), secretWords(s), diskWords(s)
	return map[string][]offer{
		"app show":      {apps},
		"app add":       {unitWords},
		"app enable":    {declaredUnitWords},
		"app disable":   {enabledUnitWords},
		"key show":      {apps, secrets},
		"key rotate":    {apps},
		"key retire":    {apps},
		"secret rotate": {provisionedWords(s), nil}, // and a file
		"secret remove": {provisionedWords(s)},
		"completion":    {fixed("bash", "zsh", "fish")},

		"container enable": {fixed("podman", "docker", "containerd")}, "container disable": {fixed("podman", "docker", "containerd")},
		"disk check": {disks}, "disk prepare": {disks}, "disk rotate": {disks}, "disk remove": {disks},
	}
}

// flagOffers are the words of flags, by name. Flags of a command come before those of all.
func flagOffers(s *sockets) map[string]offer {
	return map[string]offer{
		"app":                 appWords(s),
		"name":                secretWords(s),
		"credential":          provisionedWords(s),
		"export format":       fixed("files", "gotpm", "cmw-json", "cmw-cbor"),
		"verify format":       fixed(formatText, formatJSON, formatJUnit),
		"policy check format": fixed(formatText, formatJSON, formatJUnit),
		"token-profile":       fixed(slices.Sorted(maps.Keys(profiles))...),
		"log format":          fixed("text", "cel-json", "cel-tlv"),
		"product":             fixed("milan", "genoa", "turin"),
		"machine":             fixed(machineNames()...),
		"policy launch cpu":   fixed(launch.CPUs()...),
		"policy launch vmm":   fixed(vmms()...),
	}
}

// describeFlags gives each flag of c and of the commands below it the words that the help says of
// it, for shells to show.
func describeFlags(c *cobra.Command) {
	c.InitDefaultHelpFlag()
	c.Flags().Lookup("help").Usage = "explain this command"
	if c.InitDefaultVersionFlag(); c.Version != "" {
		c.Flags().Lookup("version").Usage = "print the version"
	}
	for _, m := range flagLine.FindAllStringSubmatch(c.Long, -1) {
		for _, set := range []*pflag.FlagSet{c.Flags(), c.PersistentFlags()} {
			if f := set.Lookup(m[1]); f != nil && f.Usage == "" {
				f.Usage = firstWords(m[2])
			}
		}
	}
	for _, below := range c.Commands() {
		describeFlags(below)
	}
}

// flagLine is what a help text says of a flag: two spaces or more before what it does, on its line
// or after its name alone. More lines are indented as far.
var flagLine = regexp.MustCompile(`(?m)^  (?:-\w, )?--([a-z-]+)(?: [A-Z@][^ \n]*(?: [^ \n]+)*?)?(?:  +|\n {8,})(\S.*(?:\n {8,}\S.*)*)`)

// besides is what stands in parentheses.
var besides = regexp.MustCompile(` ?\([^()]*\)`)

// firstWords returns the beginning of what is said of a flag: its first clause, in one line.
func firstWords(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	s = besides.ReplaceAllString(s, "")
	for _, end := range []string{"; ", ": ", ". "} {
		s, _, _ = strings.Cut(s, end)
	}
	return strings.TrimRight(s, ".,:;")
}

// offerWords tells shells which words fit where. A command that takes no argument offers
// no names of files.
func offerWords(c *cobra.Command, arguments map[string][]offer, flags map[string]offer) {
	path := strings.TrimPrefix(c.CommandPath(), "agentctl ")
	words := arguments[path]
	switch {
	case words != nil:
		c.ValidArgsFunction = func(c *cobra.Command, before []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(before) >= len(words) {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			if words[len(before)] == nil {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return plainWords(words[len(before)](c, before), typed), cobra.ShellCompDirectiveNoFileComp
		}
	case c.Args != nil && c.Args(c, []string{"x"}) != nil:
		c.ValidArgsFunction = cobra.NoFileCompletions
	}
	for name, words := range flags {
		at := strings.LastIndex(name, " ")
		flag := name[at+1:]
		if at >= 0 && name[:at] != path || c.LocalFlags().Lookup(flag) == nil {
			continue
		}
		// It fails only for a flag that is missing or has words already.
		_ = c.RegisterFlagCompletionFunc(flag, func(c *cobra.Command, before []string, typed string) ([]string, cobra.ShellCompDirective) {
			return plainWords(words(c, before), typed), cobra.ShellCompDirectiveNoFileComp
		})
	}
	for _, below := range c.Commands() {
		offerWords(below, arguments, flags)
	}
}

// offerable is what a shell may be offered: no word that a shell would expand.
var offerable = regexp.MustCompile(`^[A-Za-z0-9._:@%+=,/-]+$`)

// plainWords returns the words that begin with what was typed, sorted. Names of secrets
// and files can have any bytes, and shells expand some: those are not offered.
func plainWords(words []string, typed string) []string {
	var out []string
	for _, w := range words {
		if offerable.MatchString(w) && strings.HasPrefix(w, typed) {
			out = append(out, w)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func fixed(words ...string) offer {
	return func(*cobra.Command, []string) []string { return words }
}

// vmms are the programs of hosts that policy launch knows.
func vmms() (out []string) {
	for _, v := range launch.VMMs() {
		out = append(out, string(v))
	}
	return out
}

// appWords offers the declared applications: those that the agent knows, and for callers
// that may not ask it, those in the folders. A key TAB does not start a stopped agent.
func appWords(s *sockets) offer {
	return func(c *cobra.Command, _ []string) []string {
		ctx, cancel := context.WithTimeout(background(c), offerTime)
		defer cancel()
		var out []string
		if s.running() {
			if all, err := s.adminSocket().Apps(ctx); err == nil {
				for _, a := range all {
					out = append(out, a.Name)
				}
				return out
			}
		}
		declared, _ := declarations(rootFolder(c))
		for name := range declared {
			out = append(out, name)
		}
		return out
	}
}

// secretWords offers the names of secrets: of the application that was named, or of all.
// Only root may list them.
func secretWords(s *sockets) offer {
	return func(c *cobra.Command, before []string) []string {
		ctx, cancel := context.WithTimeout(background(c), offerTime)
		defer cancel()
		if !s.running() {
			return nil
		}
		store, err := s.adminSocket().Store(ctx)
		if err != nil {
			return nil
		}
		var out []string
		for _, b := range store.Blobs {
			if b.Name != "" && (len(before) == 0 || before[0] == b.App) {
				out = append(out, b.Name)
			}
		}
		return out
	}
}

// provisionedWords offers the names of provisioned secrets: of the application that was named, or
// of all.
func provisionedWords(s *sockets) offer {
	return func(c *cobra.Command, _ []string) []string {
		ctx, cancel := context.WithTimeout(background(c), offerTime)
		defer cancel()
		app := ""
		if f := c.Flags().Lookup("app"); f != nil && c.Name() != "enable" {
			app = f.Value.String()
		}
		if !s.running() {
			return nil
		}
		all, err := s.adminSocket().Secrets(ctx, app)
		if err != nil {
			return nil
		}
		var out []string
		for _, x := range all.Secrets {
			out = append(out, x.Name)
		}
		return out
	}
}

// unitWords offers the services that systemd knows files of.
func unitWords(c *cobra.Command, _ []string) []string { return unitfile.Services(rootFolder(c)) }

// declaredUnitWords offers the services that declarations name.
func declaredUnitWords(c *cobra.Command, _ []string) []string {
	declared, _ := declarations(rootFolder(c))
	var out []string
	for _, d := range declared {
		out = append(out, d.Unit)
	}
	return out
}

// enabledUnitWords offers the services with a drop-in of "agentctl app enable".
func enabledUnitWords(c *cobra.Command, _ []string) []string {
	files, _ := filepath.Glob(filepath.Join(rootFolder(c), unitfile.DropInPath("*")))
	var out []string
	for _, f := range files {
		out = append(out, strings.TrimSuffix(filepath.Base(filepath.Dir(f)), ".d"))
	}
	return out
}

// rootFolder returns the folder of the machine that a command works on.
func rootFolder(c *cobra.Command) string {
	if f := c.Flags().Lookup("root"); f != nil && f.Value.String() != "" {
		return f.Value.String()
	}
	return string(os.PathSeparator)
}

// background returns the context of the command, which completion may not have.
func background(c *cobra.Command) context.Context {
	if ctx := c.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}

// diskWords offers the names of enrolled volumes, which only root may list.
func diskWords(s *sockets) offer {
	return func(c *cobra.Command, _ []string) (out []string) {
		ctx, cancel := context.WithTimeout(background(c), offerTime)
		defer cancel()
		if !s.running() {
			return nil
		}
		if all, err := s.adminSocket().Disks(ctx); err == nil {
			for _, d := range all.Disks {
				out = append(out, d.Name)
			}
		}
		return out
	}
}
