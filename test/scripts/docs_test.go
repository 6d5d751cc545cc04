// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/test/pages"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// TestVerifyDocumentation runs the commands of docs/verify.md, in a copy of its example,
// and compares each that is refused with the exit code and check next to it.
func TestVerifyDocumentation(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs the built commands: not with -short")
	}
	script, err := pages.Session("../../docs/verify.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "docs", "example"), os.DirFS("../../docs/example")); err != nil {
		t.Fatal(err)
	}
	session := strings.Replace(script, "make build\n", "", 1)
	if session = strings.Replace(session, "$PWD/bin", shared.commands, 1); !strings.Contains(session, shared.commands) {
		t.Fatal("docs/verify.md does not say where agentctl comes from")
	}
	cmd := exec.Command("sh", "-eu", "-c", session)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	b, err := cmd.CombinedOutput()
	out := string(b)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"NOT VERIFIED", "Not checked:", "pass, by the guest's word: accepted. Binding guest-asserted", "THE ROOT IS A TEST ROOT"} {
		if !strings.Contains(out, want) {
			t.Errorf("the commands do not print %q", want)
		}
	}
	if err := pages.Promised(script, out); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// TestVerifyHelp: the help names what a beginner needs, and the page to read next.
func TestVerifyHelp(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs the built commands: not with -short")
	}
	help, err := exec.Command(filepath.Join(shared.commands, "agentctl"), "verify", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"--policy FILE", "--collateral DIR", "--snp-report FILE", "--azure-hcl FILE", "docs/verify.md",
		"Exit codes: 0 accepted, 1 misuse, 2 a signature or binding is broken", "Examples:"} {
		if !strings.Contains(string(help), want) {
			t.Errorf("verify --help does not say %q", want)
		}
	}
}

// TestCommandIsLibrary: case 63. For evidence that is accepted, the command prints what
// the library gives, byte for byte.
func TestCommandIsLibrary(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs the built commands: not with -short")
	}
	const folder = "../../docs/example/"
	read := func(name string) []byte {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	block, _ := pem.Decode(read(folder + "test-root.pem"))
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots, at, expect := new(snp.Roots), time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC), verify.Expect{UnsafeAcceptReplay: true}
	if err := roots.AddTestRootThatVouchesForNoHardware(root); err != nil {
		t.Fatal(err)
	}
	document := read(folder + "evidence.json")
	config := verify.Config{Roots: verify.Roots{SNP: roots}}
	policy, _, err := verify.DraftPolicy(document, config, expect, at)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "policy.toml")
	if err := os.WriteFile(name, policy, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := verify.ParsePolicy(policy)
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.New(p, config)
	if err != nil {
		t.Fatal(err)
	}
	a, err := v.Appraise(document, expect, at)
	if err != nil || a.Verdict != verify.Pass {
		t.Fatalf("%v: %v", err, a.Sentences)
	}
	want, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got, err := exec.Command(filepath.Join(shared.commands, "agentctl"), "verify", "--json", "--policy", name, "--accept-replay", "--at", "2026-06-01",
		"--trust-test-root-that-vouches-for-no-hardware", folder+"test-root.pem", folder+"evidence.json").Output()
	if err != nil || string(got) != string(want)+"\n" {
		t.Errorf("%v: the command prints\n%s\nthe library gives\n%s", err, got, want)
	}
}
