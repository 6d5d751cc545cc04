// SPDX-License-Identifier: Apache-2.0

package attacks

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify"
)

// TestOldReportCountsAsFresh: the relying party states what REPORT_DATA must be, and the
// protocol around it has a constant there: a key, for instance. The attacker sends a report
// of last year that has the same constant. Nothing says when it was made, so it is not fresh.
func TestOldReportCountsAsFresh(t *testing.T) {
	x := switchOn(t, filepath.Join(t.TempDir(), "m"))
	_, file := x.attest()
	b, err := os.ReadFile(file)
	must(t, err)
	e, err := evidence.Parse(b)
	must(t, err)
	data := e.ReportData()
	args := []string{"--report-data", hex.EncodeToString(data[:]), "--snp-report", write(t, string(e.Report.Bytes))}
	for _, c := range e.Certificates {
		args = append(args, "--certificate", write(t, string(c)))
	}
	const bare = "binding = \"none\"\nlog = \"optional\"\n"
	known := x.verifyRaw(policy(bare+"freshness = \"any\"\n", ""), args...)
	known.accepted(t, "a report with the stated data, of any age")
	if known.Freshness != verify.UnknownReport {
		t.Errorf("its freshness is %q", known.Freshness)
	}
	x.verifyRaw(policy(bare, ""), args...).refused(t, "a report of unknown age where a fresh one is asked for", 5, "policy.freshness")

	// A nonce that is short enough to come again does not date evidence either.
	code, stdout, _ := x.run("verify", "--policy", write(t, policy("", "")), "--nonce", "00112233445566778899aabbccddee", "--trust-test-root-that-vouches-for-no-hardware", x.Root(), file)
	if code != 1 || stdout != "" {
		t.Errorf("a nonce of 15 bytes: exit code %d\n%s", code, stdout)
	}
}
