// SPDX-License-Identifier: Apache-2.0

package main

import (
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
	"time"
)

// patience is the longest time to wait for an event on a slow machine.
const patience = 3 * time.Minute

// session is one run of all checks on one machine.
type session struct {
	*machine
	options *options
	image   string
	digests []string // of the application in this boot, hexadecimal
	akName  string
	old     []byte // evidence from before the reboot
	keys    kept
}

func nonce() string {
	b := make([]byte, 32)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// eventually runs a script until it succeeds.
func (s *session) eventually(ctx context.Context, patience time.Duration, script string) error {
	deadline := time.Now().Add(patience)
	for {
		_, err := s.machine.run(ctx, script)
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// want runs a script, and checks that its output contains the words.
func (s *session) want(ctx context.Context, script string, words ...string) error {
	out, err := s.machine.run(ctx, script)
	if err != nil {
		return err
	}
	for _, w := range words {
		if !strings.Contains(out, w) {
			return fmt.Errorf("%q is not in the output of: %s\n%s", w, script, out)
		}
	}
	return nil
}

// fails runs a script, and checks that it fails and that its output contains the words.
func (s *session) fails(ctx context.Context, script string, words ...string) error {
	r, err := s.machine.code(ctx, script)
	if err != nil {
		return err
	}
	if r.Code == 0 {
		return fmt.Errorf("it succeeded: %s\n%s", script, r.Output)
	}
	for _, w := range words {
		if !strings.Contains(r.Output, w) {
			return fmt.Errorf("exit code %d, but %q is not in the output of: %s\n%s", r.Code, w, script, r.Output)
		}
	}
	return nil
}

// ask makes the application ask for evidence.
func (s *session) ask(ctx context.Context, nonce, freshness string) ([]byte, error) {
	return s.askAt(ctx, "/run/billing/socket", nonce, freshness)
}

// askAt makes the application at a socket ask for evidence, until the agent knows its
// program. An emulated processor can need longer to hash a program than the agent waits.
// The statement then says that the program is unreadable, and not covered by the manifest.
func (s *session) askAt(ctx context.Context, socket, nonce, freshness string) (document []byte, err error) {
	late := waitFor(ctx, patience, func() bool {
		var out string
		if out, err = s.machine.run(ctx, fmt.Sprintf("vmguest ask %s evidence %s %s", socket, nonce, freshness)); err != nil {
			return true
		}
		document = []byte(out)
		runs, unknown := callerProgram(document)
		return unknown != nil || runs != ""
	})
	return document, errors.Join(err, late)
}

// policy returns a policy for this machine. It accepts as caller the application of this
// name, with one of these digests.
func (s *session) policy(app string, digests ...string) (string, error) {
	measurement, err := os.ReadFile(filepath.Join(s.image, "measurement"))
	if err != nil {
		return "", err
	}
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
required = true

[caller]
unit = "%[2]s.service"
app = "%[2]s"
covered = true
`, measurement, app, strings.Join(list, ", "))
	file := filepath.Join(s.work, "policy.toml")
	return file, os.WriteFile(file, []byte(text), 0o644)
}

// verify verifies evidence outside the machine, and returns the exit code and the output.
func (s *session) verify(ctx context.Context, document []byte, nonce string, digests ...string) (int, string, error) {
	return s.verifyAs(ctx, "billing", document, nonce, digests...)
}

// verifyAs does the same for evidence of the application of this name.
func (s *session) verifyAs(ctx context.Context, app string, document []byte, nonce string, digests ...string) (int, string, error) {
	policy, err := s.policy(app, digests...)
	if err != nil {
		return 0, "", err
	}
	file := filepath.Join(s.work, "evidence.json")
	if err := os.WriteFile(file, document, 0o644); err != nil {
		return 0, "", err
	}
	cmd := exec.CommandContext(ctx, s.options.agentctl, "verify", "--policy", policy, "--nonce", nonce,
		"--trust-test-root-that-vouches-for-no-hardware", filepath.Join(s.image, "test-root.pem"), file)
	out, err := cmd.CombinedOutput()
	var says strings.Builder
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "pass ") {
			says.WriteString(line)
		}
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), says.String(), nil
	}
	return 0, says.String(), err
}

// accepts asks for new evidence, and checks that it is accepted.
func (s *session) accepts(ctx context.Context) ([]byte, error) {
	n := nonce()
	document, err := s.ask(ctx, n, "fresh")
	if err != nil {
		return nil, err
	}
	code, out, err := s.verify(ctx, document, n, s.digests...)
	if err == nil && code != 0 {
		err = fmt.Errorf("verify ended with exit code %d:\n%s", code, out)
	}
	return document, err
}

// appDigest returns the digest of an application, as the agent reports it.
func (s *session) appDigest(ctx context.Context, name string) (string, error) {
	out, err := s.machine.run(ctx, `agentctl app list --json | jq -r '.[] | select(.name == "`+name+`" and .state == "measured") | .digest' | base64 -d | od -An -v -tx1 | tr -d ' \n'`)
	if err == nil && len(out) != 64 {
		err = fmt.Errorf("no digest of application %s: %q", name, out)
	}
	return out, err
}

// status returns the output of `agentctl status --json`, for any exit code.
type status struct {
	TPM      struct{ State, Reason string }
	Platform struct{ State, Reason string }
	AKName   string
	Ledger   struct {
		Synchronised bool
		Reason       string
		Records      int
	}
}

func (s *session) status(ctx context.Context) (st status, err error) {
	r, err := s.machine.code(ctx, "agentctl status --json")
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal([]byte(r.Output), &st); err != nil {
		return st, fmt.Errorf("agentctl status: exit code %d: %s", r.Code, r.Output)
	}
	return st, nil
}
