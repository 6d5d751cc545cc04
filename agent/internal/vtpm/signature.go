// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// checkSignature checks that the attestation key signed a quote. Public is the TPMT_PUBLIC
// of our own AK, which signs with ECDSA over SHA-256. Signature is a TPMT_SIGNATURE (TPM 2.0
// Part 2, section 11.3.4).
//
// The session of the quote only shows that the answer comes from a holder of the key's
// authorization value. A broken TPM, or an attacker who got that value and imitates the TPM,
// must not get a report or a signature of the agent for what no verifier would accept. So
// the reader is that of package verify.
func checkSignature(public, attest, signature []byte) error {
	area, err := tpmwire.ParsePublic(public)
	if err != nil {
		return fmt.Errorf("check the quote's signature: attestation key: %w", err)
	}
	ak, err := tpmwire.SigningKey(area, public)
	if err != nil {
		return fmt.Errorf("check the quote's signature: attestation key: %w", err)
	}
	if ak.Scheme != tpm2.TPMAlgECDSA || ak.Alg != tpm2.TPMAlgSHA256 {
		return fmt.Errorf("check the quote's signature: the attestation key signs with 0x%04x over 0x%04x, want ECDSA over SHA-256", uint16(ak.Scheme), uint16(ak.Alg))
	}
	sig, err := ak.ParseSignature(signature)
	if err != nil {
		return fmt.Errorf("%w: its signature: %w", tpmkeys.ErrQuote, err)
	}
	if !ak.Verify(attest, sig) {
		return fmt.Errorf("%w: its signature is not one of AK %x", tpmkeys.ErrQuote, ak.Name)
	}
	return nil
}
