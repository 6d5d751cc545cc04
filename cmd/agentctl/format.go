// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Formats of an appraisal.
const (
	formatText  = "text"
	formatJSON  = "json"
	formatJUnit = "junit"
)

// formatFlags say how appraisals are printed.
type formatFlags struct {
	format         string // empty: text, or JSON with --json
	verbose, quiet bool
}

func (f *formatFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.format, "format", "", "")
	flags.BoolVar(&f.verbose, "verbose", false, "")
	flags.BoolVar(&f.quiet, "quiet", false, "")
}

// check refuses flags that contradict each other. Afterwards format is one of the formats,
// and errors are JSON if it is JSON.
func (f *formatFlags) check(t *terminal) error {
	switch f.format {
	case "", formatText, formatJSON, formatJUnit:
	default:
		return fmt.Errorf("--format %q: want text, json or junit", f.format)
	}
	switch {
	case t.json && f.format != "" && f.format != formatJSON:
		return fmt.Errorf("--json is --format json, and --format %s is another: give one of the two", f.format)
	case f.quiet && (f.verbose || t.json || f.format != ""):
		return errors.New("--quiet prints nothing: leave it out, or --verbose, --json and --format")
	case f.verbose && f.format == formatJUnit:
		return errors.New("--verbose is for text: --format junit has every check")
	case f.format == formatJSON:
		t.json = true
	case t.json:
		f.format = formatJSON
	case f.format == "":
		f.format = formatText
	}
	return nil
}

// wantsJSON reports whether a command line asks for JSON, as far as that can be said of one
// that could not be read.
func wantsJSON(args []string) bool {
	line := " " + strings.Join(args, " ") + " "
	return strings.Contains(line, " --json ") || strings.Contains(line, " --format=json ") || strings.Contains(line, " --format json ")
}
