// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// First handles of a kind (TPM 2.0 Part 2, section 7.2).
const (
	firstTransient = uint32(tpm2.TPMHTTransient) << 24   // 0x80000000
	firstLoaded    = uint32(tpm2.TPMHTHMACSession) << 24 // 0x02000000, loaded sessions
)

// maxHandles caps the handles that a TPM may list; the largest have some dozens.
const maxHandles = 254

var errHandles = errors.New("TPM lists handles of another kind than requested")

// flushTransient flushes all transient objects that the connection sees. With the kernel's
// resource manager these are its own. Otherwise they are those of clients that died, and
// with three slots the next load fails unless they are flushed.
func flushTransient(t transport.TPM) error {
	return flushAll(t, firstTransient, nil)
}

// sweepSessions flushes the loaded sessions that this sequence did not start. It runs
// only if this program is the TPM's one client without a resource manager, and only when
// there is no room left. A client that was killed leaves its sessions in the TPM, and no
// other program would ever free them.
func (s *sequence) sweepSessions() error {
	return flushAll(s, firstLoaded, s.d.strays)
}

func flushAll(t transport.TPM, first uint32, keep map[uint32]struct{}) error {
	handles, err := list(t, first)
	if err != nil {
		return err
	}
	for _, h := range handles {
		if _, ok := keep[uint32(h)]; ok {
			continue
		}
		_, err := tpm2.FlushContext{FlushHandle: h}.Execute(t)
		if err != nil && !errors.Is(err, tpm2.TPMRCHandle) { // it is gone already
			return fmt.Errorf("flush handle 0x%08x: %w", uint32(h), err)
		}
	}
	return nil
}

func list(t transport.TPM, first uint32) ([]tpm2.TPMHandle, error) {
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: maxHandles}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("list handles from 0x%08x: %w", first, err)
	}
	l, err := rsp.CapabilityData.Data.Handles()
	if err != nil {
		return nil, fmt.Errorf("list handles from 0x%08x: %w", first, err)
	}
	for _, h := range l.Handle {
		// Sessions of both kinds are listed from the first HMAC session on.
		if kind := uint32(h) >> 24; kind != first>>24 && !(first == firstLoaded && kind == uint32(tpm2.TPMHTPolicySession)) {
			return nil, fmt.Errorf("list handles from 0x%08x: %w: 0x%08x", first, errHandles, uint32(h))
		}
	}
	return l.Handle, nil
}
