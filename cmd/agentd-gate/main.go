// SPDX-License-Identifier: Apache-2.0

// Agentd-gate holds up the start of each program of an application until the agent knows it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/cvm-agentd/agentd/internal/flags"
	"github.com/cvm-agentd/agentd/internal/gate"
	"github.com/cvm-agentd/agentd/internal/gatewire"
	"github.com/cvm-agentd/agentd/internal/journal"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/version"
)

const usage = `Usage: agentd-gate [--socket PATH] [--log-level LEVEL]

Holds up the start of each program of the applications that ask for it (gate = true in
their declaration) until the agent knows its digest. It is meant to be started by systemd,
as root in agentd-gate.service: docs/gate.md.

  --socket PATH      of the agent (default /run/agentd/gate.sock)
  --log-level LEVEL  debug, info, warn or error (default info)
  --version          print the version and end

If it ends, programs start without it, and the log of the agent says so.

Example:
  systemctl enable --now agentd-gate.service
`

// options are what the command line says.
type options struct {
	socket  string
	level   slog.Level
	version bool
}

func main() {
	o, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
		return
	case err != nil:
		fmt.Fprintf(os.Stderr, "agentd-gate: %v\nhint: run `agentd-gate --help`\n", err)
		os.Exit(1)
	case o.version:
		fmt.Println("agentd-gate", version.Version)
		return
	}
	if err := run(o); err != nil {
		slog.New(journal.NewHandler(o.level)).Error("ended", "error", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("agentd-gate", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.socket, "socket", gatewire.Socket, "")
	f.BoolVar(&o.version, "version", false, "")
	f.TextVar(&o.level, "log-level", slog.LevelInfo, "")
	flags.AllOnce(f)
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	return o, nil
}

// feed is how often systemd's watchdog is fed, at most.
const feed = 5 * time.Second

func run(o options) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	log := slog.New(journal.WithoutRepeats(journal.NewHandler(o.level)))
	tell := func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			log.Warn("systemd could not be told", "state", state, "error", err)
		}
	}
	var fed time.Time
	var ready sync.Once
	return gate.Run(ctx, gate.Config{
		Log: log,
		Connect: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			ctx, cancel := context.WithTimeout(ctx, feed)
			defer cancel()
			return d.DialContext(ctx, "unix", o.socket)
		},
		Alive: func() {
			if now := time.Now(); now.Sub(fed) >= feed {
				fed = now
				tell(daemon.SdNotifyWatchdog)
			}
		},
		Guarding: func(apps int) {
			ready.Do(func() { tell(daemon.SdNotifyReady) })
			tell("STATUS=" + text.Count(apps, "application") + " guarded")
		},
	})
}
