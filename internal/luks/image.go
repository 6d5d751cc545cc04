// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/cvm-agentd/agentd/api"
)

// A Target is where a header is written: a file or a device.
type Target interface {
	io.WriterAt
	// Sync returns when what was written is durable.
	Sync() error
}

// area returns the metadata area of one copy.
func (h *Header) area(which int) []byte {
	b := make([]byte, h.Size)
	copy(b, magics[which])
	binary.BigEndian.PutUint16(b[atVersion:], 2)
	binary.BigEndian.PutUint64(b[atSize:], uint64(h.Size))
	binary.BigEndian.PutUint64(b[atSequence:], h.Sequence)
	copy(b[atLabel:], h.Label)
	copy(b[atAlgorithm:], "sha256")
	salt := sha256.Sum256([]byte{byte(which)}) // it tells the copies apart, and is not a secret
	copy(b[atSalt:], salt[:])
	copy(b[atUUID:], h.UUID)
	copy(b[atSubsystem:], h.Subsystem)
	binary.BigEndian.PutUint64(b[atOffset:], uint64(which)*uint64(h.Size))
	copy(b[binarySize:], h.JSON)
	sum := checksum(b)
	copy(b[atChecksum:], sum[:])
	return b
}

// WriteImage writes the header to an empty file: both copies, and the areas of its key slots as
// from has them. An area that does not have the digest in h is refused, so that nothing goes into
// the file that h does not cover. The caller makes the file [Header.ImageSize] bytes long.
func (h *Header) WriteImage(to Target, from io.ReaderAt) error {
	if err := h.copyAreas(to, from, h.Slots()); err != nil {
		return err
	}
	for which := range magics {
		if _, err := to.WriteAt(h.area(which), int64(which)*h.Size); err != nil {
			return fmt.Errorf("write copy %d of the header: %w", which+1, err)
		}
	}
	return to.Sync()
}

// ImageSize returns the bytes from the beginning of the device to the end of the key slots.
func (h *Header) ImageSize() int64 { return h.metadata.end(h.Size) }

// DataOffset returns where the data begins on the device.
func (h *Header) DataOffset() int64 {
	n, _ := number(h.metadata.Segments["0"].Offset)
	return n
}

// copyAreas copies the areas of key slots.
func (h *Header) copyAreas(to Target, from io.ReaderAt, slots []int) error {
	for _, n := range slots {
		offset, length := h.span(n)
		b, err := readBytes(from, offset, length)
		if err != nil {
			return err
		}
		if sha256.Sum256(b) != h.Areas[n] {
			return refuse(api.CodeDiskChanged, "the area of key slot %d changed while it was read", n)
		}
		if _, err := to.WriteAt(b, offset); err != nil {
			return fmt.Errorf("write the area of key slot %d: %w", n, err)
		}
	}
	return nil
}

// span returns where the area of a key slot is.
func (h *Header) span(n int) (offset, length int64) {
	k := h.metadata.Keyslots[fmt.Sprint(n)]
	offset, _ = number(k.Area.Offset)
	length, _ = number(k.Area.Size)
	return offset, length
}

// WriteCopy writes one copy of the metadata, 0 or 1, and makes it durable.
func (h *Header) WriteCopy(to Target, which int) error {
	if _, err := to.WriteAt(h.area(which), int64(which)*h.Size); err != nil {
		return fmt.Errorf("write copy %d of the header: %w", which+1, err)
	}
	if err := to.Sync(); err != nil {
		return fmt.Errorf("make copy %d of the header durable: %w", which+1, err)
	}
	return nil
}

// Replace writes h to a device with two whole copies of the header before, in an order that
// leaves at each moment one whole copy of one of the two, with the areas of its key slots: areas of
// new key slots, the second copy, the first copy. After each, the device is synced. From has the
// areas of h. [Header.Wipe] then overwrites the areas that are free.
func (h *Header) Replace(to Target, before *Header, from io.ReaderAt) error {
	if h.Size != before.Size || h.UUID != before.UUID || h.ImageSize() != before.ImageSize() {
		return refuse(api.CodeDiskHeader, "a header of volume %s cannot replace one of %s with another size", h.UUID, before.UUID)
	}
	var fresh []int
	for _, n := range h.Slots() {
		if h.SameSlot(before, n) {
			continue
		}
		if before.uses(h.span(n)) {
			return refuse(api.CodeDiskSlot, "the area of the new key slot %d is in use", n)
		}
		fresh = append(fresh, n)
	}
	if err := h.copyAreas(to, from, fresh); err != nil {
		return err
	}
	if err := to.Sync(); err != nil {
		return fmt.Errorf("make the area of a key slot durable: %w", err)
	}
	for _, which := range []int{1, 0} {
		if err := h.WriteCopy(to, which); err != nil {
			return err
		}
	}
	return nil
}

// Wipe overwrites all room for key slots that no key slot uses: an area that was given up is there
// until then.
func (h *Header) Wipe(to Target) error {
	at := 2 * h.Size
	var spans [][2]int64
	for _, n := range h.Slots() {
		offset, length := h.span(n)
		spans = append(spans, [2]int64{offset, offset + length})
	}
	slices.SortFunc(spans, func(a, b [2]int64) int { return cmp.Compare(a[0], b[0]) })
	for _, s := range append(spans, [2]int64{h.ImageSize(), 0}) {
		if free := s[0] - at; free > 0 {
			if _, err := to.WriteAt(make([]byte, free), at); err != nil {
				return fmt.Errorf("overwrite the areas of former key slots: %w", err)
			}
		}
		at = s[1]
	}
	return to.Sync()
}

// SameSlot reports whether both headers have key slot n, and the same one.
func (h *Header) SameSlot(o *Header, n int) bool {
	id := fmt.Sprint(n)
	a, ok := h.metadata.Keyslots[id]
	b, ok2 := o.metadata.Keyslots[id]
	return ok && ok2 && h.Areas[n] == o.Areas[n] && a.same(b)
}

// uses reports whether an area of h overlaps that one.
func (h *Header) uses(offset, length int64) bool {
	for _, n := range h.Slots() {
		if o, l := h.span(n); o < offset+length && offset < o+l {
			return true
		}
	}
	return false
}
