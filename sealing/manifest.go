// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/secret"
)

// manifest lists every blob of a store with its generation. Its number goes up by one
// with each writing. While it is being written it is one ahead of the TPM's counter
// plus base, and equal after; base takes up the difference when a counter is replaced.
type manifest struct {
	number   uint64
	base     uint64 // modulo 2^64
	counter  []byte // record of the TPM's counter; empty where there is none
	entries  []entry
	retired  []byte // record of a counter that this one replaced and that may still be there
	replaced []ID   // blobs that this writing replaced, to be removed once it is durable
}

// entry is one blob.
type entry struct {
	key        entryKey
	id         ID
	generation uint64   // number of the manifest that first listed it
	size       uint32   // bytes of the payload, for quotas
	slot       SlotKind // weakest slot of the machine
	tcb        TCB      // at sealing; zero where the slot does not rest on SNP
}

// entryOf is the entry of a blob with that header and payload.
func entryOf(h *Header, size int) entry {
	e := entry{
		key:        entryKey{app: h.App.Name, kind: h.Kind, name: h.Name},
		id:         h.ID,
		generation: h.Generation,
		size:       uint32(size),
		slot:       weakest(h.Slots),
	}
	if h.Machine != nil {
		e.tcb = h.Machine.TCB
	}
	return e
}

// entryKey is what a blob is found by.
type entryKey struct {
	app  string
	kind Kind
	name string // of the secret; empty for app roots
}

func (k entryKey) compare(o entryKey) int {
	if c := strings.Compare(k.app, o.app); c != 0 {
		return c
	}
	if k.kind != o.kind {
		return int(k.kind) - int(o.kind)
	}
	return strings.Compare(k.name, o.name)
}

// find is the entry of k, or nil.
func (m *manifest) find(k entryKey) *entry {
	i, ok := slices.BinarySearchFunc(m.entries, k, func(e entry, k entryKey) int { return e.key.compare(k) })
	if !ok {
		return nil
	}
	return &m.entries[i]
}

// with is m with e in the place of the entry of the same key.
func (m *manifest) with(e entry) {
	i, ok := slices.BinarySearchFunc(m.entries, e.key, func(e entry, k entryKey) int { return e.key.compare(k) })
	if ok {
		m.entries[i] = e
		return
	}
	m.entries = slices.Insert(m.entries, i, e)
}

func (m *manifest) without(k entryKey) {
	m.entries = slices.DeleteFunc(m.entries, func(e entry) bool { return e.key == k })
}

// following is the manifest after m, with nothing changed yet.
func (m *manifest) following() *manifest {
	return &manifest{number: m.number + 1, base: m.base, counter: slices.Clone(m.counter), retired: slices.Clone(m.retired), entries: slices.Clone(m.entries)}
}

// encode is the payload of the manifest's blob: number and base (8 bytes each),
// length of the counter record (4) and record, the same of a retired counter, number of
// entries (4), then for each, ascending by app, kind and name: kind (1), app and name (2 bytes of length each), id
// (16), generation (8), size (4), weakest slot (1), TCB (8); number of replaced blobs
// (4) and their ids (16 each). Integers are big-endian. The counter record holds an
// authorization value, which makes the whole a secret.
func (m *manifest) encode() (*secret.Secret, error) {
	b := binary.BigEndian.AppendUint64(nil, m.number)
	b = binary.BigEndian.AppendUint64(b, m.base)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.counter)))
	b = append(b, m.counter...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.retired)))
	b = append(b, m.retired...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.entries)))
	for _, e := range m.entries {
		b = append(b, byte(e.key.kind))
		for _, s := range []string{e.key.app, e.key.name} {
			b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
			b = append(b, s...)
		}
		b = append(b, e.id[:]...)
		b = binary.BigEndian.AppendUint64(b, e.generation)
		b = binary.BigEndian.AppendUint32(b, e.size)
		b = append(b, byte(e.slot))
		b = append(b, e.tcb[:]...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.replaced)))
	for _, id := range m.replaced {
		b = append(b, id[:]...)
	}
	return secret.Take(b)
}

func parseManifest(b []byte) (*manifest, error) {
	r := &byteReader{rest: b}
	m := &manifest{number: r.number(8), base: r.number(8)}
	m.counter = r.record()
	m.retired = r.record()
	n := r.number(4)
	if n > MaxEntries {
		return nil, &Error{Code: Malformed, Field: "payload", Detail: fmt.Sprintf("manifest of %d entries, at most %d", n, MaxEntries)}
	}
	for range n {
		var e entry
		e.key.kind = Kind(r.number(1))
		e.key.app = string(r.take(int(r.number(2))))
		e.key.name = string(r.take(int(r.number(2))))
		copy(e.id[:], r.take(idSize))
		e.generation = r.number(8)
		e.size = uint32(r.number(4))
		e.slot = SlotKind(r.number(1))
		copy(e.tcb[:], r.take(len(e.tcb)))
		if r.short {
			break
		}
		if k := len(m.entries); k > 0 && m.entries[k-1].key.compare(e.key) >= 0 {
			return nil, &Error{Code: Malformed, Field: "payload", Detail: fmt.Sprintf("manifest entry %d is not in ascending order", k)}
		}
		m.entries = append(m.entries, e)
	}
	n = r.number(4)
	if n > MaxEntries {
		return nil, &Error{Code: Malformed, Field: "payload", Detail: fmt.Sprintf("manifest with %d replaced blobs, at most %d", n, MaxEntries)}
	}
	for range n {
		var id ID
		copy(id[:], r.take(idSize))
		if r.short {
			break
		}
		m.replaced = append(m.replaced, id)
	}
	if r.short || len(r.rest) > 0 {
		return nil, &Error{Code: Malformed, Field: "payload", Detail: "manifest has another length than its parts"}
	}
	return m, nil
}

// byteReader takes bytes from the front; short is set where there are too few.
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

// record takes a length of four bytes and so many more.
func (r *byteReader) record() []byte {
	n := r.number(4)
	if n > maxRecord {
		r.short = true
	}
	return slices.Clone(r.take(int(n)))
}

func (r *byteReader) number(n int) uint64 { return number(r.take(n)) }
