// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/launchtest"
	"github.com/cvm-agentd/agentd/launch"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// otherMeasurer is the name of the variable for a checkout of sev-snp-measure, a tool in
// Python. Without it the module must be installed.
const otherMeasurer = "SEV_SNP_MEASURE"

// launchFiles writes what a guest is launched from, with sizes as real ones have.
func launchFiles(b *testing.B) string {
	b.Helper()
	firmware := launchtest.OVMF()
	firmware.Size = 4 << 20
	dir := b.TempDir()
	for name, content := range map[string][]byte{"OVMF.fd": firmware.Bytes(), "vmlinuz": make([]byte, 12<<20), "initrd.img": make([]byte, 24<<20)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

// BenchmarkLaunchCommand compares "agentctl policy launch", as a whole process, with
// sev-snp-measure. Both run in turn on the same files, and must agree. "of-python" is the
// ratio of the medians, from start to exit.
func BenchmarkLaunchCommand(b *testing.B) {
	python, err := exec.LookPath("python3")
	if err != nil {
		b.Skip("python3 is not installed")
	}
	env := append(os.Environ(), "PYTHONPATH="+os.Getenv(otherMeasurer))
	installed := exec.Command(python, "-c", "import sevsnpmeasure")
	if installed.Env = env; installed.Run() != nil {
		b.Skipf("sev-snp-measure is not installed: set %s to a checkout of it", otherMeasurer)
	}
	commands, done, err := simulated.Commands()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(done)
	dir := launchFiles(b)
	files := []string{"--kernel", "vmlinuz", "--initrd", "initrd.img", "--append", "root=/dev/vda ro", "--vcpus", "16"}
	tools := []struct {
		name   string
		args   []string
		answer string
		took   []time.Duration
	}{
		{name: "agentctl", args: append([]string{filepath.Join(commands, "agentctl"), "policy", "launch", "--firmware", "OVMF.fd", "--cpu", "EPYC-Genoa"}, files...)},
		{name: "python", args: append([]string{python, "-m", "sevsnpmeasure.cli", "--mode", "snp", "--ovmf", "OVMF.fd", "--vcpu-type", "EPYC-Genoa"}, files...)},
	}
	digest := regexp.MustCompile(`[0-9a-f]{96}`)
	for b.Loop() {
		for i := range tools {
			t := &tools[i]
			run := exec.Command(t.args[0], t.args[1:]...)
			run.Dir, run.Env = dir, env
			begin := time.Now()
			out, err := run.CombinedOutput()
			t.took = append(t.took, time.Since(begin))
			if t.answer = digest.FindString(string(out)); err != nil || t.answer == "" || t.answer != tools[0].answer {
				b.Fatalf("%s: %v\n%s", t.name, err, out)
			}
		}
	}
	b.ReportMetric(0, "ns/op") // the sum of both means nothing
	for _, t := range tools {
		b.ReportMetric(float64(middle(t.took).Microseconds())/1000, t.name+"-ms")
	}
	b.ReportMetric(float64(middle(tools[0].took))/float64(middle(tools[1].took)), "of-python")
}

// BenchmarkLaunch measures a firmware of 4 MiB for eight numbers of processors, up to 256.
func BenchmarkLaunch(b *testing.B) {
	firmware := launchtest.OVMF()
	firmware.Size = 4 << 20
	c := launch.Config{VMM: launch.QEMU, Firmware: bytes.NewReader(firmware.Bytes()), CPU: 0xA10F10}
	b.SetBytes(int64(firmware.Size))
	for b.Loop() {
		if _, err := launch.Measure(&c, 1, 2, 4, 8, 16, 32, 64, 256); err != nil {
			b.Fatal(err)
		}
	}
}
