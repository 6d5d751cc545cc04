// SPDX-License-Identifier: Apache-2.0

// Agentd-sim is the attestation agent on a machine in software: swtpm for a TPM, and
// a software SEV-SNP platform with a test root of its own. It is for people who
// develop applications without the hardware, and for tests. It runs without root in a
// folder, protects nothing, and its evidence convinces only verifiers that name its root.
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
	"path/filepath"
	"syscall"

	"github.com/cvm-agentd/agentd/agent"
	"github.com/cvm-agentd/agentd/internal/flags"
	"github.com/cvm-agentd/agentd/internal/journal"
	"github.com/cvm-agentd/agentd/internal/platform/soft/paravisor"
	"github.com/cvm-agentd/agentd/internal/version"
)

const usage = `Usage: agentd-sim --dir DIR [flags]

The attestation agent on a simulated machine. It needs swtpm and no root. Nothing
that it says vouches for any hardware.

  --dir DIR              folder of the machine, created if missing. Only you may have
                         access. It is empty or from an earlier run. Its sockets are in
                         it, so its path has at most 95 bytes
  --tpm ADDRESS          a TPM to use instead of a swtpm of its own, as "unix:/path"
  --log-in-memory        with --tpm: who resets that TPM also empties DIR/log, as a boot
                         does with a folder in memory
  --machine NAME         what to simulate: qemu (default), a plain guest; azure, a guest
                         of a paravisor, which runs the vTPM and asks for reports; svsm,
                         a guest above an SVSM, which runs its vTPM; gcp, one of Google
                         Cloud, whose vTPM has a certified attestation key; aws, one of
                         AWS, with reports signed by a VLEK
  --paravisor-fault NAME[=READS]
                         with --machine azure: stale, other-key, race, vmpl, garbage; for
                         that many reads of the report (default all)
  --svsm-manifest-0      with --machine svsm: the SVSM names its endorsement key alone, as
                         COCONUT-SVSM does, so that the binding svsm takes an enrolment
  --configfs             with --machine qemu, gcp or aws: reports come by configfs-tsm, and
                         derived keys by the device of the SNP driver. The agent finds
                         out itself what the machine is
  --product NAME         milan (default), genoa or turin
  --report-version N     2 to 5 (default 3)
  --spacing TIME         least time between two reports (default 0s)
  --fault NAME[=VALUE]   what goes wrong with reports; may be repeated:
                         throttle=TIME, busy, stall, key-wiped, wrong-vmpl,
                         wrong-report-data, garbage-table, no-table, short-report,
                         zero-key, constant-key, status=NUMBER, and a firmware
                         whose keys do not depend on one thing: ignores=policy,
                         measurement, tcb, image-id, family-id, guest-svn, vmpl, root
  --raise-tcb NUMBER     the firmware's version is that much above the usual one
  --raise-microcode NUMBER
                         the same for the version of the microcode
  --mask-chip-id         the host leaves the chip's id out of reports
  --launch TEXT          launch something else: another measurement for each text
  --allow-debug          launch under a guest policy that allows debugging
  --ima-list FILE        what the kernel measured, in the form of its list of IMA. A TPM of
                         its own is extended by the entries that are there at the start.
                         Without it, the machine's kernel has no IMA
  --declare-identity-without-checking
                         believe each caller to be the system unit that its variable
                         AGENTD_SIM_DECLARED_UNIT names, so that keys can be tried
                         without systemd
  --log-level LEVEL      debug, info, warn or error (default warn)
  --version              print the version and end

In DIR it keeps agentd.sock and admin.sock, apps.d for application declarations,
certs for stapled certificates, config.toml if you want to change the configuration,
test-root.pem for verifiers, and policy.toml as an example of a policy. Each start is
a boot of the machine: PCRs and log begin again, unless --tpm names a TPM that runs on.
The guest is then the one of before, with its REPORT_ID; DIR/platform/launch names it.

Examples:
  agentd-sim --dir /tmp/machine
  export AGENTD_SOCKET=/tmp/machine/agentd.sock AGENTD_ADMIN_SOCKET=/tmp/machine/admin.sock
  agentctl status
`

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		fmt.Print(usage)
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "agentd-sim: %v\nhint: run `agentd-sim --help`\n", err)
		os.Exit(1)
	}
	if o.version {
		fmt.Println("agentd-sim", version.Version)
		return
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "agentd-sim:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	dir, tpm string
	kind     string // of the machine, a name of kinds
	version  bool   // print it, and end
	believe  bool   // what callers declare
	inMemory bool   // the log
	imaList  string // file with the list of IMA; empty: none

	firstManifest bool // see machine
	configfs      bool // the same
	paravisor     paravisor.Faults
	level         slog.Level
	platform      simulation
}

// flagSet returns the flags, which set o.
func flagSet(o *options) *flag.FlagSet {
	f := flag.NewFlagSet("agentd-sim", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.dir, "dir", "", "")
	f.StringVar(&o.tpm, "tpm", "", "")
	o.kind = "qemu"
	f.Func("machine", "", o.setKind)
	f.BoolVar(&o.firstManifest, "svsm-manifest-0", false, "")
	f.BoolVar(&o.configfs, "configfs", false, "")
	f.Func("paravisor-fault", "", o.setParavisorFault)
	f.BoolVar(&o.inMemory, "log-in-memory", false, "")
	f.BoolVar(&o.believe, "declare-identity-without-checking", false, "")
	f.BoolVar(&o.version, "version", false, "")
	f.StringVar(&o.imaList, "ima-list", "", "")
	f.TextVar(&o.level, "log-level", slog.LevelWarn, "")
	o.platform.flags(f)
	flags.AllOnce(f, "fault")
	return f
}

func parse(args []string) (options, error) {
	var o options
	f := flagSet(&o)
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.version:
		return o, nil
	case o.dir == "":
		return o, errors.New("--dir is missing")
	case o.inMemory && o.tpm == "":
		return o, errors.New("--log-in-memory is for --tpm: the log of a machine with its own TPM always ends with the boot")
	case o.configfs && !kinds[o.kind].plain:
		return o, errors.New("--configfs is for --machine qemu, gcp and aws")
	case o.firstManifest && o.kind != "svsm":
		return o, errors.New("--svsm-manifest-0 is for --machine svsm")
	case o.tpm != "" && kinds[o.kind].ownTPM:
		return o, fmt.Errorf("--machine %s is for a TPM of its own: leave --tpm out", o.kind)
	case o.platform.spacing < 0:
		return o, fmt.Errorf("--spacing %v: want a time, as 2s", o.platform.spacing)
	}
	if err := checkTPM(o.tpm); err != nil {
		return o, err
	}
	var err error
	if o.imaList != "" { // or it would be the folder
		if o.imaList, err = filepath.Abs(o.imaList); err != nil {
			return o, err
		}
	}
	o.dir, err = filepath.Abs(o.dir)
	return o, err
}

func run(o options) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	log := slog.New(journal.WithoutRepeats(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: o.level})))

	m, err := boot(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	return agent.Run(ctx, m.options(log), reload)
}
