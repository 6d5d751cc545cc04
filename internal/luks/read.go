// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
)

// Offsets in the binary header, and its size.
const (
	atVersion   = 6
	atSize      = 8
	atSequence  = 16
	atLabel     = 24
	atAlgorithm = 72
	atSalt      = 104
	atUUID      = 168
	atSubsystem = 208
	atOffset    = 256
	atPadding   = 264
	atChecksum  = 448
	afterSum    = 512
	binarySize  = 4096
)

// Magic numbers of the two copies.
var magics = [2]string{"LUKS\xba\xbe", "SKUL\xba\xbe"}

// sizes are the sizes that a metadata area may have (LUKS2 specification, section 2.1).
var sizes = []int64{16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20}

// A Copy is one of the two copies of a header, or why it is not usable.
type Copy struct {
	Header *Header // nil if Err is set
	Err    error
	Torn   bool // no magic number or a wrong checksum: as a power cut leaves a copy, cryptsetup does not use it
}

// Read reads both copies of the header at the beginning of r, with the areas of their key slots.
// The error is one of r itself. What is wrong with a copy is in that copy.
func Read(r io.ReaderAt) ([2]Copy, error) {
	var out [2]Copy
	first, err := readCopy(r, 0, 0)
	if err != nil {
		return out, err
	}
	out[0] = first
	places := sizes
	if first.Header != nil {
		places = []int64{first.Header.Size}
	}
	for _, offset := range places {
		if out[1], err = readCopy(r, 1, offset); err != nil {
			return out, err
		}
		if !out[1].Torn {
			break
		}
	}
	return out, nil
}

// readCopy reads the copy at offset.
func readCopy(r io.ReaderAt, which int, offset int64) (Copy, error) {
	bad := func(err error) (Copy, error) { return Copy{Err: err}, nil }
	torn := func(format string, args ...any) (Copy, error) {
		return Copy{Torn: true, Err: refuse(api.CodeDiskHeader, format, args...)}, nil
	}
	head, err := readBytes(r, offset, binarySize)
	if err != nil {
		return Copy{}, err
	}
	if len(head) < binarySize || string(head[:atVersion]) != magics[which] {
		return torn("there is no LUKS2 header at offset %d", offset)
	}
	size := int64(binary.BigEndian.Uint64(head[atSize:]))
	if v := binary.BigEndian.Uint16(head[atVersion:]); v != 2 || !slices.Contains(sizes, size) {
		return torn("the header at offset %d has version %d and a metadata area of %d bytes", offset, v, size)
	}
	area, err := readBytes(r, offset, size)
	if err != nil {
		return Copy{}, err
	}
	if int64(len(area)) < size || !summed(area) {
		return torn("the checksum of the header at offset %d is wrong", offset)
	}
	h, err := parseArea(area, which, offset)
	if err != nil {
		return bad(err)
	}
	for id, k := range h.metadata.Keyslots {
		from, _ := number(k.Area.Offset)
		length, _ := number(k.Area.Size)
		b, err := readBytes(r, from, length)
		if err != nil {
			return Copy{}, err
		}
		if int64(len(b)) < length {
			return bad(refuse(api.CodeDiskHeader, "the device ends in the area of key slot %s", id))
		}
		n, _ := number(id)
		h.Areas[int(n)] = sha256.Sum256(b)
	}
	return Copy{Header: h}, nil
}

// readBytes reads n bytes, fewer at the end of r.
func readBytes(r io.ReaderAt, offset, n int64) ([]byte, error) {
	b := make([]byte, n)
	got, err := r.ReadAt(b, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %d bytes of the LUKS2 header at offset %d: %w", n, offset, err)
	}
	return b[:got], nil
}

// summed reports whether the checksum of a metadata area is right.
func summed(area []byte) bool {
	var sum [sha256.Size]byte
	copy(sum[:], area[atChecksum:])
	want := checksum(area)
	return subtle.ConstantTimeCompare(sum[:], want[:]) == 1
}

