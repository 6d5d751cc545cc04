// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"errors"
	"fmt"

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
type Tree struct {
	size   int64
	hashes storedHashes
	head   TreeHead
}

// storedHashes are the hashes of all complete subtrees, in the order of package tlog.
type storedHashes []tlog.Hash

func (s storedHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x < 0 || x >= int64(len(s)) {
			return nil, fmt.Errorf("hash %d of %d", x, len(s))
		}
		out[i] = s[x]
	}
	return out, nil
}

// NewTree returns the tree over 1 to [MaxBatch] leaves, each of them a [Leaf].
func NewTree(leaves []Digest) (*Tree, error) {
	if err := text.Size("batch", len(leaves), 1, MaxBatch); err != nil {
		return nil, err
	}
	t := &Tree{size: int64(len(leaves))}
	for i, l := range leaves {
		h, err := tlog.StoredHashesForRecordHash(int64(i), tlog.Hash(l), t.hashes)
		if err != nil {
			return nil, fmt.Errorf("add leaf %d: %w", i, err)
		}
		t.hashes = append(t.hashes, h...)
	}
	root, err := tlog.TreeHash(t.size, t.hashes)
	if err != nil {
		return nil, fmt.Errorf("hash tree of %d leaves: %w", t.size, err)
	}
	t.head = TreeHead{Root: Digest(root), Size: uint64(t.size)}
	return t, nil
}

// Head returns root and size.
func (t *Tree) Head() TreeHead { return t.head }

// Prove returns the inclusion proof of the leaf at index, from 0.
func (t *Tree) Prove(index uint64) (Inclusion, error) {
	p, err := tlog.ProveRecord(t.size, int64(index), t.hashes)
	if err != nil {
		return Inclusion{}, fmt.Errorf("prove leaf %d of %d: %w", index, t.size, err)
	}
	in := Inclusion{Index: index}
	for _, h := range p {
		in.Path = append(in.Path, Digest(h))
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
