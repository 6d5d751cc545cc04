// SPDX-License-Identifier: Apache-2.0

// Package pcr speaks of platform configuration registers: banks and selections,
// their values and composite digest, the measurement log that explains them, and
// reading and extending them over a TPM transport.
package pcr

import (
	"crypto"
	_ "crypto/sha1"   // registers SHA-1: old banks must be extended too
	_ "crypto/sha256" // registers SHA-256
	_ "crypto/sha512" // registers SHA-384 and SHA-512
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/evidence"
)

// Count is the number of PCRs in a bank of a PC Client TPM (TCG PC Client Platform
// TPM Profile, section 4.6): 0 to 23.
const Count = 24

// LastStatic is the last of the PCRs that only a start of the TPM sets back (the same
// section): 16 and 23 are reset by any software, 17 to 22 by a D-RTM event. A measurement
// log belongs to one of 0 to 15.
const LastStatic = 15

// Algorithm is the hash algorithm of a bank, by its TPM_ALG_ID (TCG Algorithm
// Registry, table 3).
type Algorithm uint16

// The banks that this package can hash. A TPM with another active bank cannot be
// extended in full: see UnknownBankError.
const (
	SHA1   = Algorithm(tpm2.TPMAlgSHA1)   // 0x0004, 20 bytes
	SHA256 = Algorithm(tpm2.TPMAlgSHA256) // 0x000B, 32 bytes
	SHA384 = Algorithm(tpm2.TPMAlgSHA384) // 0x000C, 48 bytes
	SHA512 = Algorithm(tpm2.TPMAlgSHA512) // 0x000D, 64 bytes
)

var algorithms = []struct {
	alg  Algorithm
	name string
	hash crypto.Hash
}{
	{SHA1, "sha1", crypto.SHA1},
	{SHA256, "sha256", crypto.SHA256},
	{SHA384, "sha384", crypto.SHA384},
	{SHA512, "sha512", crypto.SHA512},
}

// ParseAlgorithm is the algorithm named "sha1", "sha256", "sha384" or "sha512".
func ParseAlgorithm(name string) (Algorithm, error) {
	for _, a := range algorithms {
		if a.name == name {
			return a.alg, nil
		}
	}
	return 0, fmt.Errorf("PCR bank %s is not known: want sha1, sha256, sha384 or sha512", evidence.Excerpt(name))
}

// String is the lower-case name, or the number of an algorithm that is not known.
func (a Algorithm) String() string {
	for _, k := range algorithms {
		if k.alg == a {
			return k.name
		}
	}
	return fmt.Sprintf("TPM_ALG_ID 0x%04x", uint16(a))
}

// Hash is the algorithm in package crypto, and false where Go cannot compute it.
func (a Algorithm) Hash() (crypto.Hash, bool) {
	for _, k := range algorithms {
		if k.alg == a {
			return k.hash, true
		}
	}
	return 0, false
}

// Size is the digest size in bytes, 0 where the algorithm is not known.
func (a Algorithm) Size() int {
	if h, ok := a.Hash(); ok {
		return h.Size()
	}
	return 0
}

// Sum is the digest of the parts, one behind the other. It panics for an algorithm
// that [Algorithm.Hash] does not know, which callers have refused before.
func (a Algorithm) Sum(parts ...[]byte) []byte {
	k, ok := a.Hash()
	if !ok {
		panic("pcr: " + a.String() + " cannot be hashed")
	}
	h := k.New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// Digest is a digest under one algorithm: an entry of a TPML_DIGEST_VALUES.
type Digest struct {
	Algorithm Algorithm
	Value     []byte // Algorithm.Size() bytes
}
