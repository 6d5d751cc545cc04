// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
)

// Preimage returns the encoding of label and parts that every composite hash is taken over:
// the length in bytes of each as an unsigned 64-bit big-endian integer, then its bytes, the
// label first. An absent part is encoded as one of length zero. For the label "agentd/log/1"
// and the parts "ab" and "" it is, in hexadecimal:
//
//	000000000000000c 6167656e74642f6c6f672f31   12 bytes of label
//	0000000000000002 6162
//	0000000000000000
func Preimage(label string, parts ...[]byte) []byte {
	n := 8 + len(label)
	for _, p := range parts {
		n += 8 + len(p)
	}
	b := make([]byte, 0, n)
	b = binary.BigEndian.AppendUint64(b, uint64(len(label)))
	b = append(b, label...)
	for _, p := range parts {
		b = binary.BigEndian.AppendUint64(b, uint64(len(p)))
		b = append(b, p...)
	}
	return b
}

// Sum256 returns SHA-256 (FIPS 180-4) over [Preimage] of label and parts.
func Sum256(label string, parts ...[]byte) Digest { return sha256.Sum256(Preimage(label, parts...)) }

// sum512 returns SHA-512 (FIPS 180-4) over [Preimage] of label and parts.
func sum512(label string, parts ...[]byte) [64]byte { return sha512.Sum512(Preimage(label, parts...)) }
