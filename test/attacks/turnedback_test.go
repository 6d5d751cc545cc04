// SPDX-License-Identifier: Apache-2.0

package attacks

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/test/swtpm"
)

// TestBootForgetsWhatItMeasured: case 88. The attacker has disk and vTPM of a machine on which
// its program was measured. It ends the agent, puts the state file of an earlier boot back and
// resets the vTPM. The agent then takes the boot for a new one, and begins a log without the
// program, over a PCR that was reset to fit.
func TestBootForgetsWhatItMeasured(t *testing.T) {
	if testing.Short() {
		t.Skip("starts simulated machines: not with -short")
	}
	tpm, dir := swtpm.Start(t), filepath.Join(t.TempDir(), "m")
	flags := []string{"--tpm", tpm.Listen().Address(), "--log-in-memory"}
	state := filepath.Join(dir, "state", "ledger.json")
	x := switchOn(t, dir, flags...)
	x.attest()
	must(t, x.Stop())
	old, err := os.ReadFile(state)
	must(t, err)

	// The next boot, in which the agent measures what the attacker would rather not have run.
	tpm.Reboot()
	must(t, os.Remove(filepath.Join(dir, "log", "measurements.cel")))
	must(t, os.Remove(filepath.Join(dir, "platform", "launch")))
	x = switchOn(t, dir, flags...)
	x.declare("billing", "the attacker's program")
	refuses := policy("unlisted_apps = \"refuse\"\n", "")
	nonce, file := x.attest()
	x.verify(refuses, nonce, file).refused(t, "a program that the policy does not list", 5, "policy.app-unlisted")

	must(t, os.Remove(filepath.Join(dir, "apps.d", "billing.toml")))
	x.Kill()
	must(t, os.WriteFile(state, old, 0o600))
	tpm.Reboot()
	x = switchOn(t, dir, flags...)
	nonce, file = newNonce(), filepath.Join(t.TempDir(), "evidence.json")
	if code, _, _ := x.run("attest", "--nonce", nonce, "--out", file); code == 0 {
		t.Error("the agent gives evidence of a boot whose log it lost")
		if x.verify(refuses, nonce, file).code == 0 {
			t.Error("the verifier accepts it: the program was never measured")
		}
	}
}
