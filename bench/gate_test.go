// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/declared"
	"github.com/cvm-agentd/agentd/internal/gatewire"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// BenchmarkGate measures how long a program of a guarded app takes to start and to end, as a
// multiple of the same program elsewhere (medians). The manifest lists it.
func BenchmarkGate(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("the gate needs root")
	}
	commands, done, err := simulated.Commands()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(done)
	root := b.TempDir()
	guarded, free, dir := filepath.Join(root, "guarded"), filepath.Join(root, "free"), filepath.Join(root, "m")
	content, err := os.ReadFile("/bin/true")
	if err != nil {
		b.Fatal(err)
	}
	for _, folder := range []string{guarded, free} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "true"), content, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	text := fmt.Sprintf("unit = \"bench.service\"\nuser = \"root\"\ndirectories = [%q]\ngate = true\n", guarded)
	if err := os.MkdirAll(filepath.Join(dir, "apps.d"), 0o700); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "apps.d", "bench.toml"), []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	m, err := simulated.Start(commands, dir, "", "--declare-identity-without-checking")
	if err == simulated.ErrNoTPM {
		b.Skip(err)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(m.Kill)
	gate := exec.Command(filepath.Join(commands, "agentd-gate"), "--socket", filepath.Join(dir, "gate.sock"))
	gate.Env = append(os.Environ(), declared.Variable+"="+gatewire.Unit)
	if err := gate.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		gate.Process.Kill()
		gate.Wait()
	})
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		st, err := m.Client().Status(b.Context())
		if err == nil && st.Gate != nil && st.Gate.Guarded == 1 {
			break
		}
		if time.Now().After(end) {
			b.Skip("the gate guards nothing: permission events of the kernel are not permitted here")
		}
	}
	start := func(folder string) func() error {
		return func() error { return exec.Command(filepath.Join(folder, "true")).Run() }
	}
	var ratio float64
	for b.Loop() {
		plain := median(b, 300, start(free))
		ratio = float64(median(b, 300, start(guarded))) / float64(plain)
	}
	b.ReportMetric(ratio, "guarded-of-free")
	b.ReportMetric(0, "ns/op")
}
