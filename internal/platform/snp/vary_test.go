// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/sealing"
)

// TestFingerprint: a probe gives the labelled hash of a key, another one under another
// salt, and refuses what is not a key.
func TestFingerprint(t *testing.T) {
	p := machine(t, soft.Options{VMPL: 2})
	tcb := uint64(p.Options().CommittedTCB)
	same := snp.KeyProbe{Root: 1 << 1, Fields: 1 | 1<<3 | 1<<5, TCB: tcb, Salt: [32]byte{7}}
	f, err := p.Fingerprint(t.Context(), same)
	if err != nil {
		t.Fatal(err)
	}
	k, err := p.DeriveKey(t.Context(), sealing.TCBOf(tcb))
	if err != nil {
		t.Fatal(err)
	}
	if f != sha256.Sum256(evidence.Preimage("agentd/probe/1", same.Salt[:], bytesOf(t, k))) || f == [32]byte(bytesOf(t, k)) {
		t.Error("the fingerprint is not the labelled hash of the key that sealing gets")
	}
	salted := same
	salted.Salt[0]++
	if g, err := p.Fingerprint(t.Context(), salted); err != nil || g == f {
		t.Errorf("under another salt: %v", err)
	}
	above := same
	above.Above = 2
	if _, err := p.Fingerprint(t.Context(), above); !errors.Is(err, platform.ErrVMPL) {
		t.Errorf("VMPL 4: %v", err)
	}
	p.SetFaults(soft.Faults{ZeroKey: true})
	if _, err := p.Fingerprint(t.Context(), same); !errors.Is(err, platform.ErrZeroKey) {
		t.Errorf("all zero: %v", err)
	}
}
