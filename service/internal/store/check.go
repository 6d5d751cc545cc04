// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Checked is what a check of the chain found.
type Checked struct {
	Head    Head
	Absent  uint64 // appraisals that were deleted
	Compare []Head // heads that were kept elsewhere and are in the chain
}

// Check reads the whole chain: that each entry contains the hash of the one before, that the head is the
// last, that appraisals are those of their entries, and that the chain passes through heads that were
// kept elsewhere.
func (s *Store) Check(ctx context.Context, kept ...Head) (*Checked, error) {
	head, err := s.Head(ctx)
	if err != nil {
		return nil, err
	}
	c := &Checked{}
	for c.Head.Sequence < head.Sequence {
		page, err := s.Entries(ctx, c.Head.Sequence)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			return nil, fmt.Errorf("store: the chain ends at record %d, and its head is at %d", c.Head.Sequence, head.Sequence)
		}
		for _, r := range page {
			if err := c.next(ctx, s, r); err != nil {
				return nil, err
			}
			for _, k := range kept {
				if k.Sequence == c.Head.Sequence && k.Hash != c.Head.Hash {
					return nil, fmt.Errorf("store: record %d has the hash %s, and %s was kept: the chain was made anew", k.Sequence, c.Head.Hash, k.Hash)
				}
				if k == c.Head {
					c.Compare = append(c.Compare, k)
				}
			}
			if c.Head.Sequence == head.Sequence && c.Head.Hash != head.Hash {
				return nil, fmt.Errorf("store: the last record has the hash %s, and the head says %s", c.Head.Hash, head.Hash)
			}
		}
	}
	if head, err = s.Head(ctx); err != nil { // again: others may append meanwhile
		return nil, err
	}
	if c.Head.Sequence > head.Sequence {
		return nil, fmt.Errorf("store: the head is at record %d, and there is a record %d: the head was turned back", head.Sequence, c.Head.Sequence)
	}
	for _, k := range kept {
		if k.Sequence > c.Head.Sequence {
			return nil, fmt.Errorf("store: the chain ends at record %d, and the head of %d was kept: it was cut", c.Head.Sequence, k.Sequence)
		}
	}
	return c, nil
}

// next checks one entry.
func (c *Checked) next(ctx context.Context, s *Store, r Recorded) error {
	n, e := c.Head.Sequence+1, r.Entry
	hash := hex.EncodeToString(Hash(r.Line))
	switch {
	case e.Type != EntryType:
		return fmt.Errorf("store: record %d is of type %q, want %q", n, e.Type, EntryType)
	case e.Sequence != n:
		return fmt.Errorf("store: after record %d comes %d", c.Head.Sequence, e.Sequence)
	case e.Previous != c.Head.Hash:
		return fmt.Errorf("store: record %d follows %s, and the one before it is %s", n, e.Previous, c.Head.Hash)
	case hash != r.Hash:
		return fmt.Errorf("store: record %d has the hash %s, and the database says %s", n, hash, r.Hash)
	}
	if e.Appraisal != "" {
		body, err := s.Appraisal(ctx, n)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		switch {
		case body == nil:
			c.Absent++
		case hex.EncodeToString(sum[:]) != e.Appraisal:
			return fmt.Errorf("store: the appraisal of record %d is another one", n)
		}
	}
	c.Head = Head{n, hash}
	return nil
}
