// SPDX-License-Identifier: Apache-2.0

package attacks

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/test/swtpm"
)

// TestEventLeftInItsRegisterCounts: an application had recorded what a policy forbids, in a PCR of
// its own. Root deletes log and state, and has the agent begin a log whose events are in another
// PCR that is still zero, or in none of their own. Quote and AK are genuine.
func TestEventLeftInItsRegisterCounts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts simulated machines: not with -short")
	}
	dir, address := filepath.Join(t.TempDir(), "m"), swtpm.Start(t).Listen().Address()
	configure := func(text string) {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(dir, "config.toml"), []byte(text), 0o600))
	}
	must(t, os.Mkdir(dir, 0o700))
	configure("[measurement]\nevents_pcr = 14\n")
	again := func() *target { return switchOn(t, dir, "--tpm", address, "--declare-identity-without-checking") }
	x := again()
	x.declare("billing", "a program")
	forbids := policy("tolerate_gaps = true\n", "\n[[event]]\napp = \"billing\"\ndomain = \"mode\"\ndemand = \"absent\"\n")
	nonce, file := x.attest()
	x.verify(forbids, nonce, file).accepted(t, "the machine before the event")
	if code, _, stderr := x.runAs("billing.service", "event", "emit", "--domain", "mode", "--content", "debug"); code != 0 {
		t.Fatal(stderr)
	}
	nonce, file = x.attest()
	x.verify(forbids, nonce, file).refused(t, "an event that the policy forbids", 5, "policy.event-absent")

	for _, text := range []string{"[measurement]\nevents_pcr = 12\n", ""} {
		x.Kill()
		for _, name := range []string{"log/measurements.cel", "state/ledger.json"} {
			must(t, os.Remove(filepath.Join(dir, name)))
		}
		configure(text)
		x = again()
		nonce, file = x.attest()
		x.verify(forbids, nonce, file).refused(t, "a log begun anew, configured by "+text, 5, "policy.start-value")
	}
}
