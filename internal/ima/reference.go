// SPDX-License-Identifier: Apache-2.0

package ima

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/cvm-agentd/agentd/pcr"
)

// A Reference is the digests of many files, in a form that is small and quick to search:
//
//	magic      "agentd/ima-reference/1\n"
//	algorithm  u16, little-endian: TPM_ALG_ID of SHA-256, SHA-384 or SHA-512
//	count      u32, little-endian
//	digests    count digests, ascending, each once
//
// Nothing follows. A policy names one by the SHA-256 of these bytes.
type Reference struct {
	algorithm string
	size      int
	digests   []byte
}

const referenceMagic = "agentd/ima-reference/1\n"

// MaxReference is the largest reference that is read, in bytes: two million digests of SHA-256.
const MaxReference = 64 << 20

// ParseReference reads a reference. It keeps b.
func ParseReference(b []byte) (*Reference, error) {
	const head = len(referenceMagic) + 6
	if len(b) < head || string(b[:len(referenceMagic)]) != referenceMagic {
		return nil, fmt.Errorf("not a reference: want %q at its beginning", referenceMagic)
	}
	a := pcr.Algorithm(binary.LittleEndian.Uint16(b[len(referenceMagic):]))
	if a != pcr.SHA256 && a != pcr.SHA384 && a != pcr.SHA512 {
		return nil, fmt.Errorf("reference of %s, want sha256, sha384 or sha512", a)
	}
	r := &Reference{algorithm: a.String(), size: a.Size(), digests: b[head:]}
	want := uint64(binary.LittleEndian.Uint32(b[head-4:])) * uint64(r.size)
	switch {
	case len(b) > MaxReference:
		return nil, fmt.Errorf("reference of %d bytes, want at most %d", len(b), MaxReference)
	case uint64(len(r.digests)) != want:
		return nil, fmt.Errorf("reference with %d bytes of digests, want %d", len(r.digests), want)
	case want == 0:
		return nil, errors.New("reference without a digest")
	}
	for i := 1; i < r.Len(); i++ {
		if bytes.Compare(r.at(i-1), r.at(i)) >= 0 {
			return nil, fmt.Errorf("reference: digest %d does not follow the one before: want them ascending, each once", i)
		}
	}
	return r, nil
}

// EncodeReference returns the reference of digests, which it sorts. It panics for an algorithm
// that [ParseReference] refuses.
func EncodeReference(a pcr.Algorithm, digests [][]byte) []byte {
	if a != pcr.SHA256 && a != pcr.SHA384 && a != pcr.SHA512 {
		panic("ima: reference of " + a.String())
	}
	slices.SortFunc(digests, bytes.Compare)
	digests = slices.CompactFunc(digests, bytes.Equal)
	b := binary.LittleEndian.AppendUint16([]byte(referenceMagic), uint16(a))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(digests)))
	return append(b, bytes.Join(digests, nil)...)
}

// Len returns the number of digests.
func (r *Reference) Len() int { return len(r.digests) / r.size }

func (r *Reference) at(i int) []byte { return r.digests[i*r.size : (i+1)*r.size] }

// Has reports whether the reference has the digest of a file's content.
func (r *Reference) Has(d Digest) bool {
	if d.Verity || d.Algorithm != r.algorithm {
		return false
	}
	i := sort.Search(r.Len(), func(i int) bool { return bytes.Compare(r.at(i), d.Value) >= 0 })
	return i < r.Len() && bytes.Equal(r.at(i), d.Value)
}
