// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/verdict"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify"
)

// Rows of a screen, less one for the prompt.
const rows = 24 - 1

// verifyArguments are what every call needs that appraises evidence of these tests.
func verifyArguments(args ...string) []string {
	return append([]string{"verify", "--policy", "policy.toml", "--nonce", hex.EncodeToString(evidencetest.Nonce), "--at", "2026-06-01T12:00:00Z",
		"--trust-test-root-that-vouches-for-no-hardware", "root.pem"}, args...)
}

// tooWide returns the first line that is wider than a terminal, other than a number alone.
func tooWide(text string, width int) string {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if columns(line) > width && !isNumber(strings.TrimLeft(line, " │")) {
			return line
		}
	}
	return ""
}

// bootedMachine quotes the PCRs that a machine of today has.
func bootedMachine(r *evidencetest.Recipe) {
	r.Select = pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}}}
	r.Banks = []pcr.Algorithm{pcr.SHA256}
	r.PCRs = pcr.Values{}
	for _, i := range []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15} {
		r.PCRs.Set(pcr.SHA256, i, bytes.Repeat([]byte{byte(i)}, 32))
	}
}

// TestAcceptedFitsAScreen: what is said of usual evidence that is accepted fits 24 lines of
// 80 columns, with the prompt: under a policy that allows nearly all, and one that was
// drafted from the evidence.
func TestAcceptedFitsAScreen(t *testing.T) {
	for name, change := range map[string]func(*evidencetest.Recipe){
		"fresh":    func(*evidencetest.Recipe) {},
		"anchored": func(r *evidencetest.Recipe) { r.Statement.Freshness = evidence.Anchored; r.Anchored = true },
		"no key":   func(r *evidencetest.Recipe) { r.Statement.PublicKey = nil },
		"alone":    func(r *evidencetest.Recipe) { r.Neighbours = 0 },
		"booted":   bootedMachine,
		"booted, anchored": func(r *evidencetest.Recipe) {
			bootedMachine(r)
			r.Statement.Freshness, r.Anchored = evidence.Anchored, true
		},
		"no app": func(r *evidencetest.Recipe) { r.Statement.Caller.App, r.Statement.Caller.Executable = "", nil },
		"three apps": func(r *evidencetest.Recipe) {
			r.Events = append(r.Events, evidencetest.App("web", "web.service", "www", "x"), evidencetest.App("mail", "mail.service", "mail", "y"))
		},
	} {
		for _, drafted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, drafted %v", name, drafted), func(t *testing.T) {
				r := evidencetest.New()
				change(r)
				t.Chdir(folder(t, map[string][]byte{"e.json": r.Encode(t), "policy.toml": []byte(openPolicy + "freshness = \"any\"\n"), "root.pem": rootPEM(t)}))
				if drafted && r.Anchored {
					t.Skip("a drafted policy asks for a fresh report")
				}
				if drafted {
					code, policy, stderr := agentctl(t, "policy", "init", "--from", "e.json", "--at", "2026-06-01T12:00:00Z", "--trust-test-root-that-vouches-for-no-hardware", "root.pem")
					if code != exitOK {
						t.Fatal(stderr)
					}
					if err := os.WriteFile("policy.toml", []byte(policy), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				code, stdout, stderr := agentctl(t, verifyArguments("e.json")...)
				if code != exitOK {
					t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
				}
				// AMD's roots are no test roots: this line is not in what people see.
				said := strings.Replace(stdout, "THE ROOT IS A TEST ROOT: this evidence vouches for no hardware at all.\n", "", 1)
				if n := strings.Count(said, "\n"); n > rows || tooWide(stdout, usualWidth) != "" {
					t.Errorf("%d lines of %d, too wide %q:\n%s", n, rows, tooWide(stdout, usualWidth), stdout)
				}
			})
		}
	}
}

// TestDocumentedRefusal: docs/verify.md shows what the command prints of its example, if the
// policy lists another digest.
func TestDocumentedRefusal(t *testing.T) {
	text, err := os.ReadFile("../../docs/verify.md")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := strings.Cut(string(text), "the command prints this:\n\n")
	shown, _, _ = strings.Cut(shown, "\nThe failures come first")
	want := strings.ReplaceAll("\n"+shown, "\n    ", "\n")[1:]

	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../docs/example")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	trust := []string{"--at=2026-06-01", "--trust-test-root-that-vouches-for-no-hardware=test-root.pem"}
	code, policy, stderr := agentctl(t, append([]string{"policy", "init", "--from", "evidence.json"}, trust...)...)
	if code != exitOK {
		t.Fatal(stderr)
	}
	_, number, found := strings.Cut(want, "has digest\n               ")
	if number, _, _ = strings.Cut(number, "\n"); !found || !strings.Contains(policy, number) {
		t.Fatalf("the page does not name the digest that the log has: %q", number)
	}
	if err := os.WriteFile("policy.toml", []byte(strings.ReplaceAll(policy, number, strings.Repeat("1", len(number)))), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := agentctl(t, append([]string{"verify", "--policy=policy.toml", "--nonce", hex.EncodeToString(evidencetest.Nonce), "evidence.json"}, trust...)...)
	if code != int(verify.ClassPolicy) || stdout != want {
		t.Errorf("exit code %d, prints\n%s\ndocs/verify.md has\n%s\n%s", code, stdout, want, stderr)
	}
}

// TestColourOfVerdicts: verdicts have a colour on a terminal that has some, unless its user
// wants none, and the text is the same.
func TestColourOfVerdicts(t *testing.T) {
	a := anyAppraisal(rand.New(rand.NewPCG(5, 6)), modelAppraisal(t), []string{"FAIL and pass are words"})
	print := func(screen bool) string {
		var out bytes.Buffer
		(&terminal{out: &out, screen: screen}).printAppraisal(a, true)
		return out.String()
	}
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	want, got := print(false), print(true)
	if steers(want) {
		t.Error("a pipe gets colour")
	}
	for said, coloured := range map[verify.Verdict]string{verify.Pass: "\x1b[32mpass\x1b[0m  ", verify.Fail: "\x1b[1;31mFAIL\x1b[0m  "} {
		if n := strings.Count(got, coloured); n != len(verdict.With(a, said)) {
			t.Errorf("%d checks with the colour of %s, want %d", n, said, len(verdict.With(a, said)))
		}
	}
	if !strings.Contains(got, "\n\x1b[1;31mFAIL\x1b[0m: refused") {
		t.Error("the verdict has no colour")
	}
	if regexp.MustCompile(`\x1b\[[0-9;]*m`).ReplaceAllString(got, "") != want {
		t.Errorf("with colour the text is another:\n%s", got)
	}
	for name, value := range map[string]string{"NO_COLOR": "1", "TERM": "dumb"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			if print(true) != want {
				t.Errorf("%s=%s is not honoured", name, value)
			}
		})
	}
}
