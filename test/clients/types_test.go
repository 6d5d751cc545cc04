// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// strict are the options of a user who leaves nothing to chance, and has no types of Node.js.
var strict = []string{
	"--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--noUnusedLocals", "--noUnusedParameters",
	"--noImplicitReturns", "--target", "es2022", "--module", "node16", "--moduleResolution", "node16", "--lib", "es2022",
}

// mypy returns what mypy says of files, with the library on its path.
func mypy(t *testing.T, files ...string) (string, error) {
	t.Helper()
	if testing.Short() {
		t.Skip("checks types: not with -short")
	}
	if _, err := exec.LookPath("mypy"); err != nil {
		t.Skip("mypy is not installed")
	}
	library, err := filepath.Abs("../../clients/python")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "mypy", append([]string{"--strict", "--cache-dir", t.TempDir()}, files...)...)
	cmd.Env = append(os.Environ(), "MYPYPATH="+library)
	cmd.Dir = library
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestTypesInPython: the library is clean for mypy --strict. A user's program is checked with its types:
// what must not be is found.
func TestTypesInPython(t *testing.T) {
	t.Parallel()
	user := filepath.Join(t.TempDir(), "user.py")
	const text = `import agentd
agent = agentd.Client(timeout=5.0, wait=True)
good: bytes = agent.derive("disk", 32).secret.reveal()
good = agent.evidence(b"", freshness="anchored")
agent.derive("disk", length="32")  # wrong: type
agent.derive("disk")  # wrong: missing
agent.evidence(b"", freshness="stale")  # wrong: word
agent.derive("disk", 32).secret + b""  # wrong: a secret is not bytes
agent.apps()  # wrong: of the admin socket
bad: bytes = agent.derive("disk", 32).secret  # wrong: a secret is not bytes
agent.status().events.nothing  # wrong: no such member
`
	if err := os.WriteFile(user, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := mypy(t, "agentd", user)
	if err == nil || strings.Count(out, "error:") != 7 || strings.Contains(out, "user.py:3:") || strings.Contains(out, "user.py:4:") || strings.Contains(out, "agentd/") {
		t.Errorf("want 7 errors, of the lines 5 to 11 of the program:\n%s", out)
	}
}

// userInTypeScript is a strict program, with what must not compile.
const userInTypeScript = `import { Client, type types } from "agentd";
import { unverified } from "agentd/documents";
const agent = new Client({ timeout: 5000, wait: true });
export const good: Uint8Array = (await agent.derive({ label: "disk", length: 32 })).secret.reveal();
export const statement: types.Statement = unverified(good).statement;
// @ts-expect-error: of another type
await agent.derive({ label: "disk", length: "32" });
// @ts-expect-error: a member is missing
await agent.derive({ label: "disk" });
// @ts-expect-error: not a member
await agent.derive({ label: "disk", length: 32, size: 32 });
// @ts-expect-error: not a word
await agent.evidence({ nonce: good, freshness: "stale" });
// @ts-expect-error: a secret is not bytes
export const bad: Uint8Array = (await agent.derive({ label: "disk", length: 32 })).secret;
// @ts-expect-error: of the admin socket
await agent.apps();
// @ts-expect-error: what an answer may leave out is looked at first
unverified(good).evidence.log.records;
`
