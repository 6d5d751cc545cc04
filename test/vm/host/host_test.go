// SPDX-License-Identifier: Apache-2.0

// Package host builds a virtual machine, boots it with a software TPM, installs the package in
// it, and checks the agent from outside: `make test-vm`. Every check is a subtest. `make
// test-walks` types the documents into such a machine.
package host

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Paths, and what to run. test/vm/run.sh sets them.
var (
	imageFolder   = flag.String("image", "test/vm/image", "folder of the files of the image")
	imageCache    = flag.String("cache", "", "folder of images")
	imageBase     = flag.String("base", "", "base of the image")
	suite         = flag.String("suite", "trixie", "the image's Debian: trixie or bookworm")
	packageFolder = flag.String("packages", "", "folder with the folders old and new of packages")
	agentctlFile  = flag.String("agentctl", "", "the verifier, on this machine")
	guestFile     = flag.String("guest", "", "the program test/vm/guest")
	workFolder    = flag.String("work", "", "folder for disk and TPM of this run")
	consoleFile   = flag.String("console", "", "file for the machine's console if a check fails")
	begin         = flag.Int64("begin", time.Now().Unix(), "start of the run, in seconds since 1970")
	limit         = flag.Duration("limit", 50*time.Minute, "longest time from begin")
	only          = flag.String("only", "", "regular expression of the checks to run")
	half          = flag.String("half", "", "of two machines beside each other: first or second")
)

// check is one check. If a check fails that later ones need, the others are not run.
type check struct {
	name  string
	vital bool
	run   func(*session)
}

// chosen returns the checks to run: those that were asked for, and those before the last of
// them that other checks need. The second of two machines runs the checks of beside, and the first
// the others.
func chosen(checks []check, asked *regexp.Regexp, half string) map[string]bool {
	out := map[string]bool{}
	for i := len(checks) - 1; i >= 0; i-- {
		c := checks[i]
		here := half == "" || slices.Contains(beside, c.name) == (half == "second")
		if here && asked.MatchString(c.name) || len(out) > 0 && c.vital {
			out[c.name] = true
		}
	}
	return out
}

func TestMachine(t *testing.T) {
	if *workFolder == "" {
		t.Skip("needs a virtual machine: run `make test-vm`")
	}
	onMachine(t, checks, asRealDisks)
}

func TestWalks(t *testing.T) {
	if *workFolder == "" {
		t.Skip("needs a virtual machine: run `make test-walks`")
	}
	onMachine(t, walks, asRealDisks)
}

// onMachine makes a machine with such disks, and runs checks on it in their order.
func onMachine(t *testing.T, checks []check, disks string) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The limit includes the time before this program started.
	ctx, cancel := context.WithDeadlineCause(ctx, time.Unix(*begin, 0).Add(*limit), fmt.Errorf("the limit of %v is over", *limit))
	defer cancel()
	run := chosen(checks, regexp.MustCompile(*only), *half)
	if len(run) == 0 {
		t.Fatalf("no check matches %q", *only)
	}
	s := &session{t: t, ctx: ctx}
	image, err := buildImage(ctx)
	s.must(err)
	s.machine, err = newMachine(*workFolder, image, disks)
	s.must(err)
	defer s.machine.cut()
	failed := ""
	took := make(map[string]time.Duration)
	for _, c := range checks {
		began := time.Now()
		ok := t.Run(c.name, func(t *testing.T) {
			if !run[c.name] {
				t.Skip("not asked for")
			}
			if lacks := newer[c.name]; lacks != "" && *suite == "bookworm" {
				t.Skip(lacks)
			}
			if failed != "" {
				t.Skipf("not run: %s failed", failed)
			}
			s.t = t
			defer s.scene()
			c.run(s)
		})
		if run[c.name] {
			took[c.name] = time.Since(began)
		}
		if !ok && (c.vital || ctx.Err() != nil) {
			failed = c.name
		}
	}
	logSlowest(t, took)
	if ctx.Err() != nil {
		t.Error(context.Cause(ctx))
	}
	s.t = t
	s.console()
}

// logSlowest prints the checks that took longest, and how long all took: go test prints each.
func logSlowest(t *testing.T, took map[string]time.Duration) {
	const most = 12
	var all time.Duration
	var lines []string
	for i, name := range slices.SortedFunc(maps.Keys(took), func(a, b string) int { return cmp.Compare(took[b], took[a]) }) {
		if all += took[name]; i < most {
			lines = append(lines, fmt.Sprintf("%6.1f s %s", took[name].Seconds(), name))
		}
	}
	t.Logf("%d checks took %.0f s; the slowest:\n%s", len(took), all.Seconds(), strings.Join(lines, "\n"))
}

// sceneTime is the longest time for what scene prints. The check may have failed since the limit of the
// run was over, and its last script may still run in the machine.
const sceneTime = 3 * time.Minute

// scene prints what helps to see why a check failed: what the agent, systemd, units that failed and
// the end of the journal say then.
func (s *session) scene() {
	if !s.t.Failed() || s.machine.port == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), sceneTime)
	defer cancel()
	r, err := s.machine.code(ctx, `date -Is; cat /proc/loadavg
failed=$(systemctl --failed --plain --no-legend --no-pager | cut -d " " -f 1)
timeout 30 agentctl status 2>&1
for unit in agentd billing $failed; do echo "== $unit"; journalctl -u "$unit" -o short-monotonic --no-pager -b -n 25; done
echo "== all"; journalctl -o short-monotonic --no-pager -b -n 60`)
	s.t.Logf("the machine after that: %v\n%s", err, r.Output)
}

// lastLines is the number of lines of the console that are printed.
const lastLines = 40

// console copies the console of the machine if a check failed, and prints its last lines.
func (s *session) console() {
	b, err := os.ReadFile(s.machine.console())
	s.must(err)
	// The kernel boots again by itself after a panic. A check notices that, unless the machine
	// was booting anyway.
	if n := bytes.Count(b, []byte("Kernel panic - not syncing")); n > 0 {
		s.t.Logf("the machine's kernel panicked %d times and booted again", n)
	}
	if !s.t.Failed() {
		return
	}
	s.must(os.WriteFile(*consoleFile, b, 0o644))
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	for _, l := range lines[max(0, len(lines)-lastLines):] {
		s.t.Logf("console: %q", l)
	}
}
