// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// unread is a standard input that may not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("standard input was read")
	return 0, nil
}

// everyCommand calls visit for each command.
func everyCommand(visit func(*cobra.Command)) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		visit(c)
		for _, below := range c.Commands() {
			walk(below)
		}
	}
	walk(newRoot(&terminal{}, &sockets{}))
}

// TestStandardInputIsReadOnce: of all that a command can read from standard input, two parts that ask
// for it are refused by their names, before any is read. So is one beside a secret that is read from
// there because no file is named.
func TestStandardInputIsReadOnce(t *testing.T) {
	tried := 0
	everyCommand(func(c *cobra.Command) {
		path := strings.Fields(c.CommandPath())[1:]
		var given []string // each of them reads standard input
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Value.Type() == "bool" {
				return
			}
			if slices.Contains(readFlags, f.Name) && !slices.Contains(unreadFlags, c.CommandPath()+" --"+f.Name) {
				given = append(given, "--"+f.Name+"=-")
			}
			if slices.Contains(valueFlags, f.Name) {
				given = append(given, "--"+f.Name+"=@-")
			}
		})
		least, ok := 0, c.Args == nil
		for ; !ok && least < 4; least++ {
			if ok = c.Args(c, slices.Repeat([]string{"x"}, least)) == nil; ok {
				break
			}
		}
		for i, a := range given {
			for _, b := range given[i:] {
				if _, list := c.Flags().Lookup(flagIn(a)).Value.(pflag.SliceValue); a == b && !list {
					continue
				}
				tried++
				refusedShared(t, slices.Concat(path, []string{a, b}, slices.Repeat([]string{"x"}, least)), a, b)
			}
			if c.CommandPath() == "agentctl secret send" {
				tried++
				refusedShared(t, append(path[:len(path):len(path)], a, "x"), a, "the secret, without FILE after NAME")
			}
			if least > 0 && a != "--digest=@-" { // which is in the place of the argument
				tried++
				refusedShared(t, slices.Concat(path, []string{a}, slices.Repeat([]string{"-"}, least)), a, "argument 1")
			}
		}
	})
	if tried < 400 {
		t.Errorf("only %d pairs were tried", tried)
	}
}

// flagIn returns the name in "--name=value".
func flagIn(arg string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
	return name
}

// refusedShared runs a command of which two parts would read standard input.
func refusedShared(t *testing.T, args []string, a, b string) {
	t.Helper()
	var stdout, stderr strings.Builder
	code := run(t.Context(), args, &terminal{in: unread{t}, out: &stdout, err: &stderr})
	said := strings.ReplaceAll(stderr.String(), " and ", "")
	for _, part := range []string{a, b} {
		if part = strings.Replace(part, "=", " ", 1); !strings.Contains(said, part) {
			t.Errorf("%v does not name %q", args, part)
		} else {
			said = strings.Replace(said, part, "", 1)
		}
	}
	if code != exitMisuse || stdout.Len() > 0 || !strings.Contains(said, "which can be read only once") {
		t.Errorf("%v: exit code %d\n%s%s", args, code, stdout.String(), stderr.String())
	}
}

// TestReadsAreKnown: each flag whose value names a file, or may, is known to be read, or is one of
// these.
func TestReadsAreKnown(t *testing.T) {
	// What is written, is a folder, or is opened otherwise: "-" is not standard input there.
	others := []string{
		"access-log", "config", "declaration", "delivery", "firmware", "html", "in", "initrd", "keep", "kernel", "make-key", "note", "out",
		"recipient", "save-log", "signing-key", "store-key", "svsm", "token",
	}
	wants := regexp.MustCompile(`(?m)^  --([a-z-]+) (FILE|VALUE|EVIDENCE|TICKET|KEY|AGE|DIGEST|M)\b`)
	found := map[string]bool{}
	everyCommand(func(c *cobra.Command) {
		for _, m := range wants.FindAllStringSubmatch(c.Long, -1) {
			found[m[1]] = true
			if !slices.Contains(slices.Concat(readFlags, valueFlags, others), m[1]) {
				t.Errorf("%s --%s %s: is \"-\" standard input there? A list of stdinonce.go or of this test should say", c.CommandPath(), m[1], m[2])
			}
		}
	})
	for _, name := range slices.Concat(readFlags, valueFlags) {
		if !found[name] {
			t.Errorf("no command has --%s", name)
		}
	}
}

// TestStandardInputOnce: the second reader of standard input is refused, whatever it reads.
func TestStandardInputOnce(t *testing.T) {
	read := map[string]func(*terminal) error{
		"a file":   func(x *terminal) error { _, err := x.readInput("-", 8); return err },
		"a list":   func(x *terminal) error { _, err := x.openIMAList("-"); return err },
		"a secret": func(x *terminal) error { _, err := x.readSecret(t.Context(), "-", 8); return err },
	}
	for name, first := range read {
		for second, again := range read {
			x := &terminal{in: strings.NewReader("secret")}
			if err := first(x); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := again(x); err == nil || !strings.Contains(err.Error(), "read only once") {
				t.Errorf("%s after %s: %v", second, name, err)
			}
		}
	}
}
