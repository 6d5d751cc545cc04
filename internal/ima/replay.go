// SPDX-License-Identifier: Apache-2.0

package ima

import (
	"bytes"
	"fmt"
	"hash"
	"slices"

	"github.com/cvm-agentd/agentd/pcr"
)

// Mode is what the kernel extends banks other than SHA-1 with.
type Mode int

// Modes. Nothing in a list says which: only the values do.
const (
	Own    Mode = iota // the bank's own hash of what is hashed: Linux 5.8 and later
	Padded             // the SHA-1 hash, followed by zeros: before. Collisions of SHA-1 can be made
)

// String returns the mode in words.
func (m Mode) String() string {
	if m == Padded {
		return "padded SHA-1"
	}
	return "own hash"
}

// A Replay computes the values that PCR 10 has after each entry, in some banks.
type Replay struct {
	banks   []*bank
	entries uint64 // that extended the PCR
	modes   []Mode // that the values may be of
}

// bank is one bank. What a SHA-1 bank is extended with is the same in both modes.
type bank struct {
	algorithm pcr.Algorithm
	hash      hash.Hash
	values    [2][]byte // by mode
	extended  []byte    // scratch
}

// NewReplay returns a replay that starts from zeros, the value at the start of the machine. It
// panics for a bank that cannot be hashed, see [pcr.Algorithm.Hash].
func NewReplay(banks ...pcr.Algorithm) *Replay {
	r := &Replay{modes: []Mode{Own, Padded}}
	for _, a := range banks {
		h, ok := a.Hash()
		if !ok {
			panic("ima: bank " + a.String() + " cannot be hashed")
		}
		r.banks = append(r.banks, &bank{algorithm: a, hash: h.New(), values: [2][]byte{make([]byte, a.Size()), make([]byte, a.Size())}})
	}
	return r
}

// Continue has a replay that extended nothing yet start after a number of entries that led to these
// values, in this mode alone. The error names a bank whose value is missing.
func (r *Replay) Continue(entries uint64, values map[pcr.Algorithm][]byte, m Mode) error {
	for _, b := range r.banks {
		v := values[b.algorithm]
		if len(v) != b.algorithm.Size() {
			return fmt.Errorf("the value of bank %s is not known", b.algorithm)
		}
		b.values = [2][]byte{bytes.Clone(v), bytes.Clone(v)}
	}
	r.entries, r.modes = entries, []Mode{m}
	return nil
}

// Extend does what the kernel did for e. An entry of another PCR changes nothing.
func (r *Replay) Extend(e *Entry) {
	if e.PCR != PCR {
		return
	}
	r.entries++
	for _, b := range r.banks {
		b.extend(e)
	}
}

// extend extends both values of a bank. A violation extends ones: in all bytes of the bank, or
// in those of a SHA-1 hash.
func (b *bank) extend(e *Entry) {
	size := b.algorithm.Size()
	d := b.extended[:0]
	if e.Violation() {
		for range size {
			d = append(d, 0xff)
		}
	} else {
		b.hash.Reset()
		b.hash.Write(e.Data)
		d = b.hash.Sum(d)
	}
	b.extended = d
	b.into(Own, d)
	if b.algorithm == pcr.SHA1 {
		return
	}
	if e.Violation() {
		clear(d[hashSize:])
	} else {
		clear(d)
		copy(d, e.Hash[:])
	}
	b.into(Padded, d)
}

// into extends one value with d.
func (b *bank) into(m Mode, d []byte) {
	b.hash.Reset()
	b.hash.Write(b.values[m])
	b.hash.Write(d)
	b.values[m] = b.hash.Sum(b.values[m][:0])
}

// Entries returns the number of entries that extended the PCR.
func (r *Replay) Entries() uint64 { return r.entries }

// Value returns the value of a bank, nil if it is not replayed.
func (r *Replay) Value(a pcr.Algorithm, m Mode) []byte {
	for _, b := range r.banks {
		if b.algorithm == a {
			if a == pcr.SHA1 {
				m = Own
			}
			return b.values[m]
		}
	}
	return nil
}

// Leads reports whether all banks have the values that were quoted, and in which mode.
func (r *Replay) Leads(quoted pcr.Values) (Mode, bool) {
	for _, m := range r.modes {
		if !slices.ContainsFunc(r.banks, func(b *bank) bool { return !bytes.Equal(r.Value(b.algorithm, m), quoted[b.algorithm][PCR]) }) {
			return m, true
		}
	}
	return 0, false
}

// AggregateName is the path of the entry that the kernel makes first: the digest of the PCRs
// that it found.
const AggregateName = "boot_aggregate"

// Aggregates returns the digests that the first entry can have for these PCRs of a bank: over
// PCRs 0 to 9, and as older kernels and those with a SHA-1 bank make it, over 0 to 7. There is
// none if one of these PCRs is not known.
func Aggregates(a pcr.Algorithm, values map[uint32][]byte) (out [][]byte) {
	var all []byte
	for i := range uint32(10) {
		v, ok := values[i]
		if !ok {
			return out
		}
		all = append(all, v...)
		if i == 7 || i == 9 && a != pcr.SHA1 {
			out = append(out, a.Sum(all))
		}
	}
	return out
}