func checksum(area []byte) [sha256.Size]byte {
	c := bytes.Clone(area)
	clear(c[atChecksum:afterSum])
	return sha256.Sum256(c)
}

// parseArea parses a metadata area with a right checksum.
func parseArea(area []byte, which int, offset int64) (*Header, error) {
	h := &Header{
		Sequence: binary.BigEndian.Uint64(area[atSequence:]), Size: int64(len(area)),
		Areas: map[int]evidence.Digest{},
	}
	if got := int64(binary.BigEndian.Uint64(area[atOffset:])); got != offset {
		return nil, refuse(api.CodeDiskHeader, "copy %d of the header is at offset %d and says %d", which+1, offset, got)
	}
	algorithm := ""
	for _, f := range []struct {
		name string
		to   *string
		from []byte
	}{
		{"label", &h.Label, area[atLabel:atAlgorithm]},
		{"algorithm of the checksum", &algorithm, area[atAlgorithm:atSalt]},
		{"UUID", &h.UUID, area[atUUID:atSubsystem]},
		{"subsystem", &h.Subsystem, area[atSubsystem:atOffset]},
	} {
		s, ok := zeroEnded(f.from)
		if !ok {
			return nil, refuse(api.CodeDiskHeader, "the %s of the header is not text that ends with zeros", f.name)
		}
		*f.to = s
	}
	if algorithm != "sha256" {
		return nil, refuse(api.CodeDiskHeader, "a checksum by %q, want \"sha256\"", algorithm)
	}
	if !zeros(area[atPadding:atChecksum]) || !zeros(area[atChecksum+sha256.Size:binarySize]) {
		return nil, refuse(api.CodeDiskHeader, "there is something in the room that the header leaves free")
	}
	jsonText, rest, _ := bytes.Cut(area[binarySize:], []byte{0})
	if !zeros(rest) {
		return nil, refuse(api.CodeDiskHeader, "there is something after the JSON of the header")
	}
	return h, h.use(jsonText)
}

// use checks UUID and JSON of h, which has all else but the digests of areas.
func (h *Header) use(jsonText []byte) error {
	if !IsUUID(h.UUID) {
		return refuse(api.CodeDiskHeader, "UUID %q, want 36 characters as in 6b1d35f6-1b0e-4b6f-9b39-5d0c3bb9d5d3", h.UUID)
	}
	for _, s := range []string{h.Label, h.Subsystem} {
		if err := text.Check("label or subsystem", s, 0, MaxText); err != nil {
			return refuse(api.CodeDiskHeader, "%v", err)
		}
	}
	m, err := parse(jsonText, h.Size)
	if err != nil {
		return err
	}
	h.JSON, h.metadata = bytes.Clone(jsonText), *m
	return nil
}

// New returns the header that another program read, after the same checks that Read makes.
// Areas has the SHA-256 of the area of each key slot.
func New(h Header) (*Header, error) {
	if !slices.Contains(sizes, h.Size) {
		return nil, refuse(api.CodeDiskHeader, "a metadata area of %d bytes", h.Size)
	}
	if err := h.use(h.JSON); err != nil {
		return nil, err
	}
	for _, n := range h.Slots() {
		if _, ok := h.Areas[n]; !ok || len(h.Areas) != len(h.metadata.Keyslots) {
			return nil, refuse(api.CodeDiskHeader, "the digests are not those of the areas of key slots %v", h.Slots())
		}
	}
	return &h, nil
}

// IsUUID reports whether s is a UUID in small letters.
func IsUUID(s string) bool {
	for i, c := range []byte(s) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (c == '-') || !dash && !strings.ContainsRune("0123456789abcdef", rune(c)) {
			return false
		}
	}
	return len(s) == 36
}

func zeroEnded(b []byte) (string, bool) {
	s, rest, ok := bytes.Cut(b, []byte{0})
	return string(s), ok && zeros(rest)
}

func zeros(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
