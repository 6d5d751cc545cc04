// SPDX-License-Identifier: Apache-2.0

// Agentd is the attestation agent of a confidential VM: it measures applications,
// hands out evidence, and vouches for both with TPM and SEV-SNP firmware.
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
	"strings"
	"syscall"
	"time"

	"github.com/cvm-agentd/agentd/agent"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/flags"
	"github.com/cvm-agentd/agentd/internal/journal"
	"github.com/cvm-agentd/agentd/internal/platform/choose"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/internal/version"
)

const usage = `Usage: agentd [--config FILE] [--check] [--log-level LEVEL]

The attestation agent. It is meant to be started by systemd.

  --config FILE      configuration (default /etc/agentd/config.toml, which may be missing:
                     then the defaults apply; docs/configuration.md)
  --check            check the configuration and end
  --log-level LEVEL  debug, info, warn or error (default info)
  --version          print the version and end

SIGHUP reads declarations and certificates again; SIGTERM ends the agent after it
has answered what reached it.

Exit codes: 0 ended as asked, 1 failed, 75 another agent is running, 78 a configuration
that cannot be used.

Examples:
  agentd --check
  agentd --config ./config.toml --log-level debug
`

// Exit codes.
const (
	exitFailed  = 1
	exitLocked  = 75 // EX_TEMPFAIL of sysexits.h: starting again later may help
	exitRefused = 78 // EX_CONFIG of sysexits.h: starting again will not help
)

// options are what the command line says.
type options struct {
	config         string
	named          bool // the configuration, which then has to exist
	level          slog.Level
	check, version bool
}

// errNoConfig is returned if the configuration of --config is missing. The defaults would
// measure into another PCR, or have other sockets.
var errNoConfig = errors.New("there is no such file")

func main() {
	o, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
		return
	case err != nil:
		fmt.Fprintf(os.Stderr, "agentd: %v\nhint: run `agentd --help`\n", err)
		os.Exit(exitFailed)
	case o.version:
		fmt.Println("agentd", version.Version)
		return
	}
	if err := run(o); err != nil {
		if journal.Leads() {
			slog.New(journal.NewHandler(o.level)).Error("ended", "error", err)
		} else {
			fmt.Fprintln(os.Stderr, "agentd:", err)
		}
		if agent.Locked(err) {
			os.Exit(exitLocked)
		}
		if agent.Refused(err) || errors.Is(err, errNoConfig) {
			os.Exit(exitRefused)
		}
		os.Exit(exitFailed)
	}
}

// flagSet returns the flags, which set o.
func flagSet(o *options) *flag.FlagSet {
	f := flag.NewFlagSet("agentd", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.config, "config", config.File, "")
	f.BoolVar(&o.check, "check", false, "")
	f.BoolVar(&o.version, "version", false, "")
	f.TextVar(&o.level, "log-level", slog.LevelInfo, "")
	flags.AllOnce(f)
	return f
}

func parse(args []string) (o options, err error) {
	f := flagSet(&o)
	if err := f.Parse(args); err != nil {
		return o, err
	}
	f.Visit(func(given *flag.Flag) { o.named = o.named || given.Name == "config" })
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	return o, nil
}

func run(o options) error {
	load := func() (config.Config, []byte, error) { return config.Load(o.config, config.Default()) }
	c, text, err := load()
	if err != nil {
		return err
	}
	if text == nil && o.named {
		return fmt.Errorf("read configuration %s: %w", o.config, errNoConfig)
	}
	if o.check {
		if err := agent.Check(c, c.AgentUID()); err != nil {
			return err
		}
	}
	switch {
	case text == nil && o.check:
		fmt.Printf("%s does not exist: the defaults apply\n", o.config)
		return nil
	case o.check:
		fmt.Printf("%s: ok\n", o.config)
		return nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)

	log := slog.New(journal.WithoutRepeats(journal.NewHandler(o.level)))
	return agent.Run(ctx, agent.Options{
		Config: c, ConfigText: text, Reread: load,
		Machine: machine(c, log),
		Version: version.Version,
		Log:     log,
	}, reload)
}

// machine returns the devices of this machine.
func machine(c config.Config, log *slog.Logger) agent.Machine {
	return agent.Machine{
		BootID:          bootID(),
		LogEndsWithBoot: (*durable.Dir).InMemory,
		OpenTPM: func(ctx context.Context) (*tpm.Device, error) {
			return tpm.Open(ctx, c.TPM.Device, tpm.Options{CommandTimeout: time.Duration(c.TPM.Timeout), Log: log})
		},
		OpenPlatform: devices(c).Open(c.Platform, snp.Options{
			VMPL:    c.Report.VMPL,
			Spacing: time.Duration(c.Report.Spacing),
			Timeout: time.Duration(c.Report.Timeout),
		}),
	}
}

// devices returns the devices that reports can come from.
func devices(c config.Config) *choose.Devices {
	d := choose.Linux(c.Report.Device, c.Report.ConfigFS)
	d.OwnAK = c.TPM.AK.Own()
	d.Auths = func() (tpmkeys.Auths, error) {
		return tpmkeys.ReadAuths(c.TPM.OwnerAuthFile, c.TPM.EndorsementAuthFile)
	}
	return d
}

// bootID returns the name of the kernel's boot, empty if the kernel does not show it.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
