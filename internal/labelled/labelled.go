// SPDX-License-Identifier: Apache-2.0

// Package labelled contains the composite hash of every format of this project: a hash over
// a label and a list of parts, each after its length. Two different lists never give the same
// bytes, so no input collides with another by moving a boundary. A label has one purpose, and
// the number at its end changes if the list of parts does.
//
// For the label "agentd/log/1" and the parts "ab" and "" the preimage is, in hexadecimal:
//
//	000000000000000c 6167656e74642f6c6f672f31   12 bytes of label
//	0000000000000002 6162
//	0000000000000000
package labelled

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
)

// Preimage returns the encoding of label and parts: the length in bytes of each as an
// unsigned 64-bit big-endian integer, then its bytes, the label first. An absent part is
// encoded as one of length zero.
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
func Sum256(label string, parts ...[]byte) [32]byte { return sha256.Sum256(Preimage(label, parts...)) }

// Sum512 returns SHA-512 (FIPS 180-4) over [Preimage] of label and parts.
func Sum512(label string, parts ...[]byte) [64]byte { return sha512.Sum512(Preimage(label, parts...)) }
