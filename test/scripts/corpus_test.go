// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/corpus"
	"github.com/cvm-agentd/agentd/internal/page/pagetest"
	"github.com/cvm-agentd/agentd/verify"
)

// TestCorpusByCommand: case 63. The command refuses every file of the corpus by the
// checks that the file names, as the library does, and ends with the class as its code.
func TestCorpusByCommand(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a process for each case: not with -short")
	}
	all, err := corpus.Read("../../internal/corpus/cases")
	if err != nil {
		t.Fatal(err)
	}
	var skipped atomic.Int32
	t.Cleanup(func() { // after the cases, which are parallel
		if n := skipped.Load(); n > 2 {
			t.Errorf("%d cases were skipped", n)
		}
	})
	for _, c := range all.Cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			if c.PublicKey != nil && len(c.PublicKey) == 0 {
				skipped.Add(1)
				t.Skip("an empty public key cannot be named on the command line")
			}
			if c.Material == corpus.Paravisor && len(c.PCRs) != 24*32 {
				skipped.Add(1)
				t.Skip("a file of PCRs of another size is misuse of the command")
			}
			page := filepath.Join(t.TempDir(), "page.html")
			cmd := exec.Command(filepath.Join(shared.commands, "agentctl"), append(corpusArguments(t, all, c), "--html", page)...)
			if c.Material == "" {
				cmd.Stdin = bytes.NewReader(c.Evidence)
			}
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != c.Class {
				t.Fatalf("ended with %v, want exit code %d\n%s", err, c.Class, &stderr)
			}
			var a verify.Appraisal
			if err := json.Unmarshal(out, &a); err != nil {
				t.Fatal(err)
			}
			var failed []string
			for _, x := range a.Checks {
				if x.Verdict == verify.Fail {
					failed = append(failed, string(x.ID))
				}
			}
			if !slices.Equal(failed, c.Fails) || int(a.Class) != c.Class || a.Verdict != verify.Fail || bytes.Contains(out, []byte("\"claims\"")) {
				t.Errorf("class %d, failed %v; want %d, %v", a.Class, failed, c.Class, c.Fails)
			}
			checkPage(t, page, &a, c.Root == "test")
		})
	}
}

// checkPage checks that a page of refused evidence is sound, says so first, and has every check.
func checkPage(t *testing.T, name string, a *verify.Appraisal, testRoot bool) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pagetest.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	verdict := "Refused"
	if testRoot {
		verdict += ", under a TEST ROOT"
	}
	if p.Verdict != verdict || p.Tone != "tone-refused" || len(p.States) != len(a.Checks) || len(b) > 1<<20 {
		t.Errorf("the page says %q, %s, has %d of %d checks and %d bytes", p.Verdict, p.Tone, len(p.States), len(a.Checks), len(b))
	}
	for _, c := range a.Checks {
		if state := p.States[string(c.ID)]; (c.Verdict == verify.Fail) != (state == "failed") || state == "" {
			t.Errorf("the page has %s as %q, and its verdict is %s", c.ID, state, c.Verdict)
		}
	}
}

func corpusArguments(t *testing.T, all *corpus.Corpus, c *corpus.Case) []string {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	args := []string{"verify", "--json", "--policy", file("policy.toml", c.Policy), "--at", c.Time.Format(time.RFC3339)}
	if c.Nonce != nil {
		args = append(args, "--nonce", "hex:"+hex.EncodeToString(c.Nonce))
	}
	if c.Root == "test" {
		args = append(args, "--trust-test-root-that-vouches-for-no-hardware", filepath.Join(all.Dir, "root.pem"))
	}
	if c.Shared {
		args = append(args, "--certificate", filepath.Join(all.Dir, "certificates.pem"))
	}
	if c.Audience != "" {
		args = append(args, "--audience", c.Audience)
	}
	if c.PublicKey != nil {
		args = append(args, "--public-key", file("key", c.PublicKey))
	}
	if c.UserData != nil {
		args = append(args, "--user-data", "@"+file("data", c.UserData))
	}
	for i, der := range c.Revoked {
		args = append(args, "--crl", file(fmt.Sprintf("crl%d", i), der))
	}
	if c.LogState != nil {
		args = append(args, "--known-log", file("log", c.LogState))
	}
	if c.IMAList != nil {
		args = append(args, "--ima-list", file("ima", c.IMAList))
	}
	if c.IMAReference != nil {
		args = append(args, "--ima-reference", file("reference", c.IMAReference))
	}
	for i, der := range c.Certificates {
		args = append(args, "--certificate", file(fmt.Sprintf("certificate%d", i), der))
	}
	if c.ReportData != nil {
		args = append(args, "--report-data", "hex:"+hex.EncodeToString(c.ReportData))
	}
	switch c.Material {
	case corpus.Report:
		return append(args, "--snp-report", file("report", c.Evidence))
	case corpus.Paravisor:
		if c.FirmwareLog != nil {
			args = append(args, "--firmware-log", file("firmware", c.FirmwareLog))
		}
		return append(args, "--azure-hcl", file("hcl", c.Evidence), "--quote", file("quote", c.Quote), "--signature", file("signature", c.Signature), "--pcrs", file("pcrs", c.PCRs))
	}
	return append(args, "-")
}
