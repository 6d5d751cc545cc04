// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"crypto/sha256"
	"errors"
	"testing"
)

func leaves(n int) []Digest {
	out := make([]Digest, n)
	for i := range out {
		out[i] = Leaf([]byte{byte(i), byte(i >> 8)})
	}
	return out
}

// referenceRoot is RFC 6962, section 2.1, word for word and slow.
func referenceRoot(l []Digest) Digest {
	if len(l) == 1 {
		return l[0]
	}
	k := 1
	for k*2 < len(l) {
		k *= 2
	}
	a, b := referenceRoot(l[:k]), referenceRoot(l[k:])
	return sha256.Sum256(append(append([]byte{1}, a[:]...), b[:]...))
}

func TestTreeAgainstReference(t *testing.T) {
	sizes := []int{100, 127, 128, 129, MaxBatch - 1, MaxBatch}
	for n := range 70 {
		sizes = append(sizes, n+1)
	}
	for _, n := range sizes {
		l := leaves(n)
		tree, err := NewTree(l)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := tree.Head().Root, referenceRoot(l); got != want {
			t.Fatalf("%d leaves: root %v, want %v", n, got, want)
		}
		for i := range l {
			in, err := tree.Prove(uint64(i))
			if err != nil {
				t.Fatal(err)
			}
			if len(in.Path) > MaxProof {
				t.Fatalf("%d leaves: proof of %d hashes, the format allows %d", n, len(in.Path), MaxProof)
			}
			if err := CheckInclusion(tree.Head(), l[i], in); err != nil {
				t.Fatal(err)
			}
		}
		for _, index := range []uint64{uint64(n), 1 << 32, 1 << 63} {
			if in, err := tree.Prove(index); err == nil {
				t.Errorf("%d leaves: leaf %d is proved: %v", n, index, in)
			}
		}
	}
	if _, err := NewTree(nil); err == nil {
		t.Error("a tree without leaves was made")
	}
	if _, err := NewTree(leaves(MaxBatch + 1)); err == nil {
		t.Error("a tree over the cap was made")
	}
}

// TestInclusionForgeries covers case 64, and with it case 42: a proof serves one
// statement at one place in one tree. (An inner node does lead to the same root in
// a tree that is said to be smaller: that is why every commitment takes the size,
// and why a leaf is hashed from a statement and never taken as a hash.)
func TestInclusionForgeries(t *testing.T) {
	l := leaves(7)
	tree, err := NewTree(l)
	if err != nil {
		t.Fatal(err)
	}
	head := tree.Head()
	proof := func(i uint64) Inclusion {
		in, err := tree.Prove(i)
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	inner := sha256.Sum256(append(append([]byte{1}, l[0][:]...), l[1][:]...))
	in0 := proof(0)
	tests := []struct {
		name string
		head TreeHead
		leaf Digest
		in   Inclusion
	}{
		{"another caller's statement", head, l[1], in0},
		{"wrong index", head, l[0], Inclusion{1, in0.Path}},
		{"index out of the tree", head, l[0], Inclusion{7, in0.Path}},
		{"huge index", head, l[0], Inclusion{1 << 63, in0.Path}},
		{"inner node as leaf", head, inner, Inclusion{0, in0.Path[1:]}},
		{"extra depth", head, l[0], Inclusion{0, append(append([]Digest{}, in0.Path...), l[3])}},
		{"too short", head, l[0], Inclusion{0, in0.Path[:2]}},
		{"no proof", head, l[0], Inclusion{Index: 0}},
		{"other size", TreeHead{head.Root, 8}, l[6], proof(6)},
		{"size zero", TreeHead{head.Root, 0}, l[0], in0},
		{"size over the cap", TreeHead{head.Root, MaxBatch + 1}, l[0], in0},
		{"other root", TreeHead{l[0], 7}, l[0], in0},
	}
	for _, tt := range tests {
		if err := CheckInclusion(tt.head, tt.leaf, tt.in); !errors.Is(err, ErrInclusion) {
			t.Errorf("%s: error %v, want ErrInclusion", tt.name, err)
		}
	}
	for i := range in0.Path {
		in := Inclusion{0, append([]Digest{}, in0.Path...)}
		in.Path[i][31] ^= 1
		if err := CheckInclusion(head, l[0], in); !errors.Is(err, ErrInclusion) {
			t.Errorf("flipped bit in hash %d: error %v, want ErrInclusion", i, err)
		}
	}
}

// A plain RFC 6962 leaf without our label is not the leaf of a statement.
func TestLeafIsLabelled(t *testing.T) {
	s := []byte("{}")
	if Leaf(s) == sha256.Sum256(append([]byte{0}, s...)) {
		t.Error("the leaf hash carries no label")
	}
}

func BenchmarkTree1024(b *testing.B) {
	l := leaves(1024)
	for b.Loop() {
		if _, err := NewTree(l); err != nil {
			b.Fatal(err)
		}
	}
}
