// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// TestReferenceOfFolder: the files of a folder, as they were when it was read, are what the rule
// that is printed accepts on a machine.
func TestReferenceOfFolder(t *testing.T) {
	document, list := measuredMachine(t, evidencetest.IMAFile("/usr/bin/true", "true"))
	t.Chdir(folder(t, map[string][]byte{"e.json": document, "ima.bin": list, "root.pem": rootPEM(t)}))
	if err := os.Mkdir("image", 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	verify := func(rule string) int {
		t.Helper()
		write("policy.toml", openPolicy+rule)
		code, _, _ := agentctl(t, "verify", "--policy", "policy.toml", "--nonce", hex.EncodeToString(evidencetest.Nonce), "--at", "2026-06-01T12:00:00Z",
			"--trust-test-root-that-vouches-for-no-hardware", "root.pem", "--ima-list", "ima.bin", "--ima-reference", "files.ref", "e.json")
		return code
	}
	for content, want := range map[string]int{"true": 0, "changed": 5} {
		write("image/a", content)
		write("image/b", content)
		write("image/c", "other")
		code, rule, stderr := agentctl(t, "policy", "ima-reference", "--out", "files.ref", "--root", "image")
		if code != 0 || !strings.Contains(rule, "# 2 digests of 3 files") {
			t.Fatalf("exit code %d\n%s%s", code, rule, stderr)
		}
		if code := verify(rule); code != want {
			t.Errorf("a file that is %q in the image: exit code %d, want %d", content, code, want)
		}
	}
	write("empty.deb", "")
	if err := os.Mkdir("nothing", 0o755); err != nil {
		t.Fatal(err)
	}
	for says, args := range map[string][]string{
		"--out is missing":      {"--root", "image"},
		"nothing to read":       {"--out", "x.ref"},
		"is not sha256, sha384": {"--out", "x.ref", "--root", "image", "--hash", "sha1"},
		"no file in what":       {"--out", "x.ref", "--root", "nothing"},
		"nowhere":               {"--out", "x.ref", "--root", "nowhere"},
		"neither of Debian nor": {"--out", "x.ref", "empty.deb"},
		"absent.deb":            {"--out", "x.ref", "absent.deb"},
	} {
		code, stdout, stderr := agentctl(t, append([]string{"policy", "ima-reference"}, args...)...)
		if _, err := os.Stat("x.ref"); code != exitMisuse || stdout != "" || !strings.Contains(stderr, says) || err == nil {
			t.Errorf("%q: exit code %d, want %q and no file\n%s%s", args, code, says, stdout, stderr)
		}
	}
}
