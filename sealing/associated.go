// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"crypto/rand"
	"crypto/subtle"

	"github.com/cvm-agentd/agentd/evidence"
)

// AssociatedDigest commits to the associated data of a secret, 48 bytes in a blob. It
// stays the same when the blob is written anew. The salt keeps equal data of two
// secrets from looking equal.
type AssociatedDigest struct {
	Salt   [16]byte
	Digest evidence.Digest // over salt and data
}

// newAssociatedDigest commits to data under a new salt.
func newAssociatedDigest(data []byte) (AssociatedDigest, error) {
	var d AssociatedDigest
	if _, err := rand.Read(d.Salt[:]); err != nil {
		return d, err
	}
	d.Digest = evidence.Sum256(labelAssociatedData, d.Salt[:], data)
	return d, nil
}

// fits reports whether data is what was committed to.
func (d AssociatedDigest) fits(data []byte) bool {
	want := evidence.Sum256(labelAssociatedData, d.Salt[:], data)
	return subtle.ConstantTimeCompare(want[:], d.Digest[:]) == 1
}

func (d AssociatedDigest) bytes() []byte { return append(d.Salt[:], d.Digest[:]...) }
