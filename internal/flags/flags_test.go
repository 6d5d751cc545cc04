// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"flag"
	"io"
	"strings"
	"testing"
)

// TestAllOnce: the second value of a flag is an error that names flag and both values, and
// the first value stays. A flag without a value can be given once too, a list often.
func TestAllOnce(t *testing.T) {
	for _, c := range []struct {
		args string
		want string // of the error; empty: accepted
	}{
		{"-name a -quick -item x -item y -item x", ""},
		{"-name a -name b", `invalid value "b" for flag -name: it was given before, as "a": give it once`},
		{"-name=a --name=a", `invalid value "a" for flag -name: it was given before, as "a"`},
		{"-quick -quick", `flag quick: it was given before, as "true"`},
		{"-quick=false -quick", `flag quick: it was given before, as "false"`},
		{"-count x", `invalid value "x"`},
		{"-unknown", "not defined"},
	} {
		f := flag.NewFlagSet("", flag.ContinueOnError)
		f.SetOutput(io.Discard)
		name, quick, count, items := f.String("name", "z", ""), f.Bool("quick", false, ""), f.Int("count", 1, ""), 0
		f.Func("item", "", func(string) error { items++; return nil })
		AllOnce(f, "item")
		AllOnce(f, "item") // changes nothing
		err := f.Parse(strings.Fields(c.args))
		if c.want == "" {
			if err != nil || *name != "a" || !*quick || *count != 1 || items != 3 {
				t.Errorf("%s: %v; got %q, %v, %d, %d", c.args, err, *name, *quick, *count, items)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || *name == "b" {
			t.Errorf("%s: error %v, name %q, want %q", c.args, err, *name, c.want)
		}
	}
}
