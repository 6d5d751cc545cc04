// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// texts are the flags whose values go to the agent as text. File names may be any bytes.
var texts = []string{"app", "audience", "label", "name"}

// refuseEmpty refuses a flag that was given without a value, and an empty argument. In a
// script that is a variable that was never set. To ignore the flag would drop what it asks
// for: a check of verify, or the key that attest must vouch for.
func refuseEmpty(c *cobra.Command, args []string) error {
	const hint = "an empty value is most often a shell variable that is not set; "
	var name string
	c.Flags().Visit(func(f *pflag.Flag) {
		given := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok { // may be repeated
			given = list.GetSlice()
		}
		if name == "" && slices.Contains(given, "") {
			name = f.Name
		}
	})
	if name != "" {
		return misuse(fmt.Errorf("--%s is empty: give a value, or leave the flag out", name)).withHint(hint + helpHint(c))
	}
	for _, name := range texts {
		if f := c.Flags().Lookup(name); f != nil && !utf8.ValidString(f.Value.String()) {
			return misuse(fmt.Errorf("--%s %q is not UTF-8 text", name, f.Value)).withHint(helpHint(c))
		}
	}
	// A shell that completes passes the word to complete, which is empty at first.
	if i := slices.Index(args, ""); i >= 0 && c.Name() != cobra.ShellCompRequestCmd {
		return misuse(fmt.Errorf("argument %d is empty", i+1)).withHint(hint + helpHint(c))
	}
	return nil
}
