// SPDX-License-Identifier: Apache-2.0

package host

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is the longest time to wait for an event on a slow machine.
const patience = 6 * time.Minute

// session is one run of all checks on one machine. Its methods end the check that runs if
// something is not as it must be.
type session struct {
	t       *testing.T // of the check that runs
	ctx     context.Context
	machine *machine
	digests []string // of the application in this boot, hexadecimal
	watched string   // since when the policy wants applications to have been watched
	akName  string
	old     []byte // evidence from before the reboot

	nginx     string // digest of the application nginx in this boot, hexadecimal; empty if it is not declared
	nginxOnly string // since when the policy wants it to have been watched, if that is not always

	ima, imaOld imaFiles // all that the machine may have run, and without the newer packages

	ids    map[string]string // of containers, by name
	pulled map[string]bool   // images, by the name of the app that each is

	// Secrets of the application, which must survive everything that happens to the machine.
	secret, derived string
}

// must fails the check if err is not nil.
func (s *session) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func nonce() string {
	b := make([]byte, 32)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// run runs a script, and returns its output.
func (s *session) run(script string) string {
	s.t.Helper()
	out, err := s.machine.run(s.ctx, script)
	s.must(err)
	return out
}

// eventually runs a script until it succeeds, and returns its output.
func (s *session) eventually(script string) string {
	s.t.Helper()
	var out string
	var err error
	late := waitFor(s.ctx, patience, func() bool {
		out, err = s.machine.run(s.ctx, script)
		return err == nil
	})
	s.must(errors.Join(err, late))
	return out
}

// want runs a script, and checks that its output contains the words.
func (s *session) want(script string, words ...string) {
	s.t.Helper()
	s.contains(script, s.run(script), words)
}

// fails runs a script, and checks that it fails and that its output contains the words.
func (s *session) fails(script string, words ...string) {
	s.t.Helper()
	r, err := s.machine.code(s.ctx, script)
	s.must(err)
	if r.Code == 0 {
		s.t.Fatalf("it succeeded: %s\n%s", script, r.Output)
	}
	s.contains(script, r.Output, words)
}

func (s *session) contains(script, out string, words []string) {
	s.t.Helper()
	for _, w := range words {
		if !strings.Contains(out, w) {
			s.t.Fatalf("%q is not in the output of: %s\n%s", w, script, out)
		}
	}
}

// ask makes the application ask for evidence.
func (s *session) ask(nonce, freshness string) []byte {
	s.t.Helper()
	return s.askAt("/run/billing/socket", nonce, freshness)
}

// askAt makes the application at a socket ask for evidence, until the agent knows its
// program. An emulated processor can need longer to hash a program than the agent waits.
// The statement then says that the program is unreadable, and not covered by the manifest.
func (s *session) askAt(socket, nonce, freshness string) []byte {
	s.t.Helper()
	var out string
	var err error
	late := waitFor(s.ctx, patience, func() bool {
		if out, err = s.machine.run(s.ctx, fmt.Sprintf("vmguest ask %s evidence %s %s", socket, nonce, freshness)); err != nil {
			return true
		}
		runs, unknown := callerProgram([]byte(out))
		return unknown != nil || runs != ""
	})
	s.must(errors.Join(err, late))
	return []byte(out)
}

// policy returns a policy for this machine. It accepts as caller the application of this
// name, with one of these digests, watched since the time that s.watched says: by default
// since the process started. If nginx is declared, it must be measured and watched too.
func (s *session) policy(app string, digests ...string) string {
	measurement, err := os.ReadFile(filepath.Join(s.machine.image, "measurement"))
	s.must(err)
	var list []string
	for _, d := range digests {
		list = append(list, `"`+d+`"`)
	}
	text := fmt.Sprintf(`version = 1
products = ["milan"]
freshness = "anchored"
max_anchor_age = "30m"

[[launch]]
measurement = "%[1]s"
kind = "plain"
covers = "firmware"

[guest_policy]
allow_smt = true

[[app]]
name = "%[2]s"
unit = "%[2]s.service"
user = "%[2]s"
digests = [%[3]s]
covered = "%[4]s"
required = true

[caller]
unit = "%[2]s.service"
app = "%[2]s"
covered = true
`, measurement, app, strings.Join(list, ", "), cmp.Or(s.watched, "since-start"))
	if s.nginx != "" {
		text += fmt.Sprintf("\n[[app]]\nname = \"nginx\"\nunit = \"nginx.service\"\nuser = \"root\"\ndigests = [%q]\ncovered = %q\n", s.nginx, cmp.Or(s.nginxOnly, "unbroken"))
	}
	file := filepath.Join(s.machine.work, "policy.toml")
	s.must(os.WriteFile(file, []byte(text), 0o644))
	return file
}

// ofOthers returns the policy of this machine for a caller that is not billing, without [caller]. Of
// billing it wants no more than that it is watched now: "since-start" would mean "unbroken" then, and
// earlier checks declared billing twice.
func (s *session) ofOthers() string {
	s.t.Helper()
	defer func(before string) { s.watched = before }(s.watched)
	s.watched = "now"
	b, err := os.ReadFile(s.policy("billing", s.digests...))
	s.must(err)
	before, after, ok := strings.Cut(string(b), "[caller]\nunit = \"billing.service\"\napp = \"billing\"\ncovered = true\n")
	if !ok {
		s.t.Fatalf("the policy names no caller:\n%s", b)
	}
	return before + after
}

// verify verifies evidence of an application outside the machine, and returns the exit code
// and the output.
func (s *session) verify(app string, document []byte, nonce string, digests ...string) (int, string) {
	s.t.Helper()
	policy := s.policy(app, digests...)
	file := filepath.Join(s.machine.work, "evidence.json")
	s.must(os.WriteFile(file, document, 0o644))
	cmd := exec.CommandContext(s.ctx, *agentctlFile, "verify", "--policy", policy, "--nonce", nonce,
		"--trust-test-root-that-vouches-for-no-hardware", filepath.Join(s.machine.image, "test-root.pem"), file)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		s.must(err)
	}
	var says strings.Builder
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "pass ") {
			says.WriteString(line)
		}
	}
	return cmd.ProcessState.ExitCode(), says.String()
}

