// SPDX-License-Identifier: Apache-2.0

// Package pcr has the banks, selections and values of platform configuration registers,
// their composite digest, and the measurement log that explains them.
//
// The log is a sequence of records in the TCG Canonical Event Log Format, CEL-TLV. Each
// [Record] has a number, the PCR that was extended, a digest for each bank, and an [Event]
// as its content. [DecodeLog] reads it, and a replay computes from it the values that the
// PCR must have ([Replay]). docs/measurements.md describes each event and the bytes that
// are hashed. The package needs no TPM: a verifier uses it on another machine.
package pcr

import (
	"crypto"
	_ "crypto/sha1"   // registers SHA-1: old banks must be extended too
	_ "crypto/sha256" // registers SHA-256
	_ "crypto/sha512" // registers SHA-384 and SHA-512
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// Count is the number of PCRs in a bank of a PC Client TPM (TCG PC Client Platform
// TPM Profile, section 4.6): 0 to 23.
const Count = tpmwire.PCRCount

// LastStatic is the last of the PCRs that only a start of the TPM sets back (the same
// section). Any software can reset 16 and 23, and a D-RTM event resets 17 to 22. A
// measurement log belongs to a PCR from 0 to 15.
const LastStatic = 15

// Algorithm is the hash algorithm of a bank, by its TPM_ALG_ID (TCG Algorithm
// Registry, table 3).
type Algorithm uint16

// Banks that this package can hash. The agent refuses a TPM with another active bank,
// because it could not extend such a bank.
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

// ParseAlgorithm returns the algorithm named "sha1", "sha256", "sha384" or "sha512".
func ParseAlgorithm(name string) (Algorithm, error) {
	for _, a := range algorithms {
		if a.name == name {
			return a.alg, nil
		}
	}
	return 0, fmt.Errorf("PCR bank %s is not known: want sha1, sha256, sha384 or sha512", text.Excerpt(name))
}

// String returns the lower-case name, or the number of an unknown algorithm.
func (a Algorithm) String() string {
	for _, k := range algorithms {
		if k.alg == a {
			return k.name
		}
	}
	return fmt.Sprintf("TPM_ALG_ID 0x%04x", uint16(a))
}

// Hash returns the algorithm in package crypto, and false if Go cannot compute it.
func (a Algorithm) Hash() (crypto.Hash, bool) {
	for _, k := range algorithms {
		if k.alg == a {
			return k.hash, true
		}
	}
	return 0, false
}

// Size returns the size of a digest in bytes, 0 if the algorithm is unknown.
func (a Algorithm) Size() int {
	if h, ok := a.Hash(); ok {
		return h.Size()
	}
	return 0
}

// Sum returns the digest of the concatenated parts. It panics for an algorithm that
// [Algorithm.Hash] does not know: callers refuse those first.
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

// Digests returns the digest of content in each bank.
func Digests(banks []Algorithm, content []byte) []Digest {
	out := make([]Digest, 0, len(banks))
	for _, a := range banks {
		out = append(out, Digest{Algorithm: a, Value: a.Sum(content)})
	}
	return out
}
