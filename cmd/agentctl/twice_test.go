// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestFlagsGivenTwice: each flag of each command is refused if it is given twice, and the
// error names the flag and both values. Lists may be given often.
func TestFlagsGivenTwice(t *testing.T) {
	values := map[string][2]string{
		"bool": {"true", "false"}, "string": {"one", "two"}, "uint64": {"1", "2"}, "uint32": {"1", "2"}, "uint": {"1", "2"}, "int": {"1", "2"},
		"duration": {"1s", "2s"}, "stringArray": {"one", "two"},
	}
	commands, flags, lists := 0, 0, 0
	var walk func(c *cobra.Command, words []string)
	walk = func(c *cobra.Command, words []string) {
		commands++
		check := func(f *pflag.Flag) {
			v, ok := values[f.Value.Type()]
			if !ok {
				t.Errorf("%v --%s: the test has no value of type %s", words, f.Name, f.Value.Type())
				return
			}
			args := append(words[:len(words):len(words)], "--"+f.Name+"="+v[0], "--"+f.Name+"="+v[1])
			code, stdout, stderr := agentctl(t, args...)
			want := fmt.Sprintf(`%q for "--%s" flag: it was given before, as %q: give it once`, v[1], f.Name, v[0])
			if _, list := f.Value.(pflag.SliceValue); list {
				if lists++; strings.Contains(stderr, "given before") {
					t.Errorf("%v: a list may be given often: %s", args, stderr)
				}
				return
			}
			if flags++; code != exitMisuse || stdout != "" || !strings.Contains(strings.ReplaceAll(stderr, `\"`, `"`), want) { // as text or as JSON
				t.Errorf("%v: exit code %d\n%s%swant %s", args, code, stdout, stderr, want)
			}
		}
		c.LocalFlags().VisitAll(check)
		c.InheritedFlags().VisitAll(check)
		for _, below := range c.Commands() {
			walk(below, append(words[:len(words):len(words)], below.Name()))
		}
	}
	walk(newRoot(&terminal{}, &sockets{}), nil)
	if commands < 40 || flags < 200 || lists < 5 {
		t.Errorf("only %d commands, %d flags and %d lists were tried", commands, flags, lists)
	}
}
