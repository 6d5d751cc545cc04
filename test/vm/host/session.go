package main

import (
	"bytes"
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

// session is one run of all checks on one machine.
type session struct {
	*machine
	options *options
	image   string
	digests []string // of the application in this boot, hexadecimal
	akName  string
	old     []byte // evidence from before the reboot
}

// check is one thing that is shown. Those that others build on end the run where they fail.
type check struct {
	name  string
	vital bool
	run   func(*session, context.Context) error
}

type result struct {
	name    string
	err     error
	skipped bool
	took    time.Duration
}

// all runs every check and writes the summary.
func (s *session) all(ctx context.Context, file string) error {
	begin := time.Now()
	var results []result
	stopped := false
	for _, c := range checks {
		if stopped || !c.vital && !s.options.only.MatchString(c.name) {
			results = append(results, result{name: c.name, skipped: true})
			continue
		}
		at := time.Now()
		err := c.run(s, ctx)
		r := result{name: c.name, err: err, took: time.Since(at)}
		results = append(results, r)
		fmt.Println("test-vm:", r)
		if err != nil && c.vital || ctx.Err() != nil || errors.Is(err, errMachine) {
			stopped = true
		}
	}
	var b bytes.Buffer
	failed, skipped := 0, 0
	for _, r := range results {
		fmt.Fprintln(&b, r)
		if r.err != nil {
			failed++
		}
		if r.skipped {
			skipped++
		}
	}
	fmt.Fprintf(&b, "%d checks: %d passed, %d failed, %d not run; %.0f s\n", len(results), len(results)-failed-skipped, failed, skipped, time.Since(begin).Seconds())
	fmt.Printf("\n%s", &b)
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		return err
	}
	if failed > 0 || skipped > 0 && s.options.only.String() == "" {
		return fmt.Errorf("%d checks failed, %d were not run: see %s", failed, skipped, file)
	}
	return nil
}

// errMachine: the machine did not come back, so nothing more can be checked.
var errMachine = errors.New("the machine is not usable any more")

func (r result) String() string {
	switch {
	case r.skipped:
		return fmt.Sprintf("skip  %-34s", r.name)
	case r.err != nil:
		return fmt.Sprintf("FAIL  %-34s %5.1f s  %v", r.name, r.took.Seconds(), r.err)
	}
	return fmt.Sprintf("ok    %-34s %5.1f s", r.name, r.took.Seconds())
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

// want runs a script and looks for words in its output.
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

// fails runs a script that has to fail, saying these words.
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

// ask has the application ask for evidence.
func (s *session) ask(ctx context.Context, nonce, freshness string) ([]byte, error) {
	out, err := s.machine.run(ctx, fmt.Sprintf("vmguest ask /run/billing/socket %s %s", nonce, freshness))
	return []byte(out), err
}

// policy is one for this machine and the application with one of these digests.
func (s *session) policy(digests ...string) (string, error) {
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
measurement = "%s"
kind = "plain"
covers = "firmware"

[guest_policy]
allow_smt = true

[[app]]
name = "billing"
unit = "billing.service"
user = "billing"
digests = [%s]
required = true
`, measurement, strings.Join(list, ", "))
	file := filepath.Join(s.work, "policy.toml")
	return file, os.WriteFile(file, []byte(text), 0o644)
}

// verify appraises evidence on this side, and returns the exit code and what was said.
func (s *session) verify(ctx context.Context, document []byte, nonce string, digests ...string) (int, string, error) {
	policy, err := s.policy(digests...)
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

// accepts asks for new evidence and has it verified.
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

// appDigest is what the agent says that the application is.
func (s *session) appDigest(ctx context.Context) (string, error) {
	out, err := s.machine.run(ctx, `agentctl app list --json | jq -r '.[] | select(.name == "billing" and .state == "measured") | .digest' | base64 -d | od -An -v -tx1 | tr -d ' \n'`)
	if err == nil && len(out) != 64 {
		err = fmt.Errorf("no digest of the application: %q", out)
	}
	return out, err
}

// status is what `agentctl status --json` says, whatever its exit code.
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
