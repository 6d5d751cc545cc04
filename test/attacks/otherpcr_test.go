// SPDX-License-Identifier: Apache-2.0

package attacks

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/test/swtpm"
)

// TestCleanLogInAnotherPCRCounts: root of the guest cannot take a record out of a PCR. It
// deletes log and state instead, and has the agent begin a log in another PCR that is still
// zero. Quote, AK and start value are genuine.
func TestCleanLogInAnotherPCRCounts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts simulated machines: not with -short")
	}
	dir, address := filepath.Join(t.TempDir(), "m"), swtpm.Start(t).Listen().Address()
	x := switchOn(t, dir, "--tpm", address)
	x.declare("billing", "the attacker's program")
	refuses := policy("unlisted_apps = \"refuse\"\n", "")
	nonce, file := x.attest()
	known := policy("ak_names = [\""+x.verify(policy("", ""), nonce, file).akName(t)+"\"]\nunlisted_apps = \"refuse\"\n", "\n[basis]\nhistory = \"tpm\"\n")
	x.verify(refuses, nonce, file).refused(t, "a program that the policy does not list", 5, "policy.app-unlisted")

	x.Kill()
	for _, name := range []string{"apps.d/billing.toml", "log/measurements.cel", "state/ledger.json"} {
		must(t, os.Remove(filepath.Join(dir, name)))
	}
	must(t, os.WriteFile(filepath.Join(dir, "config.toml"), []byte("[measurement]\npcr = 14\n"), 0o600))
	x = switchOn(t, dir, "--tpm", address)
	nonce, file = x.attest()
	x.verify(known, nonce, file).refused(t, "a log of the known TPM, in a PCR that the policy does not name", 5, "policy.log-pcr")
	x.verify(refuses, nonce, file).refused(t, "a log in a PCR that the policy does not name", 5, "policy.log-pcr")
}