// verifies checks that verify ends with this exit code, and returns the output.
func (s *session) verifies(want int, app string, document []byte, nonce string, digests ...string) string {
	s.t.Helper()
	code, out := s.verify(app, document, nonce, digests...)
	if code != want {
		s.t.Fatalf("verify ended with exit code %d, want %d:\n%s", code, want, out)
	}
	return out
}

// accepts asks for new evidence, and checks that it is accepted.
func (s *session) accepts() {
	s.t.Helper()
	n := nonce()
	s.verifies(0, "billing", s.ask(n, "fresh"), n, s.digests...)
}

// appDigest returns the digest of an application, as the agent reports it.
func (s *session) appDigest(name string) string {
	s.t.Helper()
	out := strings.TrimSpace(s.run(`agentctl app list --json | jq -r '.apps[] | select(.name == "` + name + `" and .state == "measured") | .digest'`))
	if len(out) != 64 {
		s.t.Fatalf("no digest of application %s: %q", name, out)
	}
	return out
}

// status returns the output of `agentctl status --json`, for any exit code.
type status struct {
	TPM      struct{ State, Reason string }
	Platform struct{ State, Reason, Machine, Source, Why string }
	AKName   string
	Ledger   struct {
		Synchronised bool
		Reason       string
		Records      int
	}
}

func (s *session) status() (st status) {
	s.t.Helper()
	r, err := s.machine.code(s.ctx, "agentctl status --json")
	s.must(err)
	if err := json.Unmarshal([]byte(r.Output), &st); err != nil {
		s.t.Fatalf("agentctl status: exit code %d: %s", r.Code, r.Output)
	}
	return st
}
