// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// TestEmptyFlags: every flag of these commands that takes a value is refused if its
// value is empty, as from an unset variable of a script. Evidence that would be accepted
// is not accepted then. The flags are those of the usage text.
func TestEmptyFlags(t *testing.T) {
	t.Chdir(folder(t, map[string][]byte{"e.json": evidencetest.New().Encode(t), "policy.toml": []byte(openPolicy), "root.pem": rootPEM(t)}))
	common := []string{"--at", "2026-06-01T12:00:00Z", "--trust-test-root-that-vouches-for-no-hardware", "root.pem"}
	listed := regexp.MustCompile(`(?m)^  --([a-z-]+) [A-Z]|^  --(trust-[a-z-]+) FILE`)
	for _, c := range []struct {
		usage string
		args  []string
		flags int // at least so many in the usage
	}{
		{verifyUsage, append([]string{"verify", "e.json", "--policy", "policy.toml", "--nonce", hex.EncodeToString(evidencetest.Nonce)}, common...), 19},
		{policyCheckUsage, append([]string{"policy", "check", "e.json", "--policy", "policy.toml"}, common...), 6},
		{policyInitUsage, append([]string{"policy", "init", "--from", "e.json"}, common...), 7},
	} {
		if code, stdout, stderr := agentctl(t, c.args...); code != 0 {
			t.Fatalf("%v: exit code %d\n%s%s", c.args, code, stdout, stderr)
		}
		flags := listed.FindAllStringSubmatch(c.usage, -1)
		if len(flags) < c.flags {
			t.Errorf("%s: the usage lists %d flags with a value, want at least %d", c.args[0], len(flags), c.flags)
		}
		for _, f := range flags {
			flag := "--" + f[1] + f[2]
			for _, empty := range [][]string{{flag, ""}, {flag + "="}} {
				args := slices.Clone(c.args)
				if i := slices.Index(args, flag); i >= 0 { // a flag is given once
					args = slices.Delete(args, i, i+2)
				}
				code, stdout, stderr := agentctl(t, append(args, empty...)...)
				if code != exitMisuse || stdout != "" || !strings.Contains(stderr, flag+" is empty") {
					t.Errorf("%s %q: exit code %d\n%s%s", c.args[0], empty, code, stdout, stderr)
				}
			}
		}
	}
}

// TestEmptyAmongSeveral: of a flag that may be repeated, no value may be empty.
func TestEmptyAmongSeveral(t *testing.T) {
	code, _, stderr := agentctl(t, "verify", "--certificate", "a.pem", "--certificate", "", "e.json")
	if code != exitMisuse || !strings.Contains(stderr, "--certificate is empty") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}
