// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cvm-agentd/agentd/internal/text"
)

// ErrInclusion is returned if a proof does not lead from a statement to a root.
var ErrInclusion = errors.New("inclusion proof does not lead to the root")

// An Inclusion proves that a statement is a leaf of the tree of its batch.
type Inclusion struct {
	Index uint64 `json:"index"`          // index of the leaf, from 0
	Path  Path   `json:"path,omitempty"` // RFC 6962, section 2.1.1: sibling hashes from the leaf up
}

// Leaf returns the leaf hash of the exact bytes of a statement: RFC 6962, section 2.1, over
// its labelled preimage. Neither an inner node nor any other labelled hash can pass for a
// statement.
func Leaf(statement []byte) Digest {
	return Digest(tlog.RecordHash(Preimage(labelStatement, statement)))
}

// A Tree is the Merkle tree of one batch (RFC 6962, section 2.1, with SHA-256). It does not
// change, so many goroutines can use it.
//
// RFC 6962 divides the leaves at the largest power of two. So each complete subtree of that size
// is at an even place of its level, and a last node without a sibling moves up unchanged.
type Tree struct {
	levels [][]Digest // from the leaves up to the root
}

// NewTree returns the tree over 1 to [MaxBatch] leaves, each of them a [Leaf].
func NewTree(leaves []Digest) (*Tree, error) {
	if err := text.Size("batch", len(leaves), 1, MaxBatch); err != nil {
		return nil, err
	}
	t := &Tree{levels: [][]Digest{slices.Clone(leaves)}}
	for below := t.levels[0]; len(below) > 1; {
		level := make([]Digest, 0, (len(below)+1)/2)
		for pair := range slices.Chunk(below, 2) {
			node := pair[0]
			if len(pair) == 2 {
				node = Digest(tlog.NodeHash(tlog.Hash(pair[0]), tlog.Hash(pair[1])))
			}
			level = append(level, node)
		}
		t.levels, below = append(t.levels, level), level
	}
	return t, nil
}

// Head returns root and size.
func (t *Tree) Head() TreeHead {
	return TreeHead{Root: t.levels[len(t.levels)-1][0], Size: uint64(len(t.levels[0]))}
}

// Prove returns the inclusion proof of the leaf at index, from 0.
func (t *Tree) Prove(index uint64) (Inclusion, error) {
	if size := len(t.levels[0]); index >= uint64(size) {
		return Inclusion{}, fmt.Errorf("prove leaf %d of %d", index, size)
	}
	in := Inclusion{Index: index}
	if most := len(t.levels) - 1; most > 0 {
		in.Path = make(Path, 0, most)
	}
	for at, level := int(index), 0; len(t.levels[level]) > 1; at, level = at/2, level+1 {
		if sibling := at ^ 1; sibling < len(t.levels[level]) {
			in.Path = append(in.Path, t.levels[level][sibling])
		}
	}
	return in, nil
}

// CheckInclusion checks that in leads from leaf to the root of t (RFC 9162, section
// 2.1.3.2). A wrong index, a proof of another length, and an inner node that is passed as a
// leaf all fail with [ErrInclusion].
func CheckInclusion(t TreeHead, leaf Digest, in Inclusion) error {
	if t.Size == 0 || t.Size > MaxBatch || in.Index >= t.Size {
		return fmt.Errorf("%w: index %d in a tree of %d", ErrInclusion, in.Index, t.Size)
	}
	proof := make(tlog.RecordProof, len(in.Path))
	for i, h := range in.Path {
		proof[i] = tlog.Hash(h)
	}
	if err := tlog.CheckRecord(proof, int64(t.Size), tlog.Hash(t.Root), int64(in.Index), tlog.Hash(leaf)); err != nil {
		return fmt.Errorf("%w: leaf %d of %d, %d hashes", ErrInclusion, in.Index, t.Size, len(in.Path))
	}
	return nil
}
