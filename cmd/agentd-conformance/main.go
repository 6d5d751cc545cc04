// SPDX-License-Identifier: Apache-2.0

// Agentd-conformance gives evidence of known outcome to a verifier and reports each disagreement.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cvm-agentd/agentd/internal/conformance"
	"github.com/cvm-agentd/agentd/internal/corpus"
	"github.com/cvm-agentd/agentd/internal/flags"
	"github.com/cvm-agentd/agentd/internal/version"
)

const usage = `Usage: agentd-conformance --verifier COMMAND [flags]
       agentd-conformance --list [--run PATTERN] [--feature NAME]
       agentd-conformance --export DIR [--run PATTERN] [--feature NAME]

Give evidence of known outcome to a verifier, and report each disagreement. The cases are
in this program. docs/conformance.md is the contract with the command.

  --verifier COMMAND  program and arguments, separated by spaces. It gets the path of a
                      folder as its last argument, prints one JSON object such as
                      {"verdict": "refuse"}, and ends with exit code 0
  --run PATTERN       cases whose name matches, such as "quote-*"; may be repeated
  --feature NAME      cases that need this feature; may be repeated
  --without NAMES     features that the verifier lacks, separated by commas: their cases
                      are not run, and listed as not supported
  --timeout TIME      for each command, 100ms to 10m (default 10s)
  --jobs NUMBER       commands at a time, 1 to 64 (default: one for each processor)
  --format FORMAT     of the report: text (default), json or junit
  --list              print the cases: name, what is expected, features, what they are about
  --export DIR        write the cases into a new folder, as commands get them, each with
                      what is expected beside it
  --version           print the version and end

Features:
%s
Exit codes: 0 every case passed or needs what --without names, 1 misuse, 2 a case failed,
3 the verifier lacks a feature that --without does not name.

Example:
  agentd-conformance --without ima,gcp --verifier "./my-verifier --json"
`

// options are what the command line says.
type options struct {
	conformance.Options
	format, export string
	list, version  bool
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(stdout, usage, features())
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "agentd-conformance: %v\nhint: run `agentd-conformance --help`\n", err)
		return 1
	case o.version:
		fmt.Fprintln(stdout, "agentd-conformance", version.Version)
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	code, err := do(ctx, o, stdout)
	if err != nil {
		fmt.Fprintf(stderr, "agentd-conformance: %v\n", err)
		return 1
	}
	return code
}

// features returns the table of features for the help.
func features() string {
	var b strings.Builder
	for _, f := range corpus.Features {
		fmt.Fprintf(&b, "  %-20s %s\n", f.Name, f.About)
	}
	return b.String()
}

func parse(args []string) (*options, error) {
	o := new(options)
	f := flag.NewFlagSet("agentd-conformance", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	verifier, without := f.String("verifier", "", ""), f.String("without", "", "")
	f.Func("run", "", func(s string) error { o.Names = append(o.Names, s); return nil })
	f.Func("feature", "", func(s string) error { o.Features = append(o.Features, s); return nil })
	f.DurationVar(&o.Timeout, "timeout", 10*time.Second, "")
	f.IntVar(&o.Jobs, "jobs", min(runtime.NumCPU(), 64), "")
	f.StringVar(&o.format, "format", "text", "")
	f.StringVar(&o.export, "export", "", "")
	f.BoolVar(&o.list, "list", false, "")
	f.BoolVar(&o.version, "version", false, "")
	flags.AllOnce(f, "run", "feature")
	if err := f.Parse(args); err != nil || o.version {
		return o, err
	}
	o.Verifier = strings.Fields(*verifier)
	if *without != "" {
		o.Without = strings.Split(*without, ",")
	}
	return o, o.check(f)
}

// check checks that the flags fit together.
func (o *options) check(f *flag.FlagSet) error {
	ways := 0
	for _, given := range []bool{len(o.Verifier) > 0, o.list, o.export != ""} {
		if given {
			ways++
		}
	}
	for _, name := range slices.Concat(o.Features, o.Without) {
		if !corpus.IsFeature(name) {
			return fmt.Errorf("%q is not a feature", name)
		}
	}
	switch {
	case f.NArg() > 0:
		return fmt.Errorf("unexpected argument %q: put the command and its arguments in quotation marks after --verifier", f.Arg(0))
	case ways != 1:
		return errors.New("give one of --verifier COMMAND, --list and --export DIR")
	case o.Timeout < 100*time.Millisecond || o.Timeout > 10*time.Minute:
		return fmt.Errorf("--timeout %v: want 100ms to 10m", o.Timeout)
	case o.Jobs < 1 || o.Jobs > 64:
		return fmt.Errorf("--jobs %d: want 1 to 64", o.Jobs)
	case !slices.Contains([]string{"text", "json", "junit"}, o.format):
		return fmt.Errorf("--format %q: want text, json or junit", o.format)
	}
	return nil
}

// do does what the command line says, and returns the exit code.
func do(ctx context.Context, o *options, stdout io.Writer) (int, error) {
	if len(o.Verifier) == 0 {
		all, _, err := conformance.Corpus()
		if err != nil {
			return 0, err
		}
		cases, err := conformance.Select(all, &o.Options)
		if err != nil {
			return 0, err
		}
		if o.export != "" {
			return 0, conformance.Export(all, cases, o.export)
		}
		return 0, conformance.List(stdout, cases)
	}
	r, err := conformance.Run(ctx, &o.Options)
	if err != nil {
		return 0, err
	}
	switch o.format {
	case "json":
		err = r.WriteJSON(stdout)
	case "junit":
		err = r.WriteJUnit(stdout)
	default:
		err = r.WriteText(stdout)
	}
	return r.ExitCode(), err
}
