// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// TestStateTurnedBack: an attacker who writes the disk and has the TPM puts the state file of
// an earlier boot back and resets the TPM, to have the log of this boot replaced by one in
// which nothing was measured. Case 88.
func TestStateTurnedBack(t *testing.T) {
	tpm := swtpm.Start(t)
	w := newWhole(t, tpm)
	state := filepath.Join(w.options.Config.State.Folder, ledger.StateFile)
	log := filepath.Join(w.options.Config.Measurement.LogFolder, ledger.LogFile)
	d, stop := w.start()
	if err := w.evidence(d); err != nil {
		t.Fatal(err)
	}
	stop()
	old, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}

	tpm.Reboot()
	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	w.options.Machine.BootID = "the next boot"
	d, stop = w.start()
	if err := w.evidence(d); err != nil {
		t.Fatal(err)
	}
	stop()
	before, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(state, old, 0o600); err != nil {
		t.Fatal(err)
	}
	tpm.Reboot()
	d, stop = w.start()
	if err := w.evidence(d); err == nil {
		t.Error("evidence over a log that lost what was measured in this boot")
	}
	if s := d.status.Status().Ledger; s.Synchronised || !strings.Contains(s.Reason, "the log is of this boot") {
		t.Errorf("ledger %+v", s)
	}
	stop()
	if after, err := os.ReadFile(log); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the log has %d bytes, %v; it had %d", len(after), err, len(before))
	}
}
