// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"bytes"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// maxPersistent is the most persistent handles that are looked at. TPMs have room for fewer: the
// PC Client profile asks for 7 objects, and swtpm has 64.
const maxPersistent = 64

// Persistent returns the handle of the persistent key with this TPMT_PUBLIC, and false if the TPM
// has none among its first 64.
func Persistent(t transport.TPM, public []byte) (tpm2.TPMHandle, bool, error) {
	next := uint32(tpm2.TPMHTPersistent) << 24
	for seen := 0; seen < maxPersistent; {
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: next, PropertyCount: maxPersistent}.Execute(t)
		if err != nil {
			return 0, false, fmt.Errorf("list the persistent handles: %w", err)
		}
		list, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			return 0, false, fmt.Errorf("list the persistent handles: %w", err)
		}
		for _, h := range list.Handle {
			found, err := tpm2.ReadPublic{ObjectHandle: h}.Execute(t)
			switch {
			case err == nil && bytes.Equal(found.OutPublic.Bytes(), public):
				return h, true, nil
			case err != nil && !Absent(err):
				return 0, false, fmt.Errorf("read the public area at 0x%08x: %w", uint32(h), err)
			case uint32(h) < next:
				return 0, false, fmt.Errorf("list the persistent handles: 0x%08x after 0x%08x", uint32(h), next)
			}
			next, seen = uint32(h)+1, seen+1
		}
		if !rsp.MoreData || len(list.Handle) == 0 {
			break
		}
	}
	return 0, false, nil
}

// Named returns the attestation key with this TPMT_PUBLIC, which the platform made and keeps in
// the TPM. What [Kept] says is true of it too.
func Named(t transport.TPM, public []byte) (*AK, error) {
	h, there, err := Persistent(t, public)
	if err != nil {
		return nil, fmt.Errorf("find the attestation key that the platform names: %w", err)
	}
	if !there {
		return nil, fmt.Errorf("find the attestation key that the platform names: %w", ErrNotKept)
	}
	return Kept(t, h)
}
