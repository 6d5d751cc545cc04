// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/api"
)

// Manifest lists every blob of a store with its generation: the payload of the blob of kind
// [KindManifest]. Its number goes up by one with each writing. During a writing it is one
// ahead of the TPM's counter plus base, and equal after it. Base has the difference when a
// counter is replaced.
type Manifest struct {
	Number   uint64
	Base     uint64 // modulo 2^64
	Counter  []byte // record of the TPM's counter, at most MaxRecord bytes; empty if no TPM counts
	Entries  []Entry
	Retired  []byte // record of a counter that this one replaced and that may still exist
	Replaced []ID   // blobs that this writing replaced, to be removed once it is durable
}

// Entry lists one blob.
type Entry struct {
	Key
	ID         ID
	Generation uint64   // number of the manifest that first listed it
	Size       uint32   // bytes of the payload, for quotas
	Slot       SlotKind // weakest slot of the machine
	TCB        TCB      // TCB at sealing; zero if the slot does not rest on SNP
	Unproven   bool     // whether its content came from a recovery that could not tell who wrote it
}

// Key finds a blob in a manifest.
type Key struct {
	App  string // name of the app
	Kind Kind
	Name string // name of the secret; empty for app roots
}

// Key returns the key of the blob.
func (h *Header) Key() Key { return Key{App: h.App.Name, Kind: h.Kind, Name: h.Name} }

// Compare orders keys by app, kind and name.
func (k Key) Compare(o Key) int {
	return cmp.Or(strings.Compare(k.App, o.App), cmp.Compare(k.Kind, o.Kind), strings.Compare(k.Name, o.Name))
}

// Find returns the entry of k, or nil if absent.
func (m *Manifest) Find(k Key) *Entry {
	i, ok := slices.BinarySearchFunc(m.Entries, k, func(e Entry, k Key) int { return e.Key.Compare(k) })
	if !ok {
		return nil
	}
	return &m.Entries[i]
}

// Encode returns the payload of the manifest's blob: private half of the store key (32
// bytes), number and base (8 bytes each), length of the counter record (4) and record, the
// same of a retired counter, number of entries (4), then for each, ascending by app, kind
// and name: kind (1), app and name (2 bytes of length each), id (16), generation (8), size
// (4), weakest slot (1), TCB (8), 1 if it is unproven, otherwise 0 (1); number of replaced
// blobs (4) and their ids (16 each). Integers are big-endian. The result is a secret that
// the caller clears: it contains seed, and the counter record contains an authorization
// value.
func (m *Manifest) Encode(seed [SeedSize]byte) []byte {
	defer clear(seed[:])
	b := append(make([]byte, 0, m.size()), seed[:]...) // exactly: no copy stays behind as it grows
	b = binary.BigEndian.AppendUint64(b, m.Number)
	b = binary.BigEndian.AppendUint64(b, m.Base)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.Counter)))
	b = append(b, m.Counter...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.Retired)))
	b = append(b, m.Retired...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.Entries)))
	for _, e := range m.Entries {
		b = append(b, byte(e.Kind))
		for _, s := range []string{e.App, e.Name} {
			b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
			b = append(b, s...)
		}
		b = append(b, e.ID[:]...)
		b = binary.BigEndian.AppendUint64(b, e.Generation)
		b = binary.BigEndian.AppendUint32(b, e.Size)
		b = append(b, byte(e.Slot))
		b = append(b, e.TCB[:]...)
		unproven := byte(0)
		if e.Unproven {
			unproven = 1
		}
		b = append(b, unproven)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.Replaced)))
	for _, id := range m.Replaced {
		b = append(b, id[:]...)
	}
	return b
}

// size returns the length of what Encode returns.
func (m *Manifest) size() int {
	n := SeedSize + 8 + 8 + 4 + len(m.Counter) + 4 + len(m.Retired) + 4 + 4 + idSize*len(m.Replaced)
	for _, e := range m.Entries {
		n += 1 + 2 + len(e.App) + 2 + len(e.Name) + idSize + 8 + 4 + 1 + len(e.TCB) + 1
	}
	return n
}

// ParseManifest parses what [Manifest.Encode] returns, strictly, from a blob of that version
// of the format. Version 1 had no seed, and no mark on entries. The seed is a part of b.
// Every error is an [*Error].
func ParseManifest(version int, b []byte) (m *Manifest, seed []byte, err error) {
	r := &byteReader{rest: b}
	if version > 1 {
		seed = r.take(SeedSize)
	}
	m = &Manifest{Number: r.number(8), Base: r.number(8)}
	m.Counter = r.record()
	m.Retired = r.record()
	bad := func(format string, args ...any) (*Manifest, []byte, error) {
		return nil, nil, &Error{Code: api.CodeMalformedBlob, Field: "payload", Detail: fmt.Sprintf(format, args...)}
	}
	n := r.number(4)
	if n > MaxEntries {
		return bad("manifest of %d entries, at most %d", n, MaxEntries)
	}
	for range n {
		e := readEntry(r, version)
		if r.short {
			break
		}
		if k := len(m.Entries); k > 0 && m.Entries[k-1].Key.Compare(e.Key) >= 0 {
			return bad("manifest entry %d is not in ascending order", k)
		}
		m.Entries = append(m.Entries, e)
	}
	n = r.number(4)
	if n > MaxEntries {
		return bad("manifest with %d replaced blobs, at most %d", n, MaxEntries)
	}
	for range n {
		var id ID
		copy(id[:], r.take(idSize))
		if r.short {
			break
		}
		m.Replaced = append(m.Replaced, id)
	}
	if r.short || len(r.rest) > 0 {
		return bad("the length of the manifest is not the sum of its parts")
	}
	return m, seed, nil
}

func readEntry(r *byteReader, version int) (e Entry) {
	e.Kind = Kind(r.number(1))
	e.App = string(r.take(int(r.number(2))))
	e.Name = string(r.take(int(r.number(2))))
	copy(e.ID[:], r.take(idSize))
	e.Generation = r.number(8)
	e.Size = uint32(r.number(4))
	e.Slot = SlotKind(r.number(1))
	copy(e.TCB[:], r.take(len(e.TCB)))
	if version > 1 {
		mark := r.number(1)
		e.Unproven = mark == 1
		r.short = r.short || mark > 1
	}
	return e
}

// byteReader takes bytes from the front, and sets short if there are too few.
type byteReader struct {
	rest  []byte
	short bool
}

func (r *byteReader) take(n int) []byte {
	if r.short || n > len(r.rest) {
		r.short = true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// record takes a length of four bytes and as many bytes more.
func (r *byteReader) record() []byte {
	n := r.number(4)
	if n > MaxRecord {
		r.short = true
	}
	return slices.Clone(r.take(int(n)))
}

func (r *byteReader) number(n int) uint64 { return number(r.take(n)) }
