// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/keys"
)

// checkSignature holds a quote against the attestation key that is to have signed it.
// Public is the TPMT_PUBLIC of our own AK: ECDSA over SHA-256, on P-256. Signature is a
// TPMT_SIGNATURE (TPM 2.0 Part 2, section 11.3.4).
//
// The session that a quote is asked for in authenticates the answer to who knows the
// key's authorization value, which the TPM does and its signature does not depend on. A
// TPM that is broken, or that somebody imitates who got at that value, must not get a
// report or a signature of the agent for what no verifier would take. Numbers are held
// to the spelling that package verify demands of them.
func checkSignature(public, attest, signature []byte) error {
	refuse := func(format string, a ...any) error {
		return fmt.Errorf("%w: its signature: "+format, append([]any{tpmkeys.ErrQuote}, a...)...)
	}
	ak, err := keys.ParsePublic(public)
	if err != nil {
		return fmt.Errorf("check the quote's signature: %w", err)
	}
	key, err := ak.Key()
	if err != nil {
		return fmt.Errorf("check the quote's signature: %w", err)
	}
	ecc, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return fmt.Errorf("check the quote's signature: the attestation key is of type %T, want ECDSA", key)
	}
	sig, err := tpm2.Unmarshal[tpm2.TPMTSignature](signature)
	if err != nil {
		return refuse("parse TPMT_SIGNATURE of %d bytes: %w", len(signature), err)
	}
	if sig.SigAlg != tpm2.TPMAlgECDSA {
		return refuse("scheme 0x%04x, the key signs with ECDSA (0x%04x)", uint16(sig.SigAlg), uint16(tpm2.TPMAlgECDSA))
	}
	rs, err := sig.Signature.ECDSA()
	if err != nil {
		return refuse("%w", err)
	}
	if rs.Hash != tpm2.TPMAlgSHA256 {
		return refuse("hash 0x%04x, the key signs with SHA-256 (0x%04x)", uint16(rs.Hash), uint16(tpm2.TPMAlgSHA256))
	}
	size := (ecc.Params().BitSize + 7) / 8
	for _, n := range [][]byte{rs.SignatureR.Buffer, rs.SignatureS.Buffer} {
		if len(n) == 0 || len(n) > size || n[0] == 0 && len(n) != size {
			return refuse("a number of %d bytes, want %d or fewer without leading zeros", len(n), size)
		}
	}
	digest := sha256.Sum256(attest)
	r, s := new(big.Int).SetBytes(rs.SignatureR.Buffer), new(big.Int).SetBytes(rs.SignatureS.Buffer)
	if !ecdsa.Verify(ecc, digest[:], r, s) {
		return refuse("it does not hold under AK %s", ak.Name())
	}
	return nil
}
