// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"crypto/rand"
	"crypto/subtle"

	"github.com/cvm-agentd/agentd/evidence"
)

// AssociatedDigest commits to the associated data of a secret, 48 bytes in a blob. It
// stays the same when the blob is written again. Because of the salt, equal data of two
// secrets does not look equal.
type AssociatedDigest struct {
	Salt   [16]byte        // random
	Digest evidence.Digest // SHA-256 over label, salt and data
}

// NewAssociatedDigest commits to data under a new random salt.
func NewAssociatedDigest(data []byte) (AssociatedDigest, error) {
	var d AssociatedDigest
	if _, err := rand.Read(d.Salt[:]); err != nil {
		return d, err
	}
	d.Digest = evidence.Sum256(LabelAssociatedData, d.Salt[:], data)
	return d, nil
}

// Fits reports in constant time whether data is what d commits to.
func (d AssociatedDigest) Fits(data []byte) bool {
	want := evidence.Sum256(LabelAssociatedData, d.Salt[:], data)
	return subtle.ConstantTimeCompare(want[:], d.Digest[:]) == 1
}

func (d AssociatedDigest) bytes() []byte { return append(d.Salt[:], d.Digest[:]...) }
