// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/hex"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/export"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// TestForgeries: cases 44 and 45. Two attestations that tpm2_checkquote of tpm2-tools
// 5.4 takes for quotes, both truly signed by the AK: one with another magic, and an NV
// certification whose contents the attacker wrote. If the tool is installed, the
// test runs it on them, which shows that they are not invented.
func TestForgeries(t *testing.T) {
	for _, c := range []struct {
		name   string
		stops  CheckID
		attest func(*evidencetest.Attestation)
	}{
		{"none", "", nil},
		{"wrong magic", QuoteMagic, func(a *evidencetest.Attestation) { a.Magic = 0xff544348 }},
		{"NV certification", QuoteType, nvCertify},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := evidencetest.New()
			r.Batch.Attest = c.attest
			e := r.Build(t)
			document, err := strictjson.Encode(e)
			if err != nil {
				t.Fatal(err)
			}
			a, err := appraiseEvidence(document, baseOptions(t))
			if err != nil {
				t.Fatal(err)
			}
			if c.stops == "" && a.Verdict != Pass || c.stops != "" && (a.Verdict != Fail || a.Check(c.stops).Verdict != Fail || a.ExitCode() != 2) {
				t.Errorf("verdict %s:\n%s", a.Verdict, explain(a))
			}
			t.Logf("tpm2_checkquote: %s", checkquote(t, e))
		})
	}
}

// checkquote is what the tool says of the evidence, given as files.
func checkquote(t *testing.T, e *evidence.Evidence) string {
	t.Helper()
	tool, err := exec.LookPath("tpm2_checkquote")
	if err != nil {
		return "not installed"
	}
	good := *e
	good.Batch.Quote = evidencetest.New().Build(t).Batch.Quote // the export refuses the forgeries
	files, err := export.Files(&good)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i := range files {
		switch files[i].Name {
		case "quote.msg":
			files[i].Content = e.Batch.Quote.Attest
		case "quote.sig":
			files[i].Content = e.Batch.Quote.Signature
		}
	}
	if err := export.Write(dir, files); err != nil {
		t.Fatal(err)
	}
	data := evidence.QuoteData(e.Batch.Tree, nil)
	in := func(name string) string { return filepath.Join(dir, name) }
	out, err := exec.Command(tool, "-u", in("ak.pem"), "-m", in("quote.msg"), "-s", in("quote.sig"), "-f", in("pcrs"), "-g", "sha256", "-q", hex.EncodeToString(data[:])).CombinedOutput()
	if err != nil {
		return "refused: " + err.Error() + " " + string(out[:min(len(out), 200)])
	}
	return "accepted"
}
