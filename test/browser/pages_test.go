// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/page"
	"github.com/cvm-agentd/agentd/verify"
)

// A document is a page to look at.
type document struct{ name, file string }

// nonce is that of docs/example, as docs/verify.md has it.
var nonce = strings.Repeat("4e", 32)

// pages makes the pages, with the command as a relying party runs it: of the evidence in docs/example,
// of the same under a policy that asks for more, of a forgery, and one full of hostile text.
func pages(t *testing.T) (out []document) {
	t.Helper()
	dir := t.TempDir()
	agentctl := filepath.Join(dir, "agentctl")
	if b, err := exec.CommandContext(t.Context(), "go", "build", "-o", agentctl, "../../cmd/agentctl").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	must(t, os.CopyFS(filepath.Join(dir, "example"), os.DirFS("../../docs/example")))
	run := func(code int, args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), agentctl, append(args, "--trust-test-root-that-vouches-for-no-hardware", "test-root.pem", "--at", "2026-06-01")...)
		cmd.Dir = filepath.Join(dir, "example")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		b, _ := cmd.Output()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Fatalf("agentctl %v ended with %d, want %d: %s", args, got, code, &stderr)
		}
		return b
	}
	rewrite := func(from, to, old, replacement string) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, "example", from))
		must(t, err)
		changed := strings.Replace(string(b), old, replacement, 1)
		if changed == string(b) {
			t.Fatalf("%s has no %q", from, old)
		}
		must(t, os.WriteFile(filepath.Join(dir, "example", to), []byte(changed), 0o600))
	}
	run(0, "policy", "init", "--from", "evidence.json", "--out", "policy.toml")
	rewrite("policy.toml", "other.toml", "name = \"billing\"", "name = \"payment\"")
	signature := `"agentSignature":"`
	original, err := os.ReadFile("../../docs/example/evidence.json")
	must(t, err)
	_, after, _ := strings.Cut(string(original), signature)
	other := "A"
	if after[:1] == other {
		other = "B"
	}
	rewrite("evidence.json", "forged.json", signature+after[:1], signature+other)
	for _, x := range []struct {
		name, policy, evidence string
		code                   int
	}{{"accepted", "policy.toml", "evidence.json", 0}, {"not-accepted", "other.toml", "evidence.json", 5}, {"forged", "policy.toml", "forged.json", 2}} {
		file := filepath.Join(dir, x.name+".html")
		whole := run(x.code, "verify", "--json", "--policy", x.policy, "--nonce", nonce, "--html", file, x.evidence)
		out = append(out, document{x.name, file})
		if x.code == 0 {
			out = append(out, document{"hostile", hostile(t, dir, whole)})
		}
	}
	return out
}

// hostile draws an appraisal whose texts are of an attacker, and returns the file.
func hostile(t *testing.T, dir string, whole []byte) string {
	t.Helper()
	var a verify.Appraisal
	must(t, json.Unmarshal(whole, &a))
	bad := `</title></style></svg><script>console.log("in")</script><img src="http://127.0.0.1:9/x.png"> ' onload='x ` + strings.Repeat("W", 300) + " \u202e עברית 日本語" + strings.Repeat("\u0338", 30)
	c, err := a.Claims()
	must(t, err)
	c.Machine.Label, c.Machine.Root, c.Statement.Audience, c.Statement.Caller.Unit, c.Statement.Caller.App = bad, bad, bad, bad, bad
	c.Log.Apps[0].Name, c.Log.Apps[0].Versions[0].Unit, c.Log.Apps[0].Versions[0].User = bad, bad, bad
	c.Log.Gaps = []verify.RecordedReason{{Record: 3, Reason: bad}}
	c.Log.Emitted = []verify.EmittedClaim{{App: bad, Domain: bad, Content: []byte(bad), First: 3, Last: 3, Count: 1}}
	c.PCRs[0].Bank, c.PCRs[0].Value = bad, bad
	a.Sentences = append(a.Sentences, bad)
	for i := range a.Checks {
		a.Checks[i].Sentence = bad
	}
	var b bytes.Buffer
	must(t, page.Write(&b, &a, page.Options{Name: bad, TestRoot: true}))
	file := filepath.Join(dir, "hostile.html")
	must(t, os.WriteFile(file, b.Bytes(), 0o600))
	return file
}
