// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify"
)

// TestFormats: each format says the same verdict, --quiet says it by the exit code alone, and
// flags that contradict each other are misuse.
func TestFormats(t *testing.T) {
	t.Chdir(folder(t, map[string][]byte{"e.json": evidencetest.New().Encode(t), "policy.toml": []byte(openPolicy), "strict.toml": []byte(openPolicy + "vmpl = [1]\n"), "root.pem": rootPEM(t)}))
	for _, c := range []struct {
		flags string
		code  int
		out   string // how standard output begins
		errs  string // in standard error
	}{
		{"", 0, "Not asserted, ", ""},
		{"--format text", 0, "Not asserted, ", ""},
		{"--verbose", 0, "Passed, ", ""},
		{"--json", 0, "{\n", ""},
		{"--format json", 0, "{\n", ""},
		{"--json --format=json", 0, "{\n", ""},
		{"--format junit", 0, "<?xml ", ""},
		{"--quiet", 0, "", ""},
		{"--json --format text", 1, "", `{"exitCode":1,`},
		{"--json --format junit", 1, "", `{"exitCode":1,`},
		{"--format json --quiet", 1, "", `{"exitCode":1,`},
		{"--format=json --nonse", 1, "", `{"exitCode":1,`},
		{"--nonse --format json", 1, "", `{"exitCode":1,`},
		{"--quiet --verbose", 1, "", "agentctl: --quiet prints nothing"},
		{"--quiet --json", 1, "", `{"exitCode":1,`},
		{"--quiet --format text", 1, "", "agentctl: --quiet prints nothing"},
		{"--verbose --format junit", 1, "", "agentctl: --verbose is for text"},
		{"--format xml", 1, "", `agentctl: --format "xml": want text, json or junit`},
		{"--format JSON", 1, "", "want text, json or junit"},
	} {
		for _, refused := range []bool{false, true} {
			args, code := append(verifyArguments(), strings.Fields(c.flags)...), c.code
			if refused {
				args[2] = "strict.toml"
			}
			if refused && code == exitOK {
				code = int(verify.ClassPolicy)
			}
			got, stdout, stderr := agentctl(t, append(args, "e.json")...)
			begins := c.out
			if refused && strings.HasPrefix(begins, "Not asserted") || refused && begins == "Passed, " {
				begins = "Failed, 1 of "
			}
			if got != code || !strings.HasPrefix(stdout, begins) || begins == "" && stdout != "" || !strings.Contains(stderr, c.errs) {
				t.Errorf("%q, refused %v: exit code %d, want %d\n%.300s\n%s", c.flags, refused, got, code, stdout, stderr)
			}
		}
	}
	for flags, want := range map[string]string{"--quiet": "", "--format junit": "<?xml ", "--format json": "{\n", "--format text": "pass  e.json: would be accepted"} {
		args := append(strings.Fields("policy check --policy policy.toml --at 2026-06-01T12:00:00Z --trust-test-root-that-vouches-for-no-hardware root.pem "+flags), "e.json", "e.json")
		code, stdout, stderr := agentctl(t, args...)
		if code != exitOK || !strings.HasPrefix(stdout, want) || want == "" && stdout != "" {
			t.Errorf("%q: exit code %d\n%.300s\n%s", args, code, stdout, stderr)
		}
	}
}

// TestQuietGivesNoHint: with --quiet a refusal for want of a certificate says nothing at all.
func TestQuietGivesNoHint(t *testing.T) {
	r := evidencetest.New()
	r.Report.NoCertificates = true
	t.Chdir(folder(t, map[string][]byte{"e.json": r.Encode(t), "policy.toml": []byte(openPolicy)}))
	args := []string{"verify", "--policy", "policy.toml", "--nonce", hex.EncodeToString(evidencetest.Nonce), "e.json"}
	for _, quiet := range []bool{false, true} {
		if quiet {
			args = append(args, "--quiet")
		}
		code, stdout, stderr := agentctl(t, args...)
		if code != int(verify.ClassCollateral) || quiet != (stdout+stderr == "") {
			t.Errorf("quiet %v: exit code %d\n%s%s", quiet, code, stdout, stderr)
		}
	}
}

// TestEveryClaimInWords: --verbose prints each member of the claims, with its value.
func TestEveryClaimInWords(t *testing.T) {
	a := modelAppraisal(t)
	claims, err := a.Claims()
	if err != nil {
		t.Fatal(err)
	}
	var b, out bytes.Buffer
	if err := (&terminal{out: &b}).writeJSON(claims); err != nil {
		t.Fatal(err)
	}
	(&terminal{out: &out}).printAppraisal(a, true)
	_, tree, _ := strings.Cut(out.String(), "\nClaims:\n")
	tree, _, _ = strings.Cut(tree, "\n\n")
	tree = strings.NewReplacer("│", "", "├─", "", "└─", "").Replace(tree)
	scalars := 0
	for member := range strings.Lines(b.String()) { // one on a line
		name, value, ok := strings.Cut(strings.Trim(member, " ,\n"), ": ")
		if !ok || value == "{" || value == "[" {
			continue
		}
		if scalars++; !strings.Contains(strings.Join(strings.Fields(tree), " "), strings.Trim(name, `"`)+": "+strings.Trim(value, `"`)) {
			t.Errorf("%s is not printed:\n%s", member, tree)
		}
	}
	if scalars < 60 {
		t.Errorf("%d claims", scalars)
	}
}
