// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// TestQuoteOfTools: case 113: files of tpm2_quote are taken as they are, over any selection of
// PCRs. A quote alone is never accepted, and a changed value is found.
func TestQuoteOfTools(t *testing.T) {
	p := swtpm.Start(t).Listen()
	dir := folder(t, map[string][]byte{"policy.toml": []byte("binding = \"none\"\nlog = \"optional\"\nfreshness = \"any\"\n" + openPolicy)})
	t.Chdir(dir)
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := p.Tool(t, dir, name, args...); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		if out, err := p.Tool(t, dir, "tpm2_flushcontext", "-t"); err != nil { // no resource manager does
			t.Fatalf("%v\n%s", err, out)
		}
	}
	run("tpm2_createek", "-c", "0x81010002", "-G", "ecc", "-u", "ek.pub")
	run("tpm2_createak", "-C", "0x81010002", "-c", "ak.ctx", "-u", "ak.pub", "-n", "ak.name", "-G", "ecc", "-g", "sha256", "-s", "ecdsa")
	run("tpm2_readpublic", "-c", "ak.ctx", "-f", "pem", "-o", "ak.pem")
	run("tpm2_pcrextend", "7:sha256="+strings.Repeat("5f", 32))
	run("tpm2_pcrread", "-o", "all", "sha256:all")
	nonce := hex.EncodeToString(evidencetest.Nonce)
	for _, pcrs := range []string{"7", "0,7,13", "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "all"} {
		for _, form := range []string{"serialized", "values"} {
			run("tpm2_quote", "-c", "ak.ctx", "-l", "sha256:"+pcrs, "-q", nonce, "-m", "quote", "-s", "signature", "-o", "pcrs", "-F", form)
			verify := func() (int, string) {
				code, stdout, stderr := agentctl(t, "verify", "--verbose", "--policy", "policy.toml", "--nonce", nonce, "--ak", "ak.pub", "--quote", "quote", "--signature", "signature", "--pcrs", "pcrs")
				return code, stdout + stderr
			}
			code, out := verify()
			for _, check := range []string{"quote.signature", "quote.pcr-digest", "quote.qualifying-data"} {
				if !strings.Contains(out, "pass  "+check+" ") {
					t.Errorf("%s, %s: %s did not pass:\n%s", pcrs, form, check, out)
				}
			}
			if code == 0 {
				t.Errorf("%s, %s: a quote alone was accepted", pcrs, form)
			}
			b, err := os.ReadFile(filepath.Join(dir, "pcrs"))
			if err != nil {
				t.Fatal(err)
			}
			at := strings.Index(string(b), string(mustRead(t, "all")[7*pcrSize:8*pcrSize]))
			b[at] ^= 1
			if err := os.WriteFile("pcrs", b, 0o600); err != nil {
				t.Fatal(err)
			}
			if code, out := verify(); code != 2 || !strings.Contains(out, "FAIL  quote.pcr-digest") {
				t.Errorf("%s, %s: a changed value: exit code %d\n%s", pcrs, form, code, out)
			}
		}
	}
	for name, content := range map[string][]byte{"cut": mustRead(t, "pcrs")[:20], "nothing": {}, "too many": make([]byte, 31*pcrSize)} {
		if err := os.WriteFile("pcrs", content, 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, stderr := agentctl(t, "verify", "--policy", "policy.toml", "--nonce", nonce, "--ak", "ak.pub", "--quote", "quote", "--signature", "signature", "--pcrs", "pcrs")
		if code != exitMisuse || !strings.Contains(stderr, "tpm2_quote -o") {
			t.Errorf("%s: exit code %d\n%s", name, code, stderr)
		}
	}
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestHCLAlone: case 113: a paravisor's report without a quote is appraised as far as it goes,
// and never accepted, whatever the policy says.
func TestHCLAlone(t *testing.T) {
	set := evidencetest.NewParavisor().Build(t)
	files := map[string][]byte{"hcl.bin": set.HCL, "root.pem": rootPEM(t), "policy.toml": []byte("binding = \"none\"\nlog = \"optional\"\nfreshness = \"any\"\n" + openPolicy)}
	args := []string{"verify", "--verbose", "--policy", "policy.toml", "--accept-replay", "--azure-hcl", "hcl.bin",
		"--at", "2026-06-01T12:00:00Z", "--trust-test-root-that-vouches-for-no-hardware", "root.pem"}
	for i, der := range set.Certificates { // so that nothing is missing but the quote
		name := string('a' + rune(i))
		files[name] = der
		args = append(args, "--certificate", name)
	}
	t.Chdir(folder(t, files))
	code, stdout, stderr := agentctl(t, args...)
	for _, want := range []string{"pass  paravisor.decode", "pass  report.decode", "pass  report.signature", "pass  binding.runtime-data", "no quote was given"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("does not say %q", want)
		}
	}
	if code == 0 || code == exitMisuse {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}
