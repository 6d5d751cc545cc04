// SPDX-License-Identifier: Apache-2.0

package registers

import (
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/pcr"
)

// Extend extends one PCR in all active banks with one TPM2_PCR_Extend, which a TPM
// carries out as a whole or not at all. There must be exactly one digest for each
// active bank: a bank named twice would be extended twice, and a bank left out would
// still claim that nothing ran.
func Extend(t transport.TPM, index uint32, digests []pcr.Digest) error {
	if index >= pcr.Count {
		return fmt.Errorf("extend PCR %d: the last PCR is %d", index, pcr.Count-1)
	}
	active, err := ActiveBanks(t)
	if err != nil {
		return fmt.Errorf("extend PCR %d: %w", index, err)
	}
	if err := complete(active, digests); err != nil {
		return fmt.Errorf("extend PCR %d: %w", index, err)
	}
	cmd := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(index), Auth: tpm2.PasswordAuth(nil)},
	}
	for _, d := range digests {
		cmd.Digests.Digests = append(cmd.Digests.Digests, tpm2.TPMTHA{HashAlg: tpm2.TPMIAlgHash(d.Algorithm), Digest: d.Value})
	}
	if _, err := cmd.Execute(t); err != nil {
		return fmt.Errorf("extend PCR %d: %w", index, err)
	}
	return nil
}

// complete checks that there is one digest of the right size for each active bank.
func complete(active []pcr.Algorithm, digests []pcr.Digest) error {
	seen := make([]pcr.Algorithm, 0, len(digests))
	for _, d := range digests {
		switch {
		case !slices.Contains(active, d.Algorithm):
			return fmt.Errorf("bank %s is not active", d.Algorithm)
		case slices.Contains(seen, d.Algorithm):
			return fmt.Errorf("bank %s is named twice", d.Algorithm)
		case len(d.Value) != d.Algorithm.Size():
			return fmt.Errorf("digest of %d bytes for bank %s, want %d", len(d.Value), d.Algorithm, d.Algorithm.Size())
		}
		seen = append(seen, d.Algorithm)
	}
	for _, a := range active {
		if !slices.Contains(seen, a) {
			return fmt.Errorf("no digest for active bank %s", a)
		}
	}
	return nil
}
