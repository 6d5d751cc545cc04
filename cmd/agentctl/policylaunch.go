// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/launch"
	"github.com/cvm-agentd/agentd/verify"
)

const policyLaunchUsage = `Usage: agentctl policy launch --firmware FILE --vcpus N[,N...] [flags]

Compute launch measurements of SEV-SNP guests from the files that a host launches. The
command prints a [[launch]] rule for each number of processors: append it to a policy.
docs/launch.md says what a measurement covers, and when a machine shows another one.

  --firmware FILE        firmware of the guest (OVMF); required
  --vcpus N[,N...]       numbers of processors; required
  --cpu CPU              with qemu required: CPU model of QEMU, such as EPYC-Genoa, or
                         CPU signature, such as 0xa10f10 (EAX of CPUID function 1)
  --vmm VMM              program of the host: qemu (default), ec2 or gce
  --kernel FILE          kernel that QEMU boots directly (kernel-hashes=on)
  --initrd FILE          its initrd
  --append TEXT          its command line, in full
  --guest-features N     SEV_FEATURES of the processors (default: 0x1)
  --svsm FILE            SVSM below the firmware (COCONUT's svsm.bin)
  --vars-size N          with --svsm: size of the firmware's variables in bytes
                         (default: 0)
  --kind KIND            kind of the rules: plain (default), or svsm with --svsm. DANGER:
                         a file does not show how an SVSM was built, and most builds
                         let the host or the guest vouch for any vTPM
                         (docs/machines/svsm.md)
  --json                 the measurements as JSON

A kernel needs firmware with a place for its hashes, and is refused otherwise: other
firmware boots any kernel that the host hands to it.

Examples:
  agentctl policy launch --firmware OVMF.fd --vcpus 2,4 --cpu EPYC-Genoa >> policy.toml
  agentctl policy launch --firmware OVMF.fd --vcpus 4 --cpu EPYC-Milan \
      --kernel vmlinuz --initrd initrd.img --append "root=/dev/vda ro"
`

// launchFlags are the flags of policy launch.
type launchFlags struct {
	vmm, firmware, kernel, initrd, commandLine, cpu, vcpus, svsm, kind string
	features                                                           uint64
	vars                                                               uint32
}

// launchRules is what policy launch prints as JSON.
type launchRules struct {
	VMM           string       `json:"vmm"`           // program of the host
	CPU           string       `json:"cpu,omitempty"` // CPU signature, after 0x; absent if the measurement does not depend on it
	GuestFeatures string       `json:"guestFeatures"` // SEV_FEATURES, after 0x
	Launches      []launchRule `json:"launches"`      // in the order of --vcpus
	Notes         []string     `json:"notes"`         // what a reader of the rules should know: the comments in the text form
}

// launchRule is a [[launch]] of a policy.
type launchRule struct {
	VCPUs       int            `json:"vcpus"`       // processors of the guest
	Measurement evidence.Bytes `json:"measurement"` // MEASUREMENT of its reports, 48 bytes
	Kind        string         `json:"kind"`        // what the firmware does for the vTPM, as in a policy
	Covers      string         `json:"covers"`      // what was measured, as in a policy
	Label       string         `json:"label"`       // for people
}

func policyLaunchCommand(t *terminal) *cobra.Command {
	var f launchFlags
	c := command("launch", policyLaunchUsage, arguments(), func(c *cobra.Command, _ []string) error {
		counts, cpu, err := f.check()
		if err != nil {
			return misuse(err).withHint(helpHint(c))
		}
		rules, err := t.measureLaunch(&f, cpu, counts)
		if err != nil {
			return err
		}
		if t.json {
			return t.writeJSON(rules)
		}
		t.printLaunchRules(rules)
		return nil
	})
	flags := c.Flags()
	flags.StringVar(&f.firmware, "firmware", "", "")
	flags.StringVar(&f.vcpus, "vcpus", "", "")
	flags.StringVar(&f.cpu, "cpu", "", "")
	flags.StringVar(&f.vmm, "vmm", string(launch.QEMU), "")
	flags.StringVar(&f.kernel, "kernel", "", "")
	flags.StringVar(&f.initrd, "initrd", "", "")
	flags.StringVar(&f.commandLine, "append", "", "")
	flags.Uint64Var(&f.features, "guest-features", launch.FeatureSNPActive, "")
	flags.StringVar(&f.svsm, "svsm", "", "")
	flags.Uint32Var(&f.vars, "vars-size", 0, "")
	flags.StringVar(&f.kind, "kind", string(verify.KindPlain), "")
	return c
}

