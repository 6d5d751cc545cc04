// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// folder writes files into a folder of the test.
func folder(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// agentctl runs a command line in this process.
func agentctl(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &terminal{in: strings.NewReader(""), out: &out, err: &errs})
	return code, out.String(), errs.String()
}

func rootPEM(t *testing.T) []byte {
	t.Helper()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: evidencetest.Root(t, snp.Genoa).Raw})
}

const openPolicy = "version = 1\nunlisted_launch = \"allow\"\n"

// TestVerifyExitCodes: each class of failure has its own, and the command names the
// same checks as the library. Case 63.
func TestVerifyExitCodes(t *testing.T) {
	day := evidencetest.Time
	revoked := evidencetest.RevocationListDER(t, snp.Genoa, day.AddDate(0, -1, 0), day.AddDate(0, 1, 0), evidencetest.Serial)
	for _, c := range []struct {
		name   string
		change func(*evidencetest.Recipe)
		policy string
		args   []string
		code   int
		failed verify.CheckID
	}{
		{name: "accepted", code: 0},
		{name: "forged", change: func(r *evidencetest.Recipe) {
			r.Batch.Attest = func(a *evidencetest.Attestation) { a.Magic++ }
		}, code: 2, failed: "quote.magic"},
		{name: "no certificates", change: func(r *evidencetest.Recipe) { r.Report.NoCertificates = true }, code: 3, failed: "report.certificate"},
		{name: "no revocation list", policy: "revocation = \"required\"\n", code: 3, failed: "report.revocation-list"},
		{name: "revoked", args: []string{"--crl", "crl.der"}, code: 4, failed: "report.revocation"},
		{name: "policy", policy: "vmpl = [1]\n", code: 5, failed: "policy.vmpl"},
		{name: "forged and against the policy: the graver counts", change: func(r *evidencetest.Recipe) {
			r.Batch.Attest = func(a *evidencetest.Attestation) { a.Magic++ }
		}, policy: "vmpl = [1]\n", code: 2, failed: "quote.magic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := evidencetest.New()
			if c.change != nil {
				c.change(r)
			}
			document := r.Encode(t)
			dir := folder(t, map[string][]byte{"e.json": document, "policy.toml": []byte(openPolicy + c.policy), "root.pem": rootPEM(t), "crl.der": revoked})
			t.Chdir(dir)
			args := append([]string{"verify", "--policy", "policy.toml", "--nonce", hex.EncodeToString(evidencetest.Nonce), "--at", "2026-06-01T12:00:00Z",
				"--trust-test-root-that-vouches-for-no-hardware", "root.pem"}, c.args...)

			code, stdout, stderr := agentctl(t, append(args, "e.json")...)
			if code != c.code {
				t.Fatalf("exit code %d, want %d\n%s%s", code, c.code, stdout, stderr)
			}
			if c.failed != "" && !strings.Contains(stdout, "FAIL  "+string(c.failed)) {
				t.Errorf("output does not name %s:\n%s", c.failed, stdout)
			}
			_, stdout, _ = agentctl(t, append(args, "--json", "e.json")...)
			var command verify.Appraisal
			if err := json.Unmarshal([]byte(stdout), &command); err != nil {
				t.Fatal(err)
			}
			if library := appraise(t, document, dir, slices.Contains(c.args, "--crl")); !slices.Equal(verdicts(&command), verdicts(library)) {
				t.Error("command and library give different verdicts")
			}
		})
	}
}

// appraise is what the library says of the same files.
func appraise(t *testing.T, document []byte, dir string, crl bool) *verify.Appraisal {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "policy.toml"))
	if err != nil {
		t.Fatal(err)
	}
	policy, err := verify.ParsePolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	roots := new(snp.Roots)
	root, err := x509.ParseCertificate(evidencetest.Root(t, snp.Genoa).Raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := roots.AddTestRootThatVouchesForNoHardware(root); err != nil {
		t.Fatal(err)
	}
	config := verify.Config{Roots: verify.Roots{SNP: roots}}
	if crl {
		b, err := os.ReadFile(filepath.Join(dir, "crl.der"))
		if err != nil {
			t.Fatal(err)
		}
		list, err := snp.ParseRevocationList(b)
		if err != nil {
			t.Fatal(err)
		}
		config.Revocation.SNP = []*snp.RevocationList{list}
	}
	v, err := verify.New(policy, config)
	if err != nil {
		t.Fatal(err)
	}
	a, err := v.Appraise(document, verify.Expect{Nonce: evidencetest.Nonce}, evidencetest.Time)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func verdicts(a *verify.Appraisal) []string {
	var out []string
	for _, c := range a.Checks {
		out = append(out, string(c.ID)+" "+string(c.Verdict))
	}
	return out
}

// TestTextCannotSteerTheTerminal: evidence is written by strangers.
func TestTextCannotSteerTheTerminal(t *testing.T) {
	if got := cleanLine("a\x1b[2Jb\nc\u202ed"); strings.ContainsAny(got, "\x1b\n\u202e") {
		t.Errorf("cleanLine leaves %q", got)
	}
}

// FuzzShow draws whatever passes for evidence.
func FuzzShow(f *testing.F) {
	f.Add(evidencetest.New().Encode(f))
	f.Add([]byte(`{"type":"agentd/evidence/2"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var out, errs bytes.Buffer
		run(t.Context(), []string{"show", "-"}, &terminal{in: bytes.NewReader(b), out: &out, err: &errs})
		if bytes.ContainsRune(out.Bytes(), 0x1b) {
			t.Error("an escape character reached the terminal")
		}
	})
}
