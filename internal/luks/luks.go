// SPDX-License-Identifier: Apache-2.0

// Package luks reads headers of LUKS2 volumes that an attacker may have written, and refuses
// each that would have a volume read, written or opened in another way than with the one key
// and cipher that this project uses.
//
// # Format
//
// A header is two copies of a metadata area, then the areas of key slots (LUKS2 On-Disk Format
// Specification, version 1.1). A metadata area is a binary header of 4,096 bytes, then JSON:
//
//	offset  bytes  field, integers big-endian
//	0       6      "LUKS\xba\xbe", in the second copy "SKUL\xba\xbe"
//	6       2      version, 2
//	8       8      size of the metadata area: binary header and JSON
//	16      8      sequence number, one more with each change
//	24      48     label, ends with zeros
//	72      32     algorithm of the checksum, "sha256"
//	104     64     salt of the checksum
//	168     40     UUID
//	208     48     subsystem
//	256     8      offset of this copy from the beginning of the device
//	264     184    zeros
//	448     64     checksum over the metadata area, with zeros in this field
//	512     3584   zeros
//	4096           JSON, then zeros to the end
//
// [Read] returns the copies. A copy that has a right checksum and breaks a rule of this package
// is refused with the code of that rule. [Header.Digest] covers everything of a copy that tells
// how the volume is read and who opens it: the identity, the sequence number, the JSON, and the
// areas of the key slots. It is the same for both copies. [Header.WriteImage] writes a file that
// consists of what the digest covers and of nothing else, for cryptsetup's option --header.
package luks

import (
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// Caps on what a header may ask for.
const (
	MaxJSON    = 12 << 10 // bytes of the JSON text: all that the usual metadata area has
	MaxSlots   = 8        // key slots
	MaxArea    = 1 << 20  // bytes of the area of one key slot
	MaxHeader  = 64 << 20 // bytes in front of the data
	MaxText    = 48       // bytes of label and subsystem
	maxKDFCost = 4 << 20  // KiB of memory for Argon2 (RFC 9106)
	maxKDFTime = 1 << 10  // passes of Argon2
	maxCPUs    = 64       // lanes of Argon2
	maxRounds  = 1 << 31  // iterations of PBKDF2
	minRounds  = 1000     // iterations of PBKDF2 (LUKS2 specification, section 4)
)

// LabelDigest is the label of [Header.Digest].
const LabelDigest = "agentd/disk/header/1"

// Header is one copy of the header that a volume has, which met every rule.
type Header struct {
	Sequence  uint64
	Size      int64  // bytes of the metadata area
	Label     string // up to MaxText bytes
	UUID      string // of the volume, 36 characters
	Subsystem string // up to MaxText bytes
	JSON      []byte // text without the zeros after it
	Areas     map[int]evidence.Digest

	metadata metadata
}

// An Error says why a header is refused. errors.Is compares it with a code.
type Error struct {
	Code   api.Code
	Detail string
}

func (e *Error) Error() string { return e.Detail }

// Is reports whether target is the code of e.
func (e *Error) Is(target error) bool { return target == e.Code }

func refuse(c api.Code, format string, args ...any) error {
	return &Error{Code: c, Detail: fmt.Sprintf(format, args...)}
}

// CodeOf returns the code of err, "" if err is not an [*Error].
func CodeOf(err error) api.Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

// Slots returns the numbers of the key slots, ascending.
func (h *Header) Slots() []int { return numbers(h.metadata.Keyslots) }

// Cipher returns how data is encrypted, as cryptsetup names it, and the bytes of the key.
func (h *Header) Cipher() (cipher string, keyBytes int) {
	for _, k := range h.metadata.Keyslots {
		keyBytes = k.KeySize
	}
	return h.metadata.Segments["0"].Encryption, keyBytes
}

// Digest returns the SHA-256 over everything that tells how the volume is read and who opens
// it: that of P(LabelDigest, UUID, label, subsystem, size of the metadata area (8), sequence
// number (8), JSON, and for each key slot, ascending, its number (4) and the SHA-256 of its
// area).
func (h *Header) Digest() evidence.Digest {
	parts := [][]byte{[]byte(h.UUID), []byte(h.Label), []byte(h.Subsystem), be64(uint64(h.Size)), be64(h.Sequence), h.JSON}
	for _, n := range h.Slots() {
		d := h.Areas[n]
		parts = append(parts, be32(uint32(n)), d[:])
	}
	return evidence.Sum256(LabelDigest, parts...)
}
