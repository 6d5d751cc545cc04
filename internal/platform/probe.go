// SPDX-License-Identifier: Apache-2.0

package platform

import "context"

// A KeyProber tries out on what a firmware's derived keys depend.
type KeyProber interface {
	// Fingerprint asks for the key of a probe and returns SHA-256 H("agentd/probe/1",
	// salt, key): enough to tell two keys apart, and nothing that anybody could seal
	// to. So no request but that of [KeyDeriver] ever yields a key.
	Fingerprint(ctx context.Context, p KeyProbe) ([32]byte, error)
}

// KeyProbe is a MSG_KEY_REQ (SNP firmware ABI) as far as a guest may choose it.
type KeyProbe struct {
	Root     uint32   // bit 0 ROOT_KEY_SELECT: 1 the VMRK; bits 2:1 KEY_SEL
	Fields   uint64   // GUEST_FIELD_SELECT
	Above    uint32   // VM privilege levels above the guest's own; at most 3 come of it
	GuestSVN uint32   // at most the launched one
	TCB      uint64   // at most the committed one
	Salt     [32]byte // the same for fingerprints that are to be compared
}