// check checks the flags that need no file.
func (f *launchFlags) check() (counts []int, cpu launch.Signature, err error) {
	switch {
	case f.firmware == "":
		return nil, 0, errors.New("--firmware is missing: a launch measurement covers at least the firmware")
	case f.vcpus == "":
		return nil, 0, errors.New("--vcpus is missing: each number of processors has a measurement of its own")
	case f.kind != string(verify.KindPlain) && f.kind != string(verify.KindSVSM):
		return nil, 0, fmt.Errorf("--kind %q: want %s or %s; a paravisor cannot be computed", f.kind, verify.KindPlain, verify.KindSVSM)
	case f.kind == string(verify.KindSVSM) && f.svsm == "":
		return nil, 0, errors.New("--kind svsm is for --svsm: without an SVSM the kind is plain")
	case f.features == 0:
		return nil, 0, errors.New("--guest-features 0 are not those of an SEV-SNP guest: bit 0 is always one")
	}
	for word := range strings.SplitSeq(f.vcpus, ",") {
		n, err := strconv.ParseUint(word, 10, 31)
		if err != nil {
			return nil, 0, fmt.Errorf("--vcpus %q: want numbers such as 4 or 2,4,8", f.vcpus)
		}
		counts = append(counts, int(n))
	}
	switch {
	case f.cpu != "":
		if cpu, err = launch.ParseCPU(f.cpu); err != nil {
			return nil, 0, fmt.Errorf("--cpu: %w", err)
		}
	case launch.VMM(f.vmm).UsesCPU():
		return nil, 0, errors.New("--cpu is missing: QEMU gives its signature to the guest, so the measurement depends on it")
	}
	return counts, cpu, nil
}

// measureLaunch opens the files and measures what they launch.
func (t *terminal) measureLaunch(f *launchFlags, cpu launch.Signature, counts []int) (*launchRules, error) {
	config := launch.Config{VMM: launch.VMM(f.vmm), CommandLine: f.commandLine, CPU: cpu, GuestFeatures: f.features, VarsSize: int64(f.vars), SVSMVouches: f.kind == string(verify.KindSVSM)}
	for _, named := range []struct {
		name string
		to   *launch.Source
	}{{f.firmware, &config.Firmware}, {f.kernel, &config.Kernel}, {f.initrd, &config.Initrd}, {f.svsm, &config.SVSM}} {
		if named.name == "" {
			continue
		}
		file, source, err := openSource(named.name)
		if err != nil {
			return nil, misuse(err)
		}
		defer file.Close()
		*named.to = source
	}
	all, err := launch.Measure(&config, counts...)
	if err != nil {
		return nil, misuse(err)
	}
	rules := &launchRules{VMM: f.vmm, GuestFeatures: fmt.Sprintf("%#x", f.features)}
	of := ""
	if config.VMM.UsesCPU() {
		rules.CPU, of = cpu.String(), ", "+f.cpu
	}
	for _, m := range all {
		label := fmt.Sprintf("%s, %s%s", f.vmm, count(m.VCPUs, "processor"), of)
		rules.Launches = append(rules.Launches, launchRule{m.VCPUs, m.Digest[:], config.Kind(), config.Covers(), label})
	}
	rules.Notes = rules.notes(f)
	return rules, nil
}

// openSource opens a regular file, whose size says how much is measured. Nothing waits for
// the writer of a pipe.
func openSource(name string) (*os.File, launch.Source, error) {
	if name == "-" {
		return nil, nil, errors.New("- is standard input, of which the size is not known: give the name of a file")
	}
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	at, err := f.Stat()
	if err == nil && !at.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, io.NewSectionReader(f, 0, at.Size()), nil
}

// notes returns what a reader of the rules should know.
func (r *launchRules) notes(f *launchFlags) (out []string) {
	note := func(format string, args ...any) { out = append(out, cleanLine(fmt.Sprintf(format, args...))) }
	note("Computed by agentctl policy launch, see docs/launch.md.")
	note("Firmware %s, host %s, guest features %s.", f.firmware, f.vmm, r.GuestFeatures)
	if r.CPU != "" {
		note("CPU signature %s.", r.CPU)
	}
	switch {
	case f.kernel != "":
		note("Kernel %s, initrd %s, command line %q.", f.kernel, either(f.initrd, "none"), f.commandLine)
		note(`Write covers = "firmware+kernel+cmdline+system" if these hashes cover all that can become root.`)
	case f.svsm != "":
		note("SVSM %s. The layout is that of COCONUT's QEMU, not that of an IGVM file.", f.svsm)
		if f.kind == string(verify.KindSVSM) {
			note(`DANGER: kind = "svsm" believes that this SVSM was built as docs/machines/svsm.md asks, which its file does not show.`)
			note(`Of another build the host or the guest can have any vTPM vouched for: write kind = "plain" then.`)
		} else {
			note(`Of kind "plain", evidence is guest-asserted at most. If you know that the SVSM was built as docs/machines/svsm.md asks, add --kind svsm.`)
		}
	default:
		note("It does not cover what the firmware boots: that shows in PCRs alone.")
	}
	if f.vmm != string(launch.QEMU) {
		note("A cloud may run other firmware than it publishes: compare with a report of a machine there.")
	}
	return out
}

// printLaunchRules prints the rules, with the notes as comments.
func (t *terminal) printLaunchRules(rules *launchRules) {
	for _, n := range rules.Notes {
		fmt.Fprintf(t.out, "# %s\n", n)
	}
	for _, r := range rules.Launches {
		fmt.Fprintf(t.out, "\n[[launch]]\nmeasurement = \"%x\"\nkind = %q\ncovers = %q\nlabel = %q\n", []byte(r.Measurement), r.Kind, r.Covers, r.Label)
	}
}

func either(text, without string) string {
	if text == "" {
		return without
	}
	return text
}
