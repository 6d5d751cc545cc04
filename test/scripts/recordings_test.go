// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/internal/vectors"
	"github.com/cvm-agentd/agentd/verify"
)

// TestRecordingsByCommand: what real machines recorded, through the flags that take it.
// The library's tests check every recording. This test checks the way from files to a
// verdict.
func TestRecordingsByCommand(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs the built commands: not with -short")
	}
	dir := filepath.Join(vectors.Dir(t), "confidential-containers_trustee")
	at := func(name string) string { return filepath.Join(dir, name) }
	const common = "version = 1\nproducts = [\"milan\", \"genoa\"]\nunlisted_launch = \"allow\"\nlog = \"optional\"\nallow_provisional_firmware = true\n"
	policy := func(t *testing.T, more string) string {
		t.Helper()
		p := filepath.Join(t.TempDir(), "policy.toml")
		if err := os.WriteFile(p, []byte(common+more), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	report := []string{"--snp-report", at("test-report.bin"), "--certificate", at("test-vcek.der"), "--at", "2024-06-01"}
	set := []string{"--azure-hcl", at("extracted_evidence-v0.hcl.bin"), "--quote", at("extracted_evidence-v0.quote.msg"),
		"--signature", at("extracted_evidence-v0.quote.sig"), "--pcrs", at("extracted_evidence-v0.pcrs.bin"),
		"--certificate", at("extracted_evidence-v0.vcek.pem"), "--at", "2025-06-01"}
	for _, c := range []struct {
		name, policy string
		args         []string
		code         int
		fails        []verify.CheckID
	}{
		{"report", "binding = \"none\"\nfreshness = \"any\"\n", append(report, "--accept-replay"), 0, nil},
		{"report, other data", "binding = \"none\"\n", append(report, "--report-data", "0102"), 2, []verify.CheckID{"report.expected-data"}},
		{"report, another chip's certificate", "binding = \"none\"\nfreshness = \"any\"\n",
			[]string{"--snp-report", at("test-report.bin"), "--certificate", at("extracted_evidence-v0.vcek.pem"), "--at", "2025-06-01", "--accept-replay"}, 2,
			[]verify.CheckID{"report.signature", "report.chip"}},
		{"report, no certificate", "binding = \"none\"\nfreshness = \"any\"\n", []string{"--snp-report", at("test-report.bin"), "--accept-replay"}, 3, []verify.CheckID{"report.certificate"}},
		{"paravisor", "freshness = \"any\"\n", append(set, "--accept-replay"), 0, nil},
		{"paravisor, another nonce", "freshness = \"any\"\n", append(set, "--nonce", "hex:6368616c6c656e67656368616c6c656e6765"), 2, []verify.CheckID{"quote.qualifying-data"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(filepath.Join(shared.commands, "agentctl"), append([]string{"verify", "--json", "--policy", policy(t, c.policy)}, c.args...)...)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			code := 0
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				code = exit.ExitCode()
			} else if err != nil {
				t.Fatal(err)
			}
			var a verify.Appraisal
			if err := json.Unmarshal(out, &a); err != nil {
				t.Fatal(err)
			}
			for _, id := range c.fails {
				if a.Check(id).Verdict != verify.Fail {
					t.Errorf("%s: %s", id, a.Check(id).Verdict)
				}
			}
			if code != c.code || int(a.Class) != c.code {
				failed := []verify.CheckID{}
				for _, f := range a.Failed() {
					failed = append(failed, f.ID)
				}
				slices.Sort(failed)
				t.Errorf("exit code %d, want %d: %v", code, c.code, failed)
			}
		})
	}
}
