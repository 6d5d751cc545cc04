// SPDX-License-Identifier: Apache-2.0

package unitfiles

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExampleUnits has systemd read the units that operators copy from docs/example.
func TestExampleUnits(t *testing.T) {
	const examples = "../../docs/example/prometheus"
	dir := t.TempDir()
	args := []string{"verify", "--man=no", "--recursive-errors=no"}
	for _, name := range []string{"agentd-metrics.service", "agentd-metrics.timer"} {
		b, err := os.ReadFile(filepath.Join(examples, name))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, name)
		if err := os.WriteFile(to, b, 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, to)
	}
	if out, err := analyze(t, args...); err != nil || strings.Contains(out, dir) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}
