// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cvm-agentd/agentd/test/simulated"
)

// faults returns each fault that the help of agentd-sim lists, with a value if it takes one.
func faults(t *testing.T) (out []string) {
	t.Helper()
	help, err := exec.Command(filepath.Join(shared.commands, "agentd-sim"), "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(help), "may be repeated:")
	list, _, _ := strings.Cut(rest, "--raise-tcb")
	list, ignored, _ := strings.Cut(list, "and a firmware")
	_, ignored, found := strings.Cut(ignored, "ignores=")
	for name := range strings.SplitSeq(strings.Trim(strings.TrimSpace(list), ","), ",") {
		switch name = strings.TrimSpace(name); name {
		case "throttle=TIME":
			out = append(out, "throttle=1s")
		case "status=NUMBER":
			out = append(out, "status=0x16", "status=29")
		default:
			out = append(out, name)
		}
	}
	for name := range strings.SplitSeq(ignored, ",") {
		out = append(out, "ignores="+strings.TrimSpace(name))
	}
	if !found || len(out) < 15 {
		t.Fatalf("the help lists the faults %q", out)
	}
	return out
}

// TestStatusTellsOfEveryFault: with each fault that the simulator knows, "agentctl status" ends
// with 0 exactly if the next "agentctl attest" does. Case 104.
func TestStatusTellsOfEveryFault(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts simulated machines: not with -short")
	}
	if shared.platform == "" {
		t.Skip(simulated.ErrNoTPM)
	}
	var tried, refused atomic.Int32
	all := append(faults(t), "")
	t.Cleanup(func() { // after the faults, which are parallel
		if int(tried.Load()) == len(all) && refused.Load() == 0 {
			t.Error("no fault prevents evidence")
		}
	})
	for _, fault := range all {
		t.Run("fault "+fault, func(t *testing.T) {
			t.Parallel()
			tried.Add(1)
			dir := filepath.Join(t.TempDir(), "m")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			// A device that hangs is to be given up soon, and one that throttles is not: its answer
			// comes, however slow the machine is.
			timeout := "2s"
			if strings.HasPrefix(fault, "throttle") {
				timeout = "1m"
			}
			if err := os.WriteFile(filepath.Join(dir, "config.toml"), fmt.Appendf(nil, "[report]\ntimeout = %q\n", timeout), 0o600); err != nil {
				t.Fatal(err)
			}
			var args []string
			if fault != "" {
				args = []string{"--fault", fault}
			}
			m, err := simulated.Start(shared.commands, dir, shared.platform, args...)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Kill()
			run := func(args ...string) (int, string) {
				cmd := exec.Command(filepath.Join(shared.commands, "agentctl"), args...)
				cmd.Env = append(os.Environ(), "AGENTD_SOCKET="+m.Socket())
				out, _ := cmd.CombinedOutput()
				return cmd.ProcessState.ExitCode(), string(out)
			}
			for _, waiting := range [][]string{nil, {"--wait", "1s"}} {
				status, says := run(append([]string{"status"}, waiting...)...)
				attest, prints := run("attest", "--nonce", strings.Repeat("5a", 32), "--out", filepath.Join(dir, "evidence"))
				if (status == 0) != (attest == 0) || status != 0 && status != 6 {
					t.Errorf("status %q ends with %d, attest with %d\n%s%s", waiting, status, attest, says, prints)
				}
				if ready := strings.Contains(says, "evidence: ready"); ready != (status == 0) {
					t.Errorf("status ends with %d\n%s", status, says)
				}
				if attest != 0 {
					refused.Add(1)
				}
			}
		})
	}
}
