// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify"
)

// TestFirmwareLogByCommand: the firmware's log of a paravisor's set explains the PCRs
// that it leads to, and is refused if it would be ignored.
func TestFirmwareLogByCommand(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs the built commands: not with -short")
	}
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	r := evidencetest.NewParavisor()
	r.Booted = true
	s := r.Build(t)
	policy := file("policy.toml", fmt.Appendf(nil, "version = 1\nlog = \"optional\"\n[[launch]]\nmeasurement = %q\nkind = \"paravisor\"\ncovers = \"firmware\"\n", hex.EncodeToString(evidencetest.Measurement)))
	args := []string{"verify", "--json", "--policy", policy, "--at", evidencetest.Time.Format(time.RFC3339), "--nonce", "hex:" + hex.EncodeToString(evidencetest.Nonce),
		"--trust-test-root-that-vouches-for-no-hardware", "../../internal/corpus/cases/root.pem"}
	for i, der := range s.Certificates {
		args = append(args, "--certificate", file(fmt.Sprintf("certificate%d", i), der))
	}
	set := append(args[:len(args):len(args)], "--user-data", "hex:"+hex.EncodeToString(r.UserData), "--azure-hcl", file("hcl", s.HCL), "--quote", file("quote", s.Quote),
		"--signature", file("signature", s.Signature), "--pcrs", file("pcrs", s.PCRs))
	run := func(args ...string) (*verify.Appraisal, string, int) {
		cmd := exec.Command(filepath.Join(shared.commands, "agentctl"), args...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, _ := cmd.Output()
		a := new(verify.Appraisal)
		if len(out) > 0 {
			if err := json.Unmarshal(out, a); err != nil {
				t.Fatal(err)
			}
		}
		return a, stderr.String(), cmd.ProcessState.ExitCode()
	}
	log := file("log", s.FirmwareLog)
	for _, c := range []struct {
		args []string
		want verify.Explanation
	}{{set, verify.Unexplained}, {append(set[:len(set):len(set)], "--firmware-log", log), verify.ByFirmware}} {
		a, stderr, code := run(c.args...)
		claims, err := a.Claims()
		if code != 0 || err != nil {
			t.Fatalf("exit code %d, %v\n%s", code, err, stderr)
		}
		if got := claims.PCRs[4]; got.Index != 4 || got.Explained != c.want {
			t.Errorf("PCR %d is explained by %q, want PCR 4 by %q", got.Index, got.Explained, c.want)
		}
	}
	// The host's firmware wrote it, and nothing signed it: it is unusable, and forges nothing.
	garbage := append(set[:len(set):len(set)], "--firmware-log", file("garbage", []byte("no log")))
	if a, _, code := run(garbage...); code != 0 || a.Check("firmware.decode").Verdict != verify.NotAsserted || !strings.Contains(a.Check("firmware.decode").Sentence, "event 0 at byte 0") {
		t.Errorf("garbage: exit code %d, %+v", code, a.Check("firmware.decode"))
	}
	text, err := os.ReadFile(policy)
	if err != nil {
		t.Fatal(err)
	}
	garbage[slices.Index(garbage, policy)] = file("required.toml", append([]byte("firmware_log = \"required\"\n"), text...))
	if a, _, code := run(garbage...); code != 3 || a.Check("firmware.decode").Verdict != verify.Fail {
		t.Errorf("garbage, and the log is required: exit code %d", code)
	}
	for what, args := range map[string][]string{
		"for evidence":      append(args[:len(args):len(args)], "--firmware-log", log, "-"),
		"for a bare report": append(args[:len(args):len(args)], "--firmware-log", log, "--snp-report", file("report", s.HCL[32:1216])),
		"empty":             append(set[:len(set):len(set)], "--firmware-log", file("empty", nil)),
	} {
		if _, stderr, code := run(args...); code != 1 || !strings.Contains(stderr, "--firmware-log") {
			t.Errorf("%s: exit code %d\n%s", what, code, stderr)
		}
	}
}
