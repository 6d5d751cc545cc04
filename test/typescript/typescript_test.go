// SPDX-License-Identifier: Apache-2.0

package typescript

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/test/generate"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// strict are the options of a client that leaves nothing to chance.
var strict = []string{
	"--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--noUnusedLocals", "--noUnusedParameters",
	"--noImplicitReturns", "--noImplicitOverride", "--forceConsistentCasingInFileNames", "--target", "es2020", "--module", "es2020", "--lib", "es2020",
}

// module writes what is generated of the document, after a change of its text, and the client, into a new folder.
func module(t *testing.T, old, replacement string) string {
	t.Helper()
	document, err := os.ReadFile("../../api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(document), old) {
		t.Fatalf("%q is not in the document", old)
	}
	g, err := generate.New([]byte(strings.Replace(string(document), old, replacement, 1)))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata")); err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func() (string, error){"agentd.ts": g.Types, "uses.ts": g.Uses} {
		text, err := write()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// compile compiles a module, and returns what the compiler says.
func compile(t *testing.T, dir string, options ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("tsc"); err != nil {
		t.Skip("tsc is not installed")
	}
	cmd := exec.CommandContext(t.Context(), "tsc", append(append(options, strict...), "client.ts", "uses.ts", "limits.ts")...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestStrictClients: a strict client that calls each operation with the least that it takes, and
// reads what its answer must have, compiles; and what a client must not do does not.
func TestStrictClients(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles TypeScript: not with -short")
	}
	if out, err := compile(t, module(t, "", ""), "--noEmit"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestStrictClientsNotice: a document with a mistake that strict clients stumble over does not
// compile.
func TestStrictClientsNotice(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles TypeScript: not with -short")
	}
	for name, c := range map[string]struct{ old, replacement, says string }{
		"a member with a default is required": {`"required": [
          "nonce"
        ],`, `"required": ["nonce", "freshness"],`, "limits.ts"},
		"a type that there is not":           {`#/components/schemas/Self"`, `#/components/schemas/Myself"`, "agentd.ts"},
		"an answer requires what it has not": {`"method",`, `"method", "mother",`, "uses.ts"},
		"words of an answer are closed":      {closedCode(t), `{"type": "string", "enum": ["busy"]}`, "limits.ts"},
		"an example has an unknown member":   {`"nonce": "AAAAAAAAAAAAAAAAAAAAAA=="`, `"nonce": "AAAAAAAAAAAAAAAAAAAAAA==", "none": 1`, "uses.ts"},
		"an example has a word that is not one": {`"nonce": "AAAAAAAAAAAAAAAAAAAAAA=="`,
			`"nonce": "AAAAAAAAAAAAAAAAAAAAAA==", "freshness": "stale"`, "uses.ts"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := compile(t, module(t, c.old, c.replacement), "--noEmit")
			if err == nil || !strings.Contains(out, c.says) {
				t.Errorf("%v, want an error in %s:\n%s", err, c.says, out)
			}
		})
	}
}

// closedCode returns the schema of codes, as the document has it.
func closedCode(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), `"Code": `)
	text, _, found := strings.Cut(rest, "\n      },\n")
	if !found {
		t.Fatal("there is no schema Code")
	}
	return text + "\n      }"
}

// TestClientRuns: node runs the compiled client against a simulated machine. Its answers have the
// members that the types promise, and a refusal has its code.
func TestClientRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a simulated machine: not with -short")
	}
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not installed")
	}
	dir := module(t, "", "")
	if out, err := compile(t, dir); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"type": "module"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	m := simulated.Run(t)
	cmd := exec.CommandContext(t.Context(), "node", "run.mjs", m.Socket(), m.AdminSocket())
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var says struct {
		Evidence             json.RawMessage
		Ready, Metrics       bool
		Records, Apps, Paths int
		Refused              string
	}
	if err := json.Unmarshal(out, &says); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := evidence.Parse(says.Evidence); err != nil {
		t.Error(err)
	}
	if !says.Ready || !says.Metrics || says.Records != 1 || says.Paths < 25 || says.Refused != "no-such-app" {
		t.Errorf("%s", out)
	}
}
