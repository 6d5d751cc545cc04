// SPDX-License-Identifier: Apache-2.0

// Agentd-verifier verifies evidence for relying parties over HTTP, with its state in PostgreSQL or
// SQLite: docs/verifier-service.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/flags"
	"github.com/cvm-agentd/agentd/internal/journal"
	"github.com/cvm-agentd/agentd/internal/stricttoml"
	"github.com/cvm-agentd/agentd/internal/version"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/service/internal/settings"
	"github.com/cvm-agentd/agentd/service/internal/store"
	"github.com/cvm-agentd/agentd/service/internal/worker"
)

const usage = `Usage: agentd-verifier COMMAND [--config FILE]

Verify evidence for relying parties over HTTP.

  serve                        serve until SIGTERM; SIGHUP reads the configuration again
  check                        check the configuration, and whether the database answers
  check-records [SEQUENCE:HASH...]
                               read the whole chain of records, and compare it with heads
                               that were kept elsewhere
  version                      print the version

  --config FILE                configuration (default /etc/agentd-verifier/config.toml;
                               docs/verifier-service.md)

Exit codes: 0 done, 1 failed, 2 a usage error, or records that are not what they were.

Examples:
  agentd-verifier serve
  agentd-verifier check-records --config verifier.toml 1200:9f86d081884c7d65...
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// errUsage is a mistake in the command line.
var errUsage = errors.New("usage")

func run(args []string, out, errs io.Writer) int {
	err := command(args, out)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(errs, "%v\n\n%s", err, usage)
		return 2
	}
	fmt.Fprintf(errs, "agentd-verifier: %v\n", err)
	if errors.As(err, new(changedError)) {
		return 2
	}
	return 1
}

// changedError says that the chain of records is not what it was.
type changedError struct{ error }

func command(args []string, out io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: name a command", errUsage)
	}
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.SetOutput(io.Discard)
	config := f.String("config", "/etc/agentd-verifier/config.toml", "")
	flags.AllOnce(f)
	err := f.Parse(args[1:])
	if errors.Is(err, flag.ErrHelp) || args[0] == "help" || args[0] == "--help" {
		_, err := io.WriteString(out, usage)
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if args[0] != "check-records" && f.NArg() > 0 {
		return fmt.Errorf("%w: %q is not expected", errUsage, f.Arg(0))
	}
	load := func() (*settings.Settings, error) { return read(*config) }
	switch args[0] {
	case "serve":
		return serve(load)
	case "check":
		return check(load, out)
	case "check-records":
		return checkRecords(load, f.Args(), out)
	case "version", "--version":
		_, err := fmt.Fprintln(out, "agentd-verifier", version.Version)
		return err
	}
	return fmt.Errorf("%w: no command %q", errUsage, args[0])
}

func read(path string) (*settings.Settings, error) {
	text, err := durable.ReadTrusted(path, settings.MaxText)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	s, err := settings.Parse(text)
	if x, ok := errors.AsType[*stricttoml.Error](err); ok && err == error(x) {
		return nil, errors.New(x.In(path))
	}
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return s, nil
}

func serve(load func() (*settings.Settings, error)) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	reload := make(chan struct{})
	go func() {
		for range hup {
			select {
			case reload <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return worker.Run(ctx, slog.New(journal.NewHandler(slog.LevelInfo)), load, reload)
}

// opened opens the database of the configuration.
func opened(load func() (*settings.Settings, error)) (*store.Store, error) {
	s, err := load()
	if err != nil {
		return nil, err
	}
	return worker.OpenStore(s)
}

func check(load func() (*settings.Settings, error), out io.Writer) error {
	s, err := load()
	if err != nil {
		return err
	}
	if err := worker.CheckFiles(s); err != nil {
		return err
	}
	st, err := worker.OpenStore(s)
	if err != nil {
		return err
	}
	defer st.Close()
	if err := st.Ready(context.Background()); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "ok")
	return err
}

func checkRecords(load func() (*settings.Settings, error), args []string, out io.Writer) error {
	var kept []store.Head
	for _, a := range args {
		n, hash, ok := strings.Cut(a, ":")
		sequence, err := strconv.ParseUint(n, 10, 53)
		if !ok || err != nil || len(hash) != 64 {
			return fmt.Errorf("%w: %q: want SEQUENCE:HASH, as the log of a worker and /admin/v1/head have them", errUsage, a)
		}
		kept = append(kept, store.Head{Sequence: sequence, Hash: strings.ToLower(hash)})
	}
	st, err := opened(load)
	if err != nil {
		return err
	}
	defer st.Close()
	if err := st.Ready(context.Background()); err != nil {
		return err
	}
	c, err := st.Check(context.Background(), kept...)
	if errors.Is(err, relying.ErrUnavailable) {
		return err
	}
	if err != nil {
		return changedError{err}
	}
	_, err = fmt.Fprintf(out, "the chain is whole\nrecords: %d\nhash: %s\ndeleted appraisals: %d\nkept heads in it: %d\n", c.Head.Sequence, c.Head.Hash, c.Absent, len(c.Compare))
	return err
}
