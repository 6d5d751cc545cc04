// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/internal/durable/durabletest"
	"github.com/cvm-agentd/agentd/pcr"
)

// states are contents that an attacker who writes the disk can give the state file in the
// third boot of m. He has kept those of earlier moments.
func states(t *testing.T, m *machine) map[string][]byte {
	t.Helper()
	out := map[string][]byte{"deleted": nil, "emptied": {}, "damaged": []byte("{")}
	keep := func(when string) { out["that of "+when] = m.state.Get(ledger.StateFile) }
	appendAll(t, m.restart(t), appEvent("first"))
	keep("the boot before the last")
	m.reboot()
	m.faults.Break(stepsToOpen(t, m, "TPM extend"), durabletest.KillBefore, nil)
	func() {
		defer func() { _ = recover() }()
		_, _ = m.open()
	}()
	m.faults.Break(0, durabletest.None, nil)
	keep("a start of the last boot that completed nothing")
	appendAll(t, m.restart(t), appEvent("second"))
	keep("the last boot")
	m.reboot()
	l := m.restart(t)
	keep("this boot, with its first record")
	appendAll(t, l, appEvent("third"), appEvent("bad"))
	keep("this boot")
	return out
}

// TestStateTurnedBack: the log is in memory, and so of this boot by itself. An attacker who
// puts any earlier state file back, or deletes it, cannot have this log replaced by a new one:
// with a reset TPM the ledger is desynchronised, and without a reset the log goes on. Case 88.
func TestStateTurnedBack(t *testing.T) {
	for _, reset := range []bool{false, true} {
		for _, otherAK := range []bool{false, true} {
			names := states(t, newMachine())
			for name := range names {
				m := newMachine()
				state := states(t, m)[name]
				before := m.log.Get(ledger.LogFile)
				m.log.Kill()
				m.state.Set(ledger.StateFile, state)
				if reset {
					m.tpm.reset()
				}
				if otherAK {
					m.tpm.boot.AKName = []byte("ak-2")
				}
				l := m.restart(t)
				if got := m.log.Get(ledger.LogFile); !slices.Equal(got, before) {
					t.Errorf("state %s, TPM reset %t, other AK %t: the log was replaced by one of %d bytes", name, reset, otherAK, len(got))
				}
				if s := l.State(); s.Synchronised == reset {
					t.Errorf("state %s, TPM reset %t, other AK %t: synchronised %t, %s", name, reset, otherAK, s.Synchronised, s.Reason)
				}
				if reset {
					wantDesynchronised(t, m, l, "")
				} else if got := apps(t, l.View(), m.tpm.now()); !slices.Equal(got, []string{"log-start", "third", "bad"}) {
					t.Errorf("state %s, other AK %t: log is %v", name, otherAK, got)
				}
			}
		}
	}
}

// A torn first record with the state of another boot is not taken for an empty folder: which
// record it was cannot be told.
func TestTornFirstRecord(t *testing.T) {
	m := newMachine()
	states(t, m)
	log := m.log.Get(ledger.LogFile)
	records := must(pcr.DecodeLog(log, 0))
	m.log.Set(ledger.LogFile, log[:len(records[0].Encode())-1])
	m.state.Set(ledger.StateFile, nil)
	m.tpm.reset()
	wantDesynchronised(t, m, m.restart(t), "no good record")
}
