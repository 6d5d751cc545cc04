// SPDX-License-Identifier: Apache-2.0

package disks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/luks"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/text"
)

// KeySize is the size of the key of the agent's key slot in bytes: random, so that the derivation
// of the slot need not be slow.
const KeySize = 64

const (
	version   = 1
	maxRecord = 60 << 10 // bytes, within what the store seals as one secret
	maxDevice = 4096     // bytes of a path (PATH_MAX)
)

// record is what is sealed for a volume: a version byte, a byte that is 1 if the loss without
// recovery is acknowledged, the device (2 bytes of length), the number of recovery key slots (1)
// and each of them (1), the number of entries (1), then each entry: key slot (4), key (64),
// sequence number (8), size (4), label, UUID, subsystem and JSON (2 bytes of length each), number
// of areas (1), and for each area key slot (4) and SHA-256 (32).
// Integers are big-endian. The name of the volume and its unit are in the header of the blob.
//
// The store's blobs are authenticated: only this machine writes one that it opens. So the header in
// it is bound as by a MAC whose key is in it.
type record struct {
	loss     bool
	device   string
	recovery []int    // key slots that open the volume without the agent, ascending
	entries  []*entry // the present header, then perhaps the next
}

// entry is a header that is accepted, with the key of the agent's key slot in it.
type entry struct {
	slot   uint32
	key    *secret.Secret
	header *luks.Header
}

// wipe wipes the keys of r, which may be nil.
func (r *record) wipe() {
	if r == nil {
		return
	}
	for _, e := range r.entries {
		e.key.Wipe()
	}
}

// with returns r with other entries.
func (r *record) with(entries ...*entry) *record {
	return &record{loss: r.loss, device: r.device, recovery: r.recovery, entries: entries}
}

// match returns which of the copies of a header is to be used, and the entry of it. Every copy
// must be recorded: a host that changes one of the two is found out, although the other one would
// do. Of two, the one with the higher sequence number is newer.
func (r *record) match(copies []*luks.Header) (use int, found *entry, err error) {
	for i, h := range copies {
		e := r.find(h)
		if e == nil {
			return 0, nil, h.Explain(r.entries[0].header)
		}
		if found == nil || e.header.Sequence > found.header.Sequence {
			use, found = i, e
		}
	}
	return use, found, nil
}

func (r *record) find(h *luks.Header) *entry {
	d := h.Digest()
	for _, e := range r.entries {
		if e.header.Digest() == d {
			return e
		}
	}
	return nil
}

// encode returns r in sealed form. The caller wipes it.
func (r *record) encode() (*secret.Secret, error) {
	b := make([]byte, 0, maxRecord) // at once, so that no copy stays behind as it grows
	defer func() { clear(b[:cap(b)]) }()
	b = append(b, version, flag(r.loss))
	b = appendText(b, r.device)
	b = append(b, byte(len(r.recovery)))
	for _, n := range r.recovery {
		b = append(b, byte(n))
	}
	b = append(b, byte(len(r.entries)))
	for _, e := range r.entries {
		b = binary.BigEndian.AppendUint32(b, e.slot)
		if err := e.key.Use(func(k []byte) error { b = append(b, k...); return nil }); err != nil {
			return nil, err
		}
		h := e.header
		b = binary.BigEndian.AppendUint64(b, h.Sequence)
		b = binary.BigEndian.AppendUint32(b, uint32(h.Size))
		for _, s := range []string{h.Label, h.UUID, h.Subsystem, string(h.JSON)} {
			b = appendText(b, s)
		}
		b = append(b, byte(len(h.Areas)))
		for _, n := range h.Slots() {
			d := h.Areas[n]
			b = append(binary.BigEndian.AppendUint32(b, uint32(n)), d[:]...)
		}
	}
	if len(b) > maxRecord {
		return nil, fmt.Errorf("a record of %d bytes, at most %d", len(b), maxRecord)
	}
	return secret.Take(slices.Clone(b))
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// errRecord is returned for a blob that encode does not write.
var errRecord = errors.New("it is not the record of a volume")

// parseRecord reads what encode writes, strictly. The caller wipes the record.
func parseRecord(s *secret.Secret) (out *record, err error) {
	err = s.Use(func(b []byte) error {
		out, err = readRecord(&reader{rest: b})
		return err
	})
	if err != nil {
		out.wipe()
		return nil, fmt.Errorf("read the record of the volume: %w", err)
	}
	return out, nil
}

func readRecord(r *reader) (*record, error) {
	out := &record{}
	v, loss := r.number(1), r.number(1)
	out.device = string(r.text())
	for range r.number(1) {
		out.recovery = append(out.recovery, int(r.number(1)))
	}
	n := r.number(1)
	if r.short || v != version || loss > 1 || n < 1 || n > 2 || len(out.recovery) > luks.MaxSlots || checkDevice(out.device) != nil {
		return out, errRecord
	}
	out.loss = loss == 1
	for range n {
		e, err := readEntry(r)
		if e != nil {
			out.entries = append(out.entries, e)
		}
		if err != nil {
			return out, err
		}
	}
	if r.short || len(r.rest) > 0 || len(out.entries) == 2 && out.entries[0].header.UUID != out.entries[1].header.UUID {
		return out, errRecord
	}
	return out, nil
}

func readEntry(r *reader) (*entry, error) {
	e := &entry{slot: uint32(r.number(4))}
	key := slices.Clone(r.take(KeySize))
	h := luks.Header{Sequence: r.number(8), Size: int64(r.number(4))}
	h.Label, h.UUID, h.Subsystem = string(r.text()), string(r.text()), string(r.text())
	h.JSON = slices.Clone(r.text())
	h.Areas = map[int]evidence.Digest{}
	n := r.number(1)
	for range n {
		slot := int(r.number(4))
		var d evidence.Digest
		copy(d[:], r.take(len(d)))
		h.Areas[slot] = d
	}
	var err error
	if e.key, err = secret.Take(key); err != nil {
		return nil, err
	}
	if r.short || int(n) != len(h.Areas) {
		return e, errRecord
	}
	if e.header, err = luks.New(h); err != nil {
		return e, err
	}
	return e, checkSlot(e.header, e.slot)
}

// others returns the key slots of a header besides the agent's.
func others(h *luks.Header, slot uint32) []int {
	return slices.DeleteFunc(h.Slots(), func(n int) bool { return n == int(slot) })
}

// checkSlot refuses a header that does not have the agent's key slot.
func checkSlot(h *luks.Header, slot uint32) error {
	if !slices.Contains(h.Slots(), int(slot)) {
		return &luks.Error{Code: api.CodeDiskSlot, Detail: fmt.Sprintf("the header has key slots %v and not the agent's, %d", h.Slots(), slot)}
	}
	return nil
}

func checkDevice(path string) error {
	if err := text.Check("path of a device", path, 1, maxDevice); err != nil {
		return err
	}
	if path[0] != '/' {
		return fmt.Errorf("path of a device %q is not absolute", path)
	}
	return nil
}

// reader takes bytes from the front, and sets short if there are too few.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if r.short || n > len(r.rest) {
		r.short = true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) number(n int) (x uint64) {
	for _, c := range r.take(n) {
		x = x<<8 | uint64(c)
	}
	return x
}

func (r *reader) text() []byte { return r.take(int(r.number(2))) }
