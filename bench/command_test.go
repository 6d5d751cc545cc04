// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/export"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// BenchmarkVerifyCommand compares "agentctl verify", as a whole process, with the two
// processes that other tools need: tpm2_checkquote for the quote, and check of go-sev-guest
// for the report. All three run in turn on the same evidence. "of-both" is the ratio of the
// medians, from start to exit. "cpu-of-both" is the ratio of the processor times, which
// depends less on other work of the machine, but is not what people wait for.
func BenchmarkVerifyCommand(b *testing.B) {
	quoteTool, err := exec.LookPath("tpm2_checkquote")
	if err != nil {
		b.Skip("tpm2_checkquote is not installed: apt-get install tpm2-tools")
	}
	commands, done, err := simulated.Commands()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(done)
	reportTool := filepath.Join(b.TempDir(), "check")
	build := exec.Command("go", "build", "-o", reportTool, "github.com/google/go-sev-guest/tools/check")
	build.Dir = "../test/interop" // the module of the verifiers of other projects
	if out, err := build.CombinedOutput(); err != nil {
		b.Skipf("check of go-sev-guest cannot be built: %v\n%s", err, out)
	}
	m := simulated.Run(b)
	nonce := bytes.Repeat([]byte{0x4e}, 32)
	document, err := m.Client().Evidence(b.Context(), api.EvidenceRequest{Nonce: nonce, Freshness: evidence.Fresh})
	if err != nil {
		b.Fatal(err)
	}
	dir := exported(b, document)
	at := func(name string) string { return filepath.Join(dir, name) }
	data, err := os.ReadFile(at("quote-data"))
	if err != nil {
		b.Fatal(err)
	}
	e, err := evidence.Parse(document)
	if err != nil {
		b.Fatal(err)
	}
	reportData := e.ReportData()
	tools := []struct {
		name string
		args []string
		took []time.Duration
		cpu  []time.Duration // of user and kernel together
	}{
		{name: "agentctl", args: []string{filepath.Join(commands, "agentctl"), "verify", "--json", "--policy", m.Policy(), "--nonce", hex.EncodeToString(nonce),
			"--trust-test-root-that-vouches-for-no-hardware", m.Root(), at("evidence.json")}},
		{name: "checkquote", args: []string{quoteTool, "-u", at("ak.pem"), "-m", at("quote.msg"), "-s", at("quote.sig"), "-f", at("pcrs"), "-g", "sha256",
			"-q", string(bytes.TrimSpace(data))}},
		{name: "check", args: []string{reportTool, "-in", at("report-certificates.bin"), "-network=false", "-report_data", hex.EncodeToString(reportData[:]),
			"-guest_policy", "0x30000", "-product_key_path", at("roots.pem")}},
	}
	for b.Loop() {
		for i := range tools {
			t := &tools[i]
			run := exec.Command(t.args[0], t.args[1:]...)
			begin := time.Now()
			if out, err := run.CombinedOutput(); err != nil {
				b.Fatalf("%s: %v\n%s", t.name, err, out)
			}
			t.took = append(t.took, time.Since(begin))
			t.cpu = append(t.cpu, run.ProcessState.UserTime()+run.ProcessState.SystemTime())
		}
	}
	b.ReportMetric(0, "ns/op") // the sum of all three means nothing
	var wall, cpu []time.Duration
	for _, t := range tools {
		wall, cpu = append(wall, middle(t.took)), append(cpu, middle(t.cpu))
		b.ReportMetric(float64(middle(t.took).Microseconds())/1000, t.name+"-ms")
	}
	b.ReportMetric(float64(wall[0])/float64(wall[1]+wall[2]), "of-both")
	b.ReportMetric(float64(cpu[0])/float64(cpu[1]+cpu[2]), "cpu-of-both")
}

func middle(took []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(took))[len(took)/2]
}

// exported writes the evidence and its parts as files for the tools of other projects.
func exported(b *testing.B, document []byte) string {
	b.Helper()
	e, err := evidence.Parse(document)
	if err != nil {
		b.Fatal(err)
	}
	files, err := export.Files(e)
	if err != nil {
		b.Fatal(err)
	}
	dir := filepath.Join(b.TempDir(), "parts")
	if err := export.Write(dir, files); err != nil {
		b.Fatal(err)
	}
	var roots []byte
	for _, name := range []string{"certificate-1.pem", "certificate-0.pem"} { // intermediate and root, as check expects
		c, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			b.Fatal(fmt.Errorf("the evidence does not contain a chain: %w", err))
		}
		roots = append(roots, c...)
	}
	for name, content := range map[string][]byte{"roots.pem": roots, "evidence.json": document} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}
