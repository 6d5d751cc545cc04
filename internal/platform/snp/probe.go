// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
)

// labelProbe separates fingerprints of keys from every other hash.
const labelProbe = "agentd/probe/1"

// keyProbe is a MSG_KEY_REQ (SNP firmware ABI) in all that a guest may choose. No key that
// sealing uses was asked for by one.
type keyProbe struct {
	Root     uint32   // bit 0 ROOT_KEY_SELECT: 1 the VMRK; bits 2:1 KEY_SEL
	Fields   uint64   // GUEST_FIELD_SELECT
	Above    uint32   // VM privilege levels above the guest's own; at most 3 is asked for
	GuestSVN uint32   // at most the launched one
	TCB      uint64   // at most the committed one
	Salt     [32]byte // the same for fingerprints that are to be compared
}

// fingerprint asks for the key of a probe and returns SHA-256 H("agentd/probe/1", salt, key):
// enough to tell two keys apart, and nothing that an attacker could seal to.
func (d *Device) fingerprint(ctx context.Context, p keyProbe) (f [32]byte, err error) {
	vmpl := d.options.VMPL + p.Above
	if vmpl > 3 {
		return f, fmt.Errorf("probe a derived key at VMPL %d, want at most 3: %w", vmpl, platform.ErrVMPL)
	}
	m := &Message{Command: GetDerivedKey, Request: probeRequest(vmpl, p), Response: make([]byte, keyResponseSize)}
	if err := d.exchange(ctx, m); err != nil {
		return f, fmt.Errorf("probe a derived key: %w", err)
	}
	defer clear(m.Response)
	k, err := keyAnswer(m.Response)
	if err != nil {
		return f, fmt.Errorf("probe a derived key: %w", err)
	}
	defer k.Wipe()
	err = k.Use(func(b []byte) error {
		material := evidence.Preimage(labelProbe, p.Salt[:], b)
		defer clear(material)
		f = sha256.Sum256(material)
		return nil
	})
	return f, err
}
