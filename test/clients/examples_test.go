// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/test/pages"
)

// examples returns the programs that the document of a library prints, of at most five lines each.
func examples(t *testing.T, name, lang string, most int) []pages.Block {
	t.Helper()
	page, err := pages.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	var out []pages.Block
	for _, b := range page.Blocks {
		if b.Lang != lang {
			continue
		}
		if n := strings.Count(b.Text, "\n"); n > most {
			t.Errorf("%s:%d: the example has %d lines, want at most %d", name, b.Line, n, most)
		}
		out = append(out, b)
	}
	if len(out) < 8 {
		t.Fatalf("%s has %d examples", name, len(out))
	}
	return out
}

// says is what examples print, by their heading.
var says = map[string]string{
	"Evidence":         "billing.example\n",
	"Events and state": "billing true\n",
	"Errors":           "No such key or secret",
	"Administration":   "billing measured\n",
}

// printed checks what the examples of a document printed.
func printed(t *testing.T, all map[string]string) {
	for heading, want := range says {
		if !strings.Contains(all[heading], want) && !strings.Contains(strings.ReplaceAll(all[heading], "True", "true"), want) {
			t.Errorf("%s: printed %q, want %q", heading, all[heading], want)
		}
	}
	if !strings.Contains(all["Secrets"], "<Secret of ") || strings.Contains(all["Secrets"], "correct horse") || !strings.Contains(all["Secrets"], "does not load it") {
		t.Errorf("Secrets: printed %q", all["Secrets"])
	}
}

// myKeys is the module that an example imports: a key of the application.
const myKeys = `# SPDX-License-Identifier: Apache-2.0
import os, subprocess, tempfile
folder = tempfile.mkdtemp(dir=os.path.dirname(__file__))
def openssl(*args: str) -> bytes:
    return subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True).stdout
openssl("genpkey", "-algorithm", "ed25519", "-out", "key")
nonce, public_key = os.urandom(32), openssl("pkey", "-in", "key", "-pubout", "-outform", "DER")
def sign(message: bytes) -> bytes:
    with open(os.path.join(folder, "message"), "wb") as f:
        f.write(message)
    return openssl("pkeyutl", "-sign", "-inkey", "key", "-rawin", "-in", "message")
`

// TestExamplesInPython runs each example of the document against the machine.
func TestExamplesInPython(t *testing.T) {
	t.Parallel()
	m := machine(t)
	all := map[string]string{}
	for i, b := range examples(t, "../../clients/python/README.md", "python", 5) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "mykeys.py"), []byte(myKeys), 0o600); err != nil {
			t.Fatal(err)
		}
		l := languages[0]
		l.folder = func(*testing.T) string { return dir }
		all[b.Heading] += string(l.run(t, fmt.Sprintf("example%d", i), b.Text, sockets(m)))
	}
	printed(t, all)
}

// ambient is what the examples use of Node.js, for a compiler without its types.
const ambient = `declare const console: { log(...values: unknown[]): void };
declare const Buffer: { from(text: string): Uint8Array };
declare module "node:crypto" {
  export function randomBytes(size: number): Uint8Array;
  export function generateKeyPairSync(type: "ed25519"): { privateKey: { readonly type: string; readonly asymmetricKeyType?: string } };
}
`

// TestExamplesInTypeScript compiles each example of the document as a strict user does, and runs it
// against the machine. What users must not write does not compile.
func TestExamplesInTypeScript(t *testing.T) {
	t.Parallel()
	m := machine(t)
	l := languages[1]
	l.look(t)
	dir := installed(t)
	blocks := examples(t, "../../clients/typescript/README.md", "ts", 5)
	files := []string{"ambient.d.ts", "user.mts"}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ambient.d.ts", ambient)
	write("user.mts", userInTypeScript)
	for i, b := range blocks {
		files = append(files, fmt.Sprintf("example%d.mts", i))
		write(files[i+2], b.Text+"export {};\n")
	}
	cmd := exec.CommandContext(t.Context(), "tsc", append(strict, files...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	all := map[string]string{}
	for i, b := range blocks {
		name := fmt.Sprintf("example%d", i)
		text, err := os.ReadFile(filepath.Join(dir, name+".mjs"))
		if err != nil {
			t.Fatal(err)
		}
		all[b.Heading] += string(l.run(t, name, string(text), sockets(m)))
	}
	printed(t, all)
}

// ofNode matches the globals of Node.js that a module uses without an import.
var ofNode = regexp.MustCompile(`\bprocess\.\w|\bBuffer\b`)

// TestDocumentsNeedNoNode: what reads documents imports nothing of Node.js, so that a browser can load
// it.
func TestDocumentsNeedNoNode(t *testing.T) {
	imports := regexp.MustCompile(`(?m)^(?:import|export) (?:type )?.* from "([^"]+)";$`)
	seen := map[string]bool{}
	var look func(name string)
	look = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		b, err := os.ReadFile(filepath.Join("../../clients/typescript/src", name+".ts"))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range imports.FindAllStringSubmatch(string(b), -1) {
			local, ok := strings.CutPrefix(strings.TrimSuffix(m[1], ".js"), "./")
			if !ok {
				t.Errorf("%s imports %s", name, m[1])
				continue
			}
			look(local)
		}
		if ofNode.Match(b) {
			t.Errorf("%s uses Node.js", name)
		}
	}
	look("documents")
	if len(seen) < 5 || seen["client"] {
		t.Errorf("documents lead to %v", seen)
	}
}
