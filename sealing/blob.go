// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// Blob is a sealed blob that was parsed and not opened. Nothing in it is authenticated.
type Blob struct {
	Version int      // version of the format: 2, or 1 if it was written before blobs were signed
	Claimed Header   // header as the file claims it; an attacker can write anything here
	Wrapped [][]byte // wrapped data key for each slot: AES-256-GCM, 60 bytes, or an age file
	Payload []byte   // AES-256-GCM under the data key: nonce (12 bytes), ciphertext, tag (16)
	Sender  Sender   // writer of the blob, as the file claims; zero in version 1

	fields []byte // header as it is in the file
}

// New returns the blob of header h, without wrapped keys, payload and sender: the caller
// encrypts and signs. If [ParseBlob] would refuse the header, the code of the error is
// [api.CodeMalformedBlob].
func New(h Header) (*Blob, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	return &Blob{Version: Version, Claimed: h, fields: h.encode()}, nil
}

// ParseBlob reads a sealed blob strictly: at most [MaxBlob] bytes, each field once in its
// place, each checksum right, nothing after the last. Every error is an [*Error] with
// the code [api.CodeTruncated], [api.CodeDamaged], [api.CodeMalformedBlob] or
// [api.CodeUnknownVersion].
func ParseBlob(b []byte) (*Blob, error) {
	version, rest, err := readPrelude(b)
	if err != nil {
		return nil, err
	}
	r := &fieldReader{rest: rest}
	out := &Blob{Version: version, Claimed: readHeader(r)}
	out.fields = bytes.Clone(rest[:len(rest)-len(r.rest)])
	for _, s := range out.Claimed.Slots {
		low, high := KeySize+Overhead, KeySize+Overhead
		if s.Kind == SlotRecovery {
			low, high = 1, maxWrapped
		}
		out.Wrapped = append(out.Wrapped, bytes.Clone(r.next(tagWrappedKey, low, high)))
	}
	out.Payload = bytes.Clone(r.next(tagPayload, Overhead, MaxPayload+Overhead))
	if version > 1 {
		out.Sender = readSender(r)
	}
	if r.err == nil && len(r.rest) > 0 {
		r.err = &Error{Code: api.CodeMalformedBlob, Field: "end", Detail: fmt.Sprintf("%d bytes after the last field", len(r.rest))}
	}
	if r.err != nil {
		return nil, r.err
	}
	return out, nil
}

// Encode returns the blob as a file. It is the inverse of [ParseBlob].
func (b *Blob) Encode() []byte {
	out := b.unsigned()
	if b.Version > 1 {
		out = appendField(out, tagSignature, b.Sender.bytes())
	}
	return out
}

// unsigned returns the file up to the payload. The length in its prelude is that of the
// whole.
func (b *Blob) unsigned() []byte {
	total := preludeSize + len(b.fields) + fieldOverhead + len(b.Payload)
	for _, w := range b.Wrapped {
		total += fieldOverhead + len(w)
	}
	if b.Version > 1 {
		total += fieldOverhead + senderSize
	}
	out := append(make([]byte, 0, total), magics[b.Version]...)
	out = binary.BigEndian.AppendUint32(out, uint32(total))
	out = binary.BigEndian.AppendUint32(out, checksum(out))
	out = append(out, b.fields...)
	for _, w := range b.Wrapped {
		out = appendField(out, tagWrappedKey, w)
	}
	return appendField(out, tagPayload, b.Payload)
}

// HeaderDigest returns the associated data of each wrapped key, SHA-256 over label and
// header. Because of it, a slot that an attacker moves to another blob does not open there.
// The label depends on the version, so that a blob that loses its signature does not open.
func (b *Blob) HeaderDigest() evidence.Digest {
	if b.Version == 1 {
		return evidence.Sum256(LabelHeader1, b.fields)
	}
	return evidence.Sum256(LabelHeader, b.fields)
}

// PayloadData returns the associated data of the payload, SHA-256 over label, header digest
// and wrapped keys. Because of it, an attacker cannot remove or exchange a slot unnoticed.
func (b *Blob) PayloadData() []byte {
	h := b.HeaderDigest()
	parts := [][]byte{h[:]}
	parts = append(parts, b.Wrapped...)
	d := evidence.Sum256(LabelPayload, parts...)
	return d[:]
}

// Version is that of the blobs that this package writes. It reads those of version 1 too.
const Version = 2

// magics open every blob: name and version of the format, 16 bytes.
var magics = [...]string{1: "agentd/sealed/1\n", 2: "agentd/sealed/2\n"}

// magicSize in bytes; preludeSize: magic, length of the whole blob (4 bytes), CRC-32C of
// both (4 bytes).
const (
	magicSize   = 16
	preludeSize = magicSize + 4 + 4
)

// fieldOverhead of a field: tag (2 bytes), length of the value (4), then the value,
// then CRC-32C of all three (4). Integers are big-endian.
const fieldOverhead = 2 + 4 + 4

// checksum returns CRC-32C. It protects against no attacker. It tells a damaged disk from
// a changed machine, and names the field. Its table is made at the first use, not in every
// program that links this package.
func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// A tag is the number of a field. Every blob has all fields of the header once, in
// this order, then one wrapped key for each slot, then the payload, then the signature.
type tag uint16

const (
	tagID tag = iota + 1
	tagKind
	tagApp
	tagUnit
	tagUser
	tagName
	tagGeneration
	tagAssociatedData
	tagDigests
	tagChipID
	tagMeasurement
	tagGuestPolicy
	tagTCB
	tagVMPL
	tagTPMSecret
	tagLossAcknowledged
	tagSlots
	tagWrappedKey
	tagPayload
	tagSignature
)

var tagNames = [...]string{
	tagID: "id", tagKind: "kind", tagApp: "app", tagUnit: "unit", tagUser: "user", tagName: "name",
	tagGeneration: "generation", tagAssociatedData: "associated-data", tagDigests: "digests", tagChipID: "chip-id",
	tagMeasurement: "measurement", tagGuestPolicy: "guest-policy", tagTCB: "tcb", tagVMPL: "vmpl",
	tagTPMSecret: "tpm-secret", tagLossAcknowledged: "loss-acknowledged", tagSlots: "slots",
	tagWrappedKey: "wrapped-key", tagPayload: "payload", tagSignature: "signature",
}

// String returns the name of the field in errors and in the specification.
func (t tag) String() string { return tagNames[t] }

func appendField(b []byte, t tag, value []byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint16(b, uint16(t))
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	b = append(b, value...)
	return binary.BigEndian.AppendUint32(b, checksum(b[start:]))
}

// readPrelude checks that b is a whole blob, and returns its version and what follows the
// prelude.
func readPrelude(b []byte) (version int, rest []byte, err error) {
	if len(b) > MaxBlob {
		return 0, nil, &Error{Code: api.CodeMalformedBlob, Field: "prelude", Detail: fmt.Sprintf("%d bytes, want at most %d", len(b), MaxBlob)}
	}
	if len(b) < preludeSize {
		return 0, nil, &Error{Code: api.CodeTruncated, Detail: fmt.Sprintf("%d bytes are left, the prelude alone has %d", len(b), preludeSize)}
	}
	n := magicSize
	if checksum(b[:n+4]) != binary.BigEndian.Uint32(b[n+4:]) {
		return 0, nil, &Error{Code: api.CodeDamaged, Field: "prelude", Detail: "checksum of the first 20 bytes is wrong"}
	}
	version = slices.Index(magics[:], string(b[:n]))
	if version < 1 {
		return 0, nil, &Error{Code: api.CodeUnknownVersion, Field: "prelude", Detail: fmt.Sprintf("begins with %q, this program reads %q and %q", b[:n], magics[1], magics[2])}
	}
	switch total := uint64(binary.BigEndian.Uint32(b[n:])); {
	case uint64(len(b)) < total:
		return 0, nil, &Error{Code: api.CodeTruncated, Detail: fmt.Sprintf("%d of %d bytes are left", len(b), total)}
	case uint64(len(b)) > total:
		return 0, nil, &Error{Code: api.CodeDamaged, Field: "end", Detail: fmt.Sprintf("%d bytes after the end", uint64(len(b))-total)}
	}
	return version, b[preludeSize:], nil
}

// fieldReader reads fields in their order. After the first error it returns nothing.
type fieldReader struct {
	rest []byte
	err  error
}

// next reads the value of field t, of low to high bytes.
func (r *fieldReader) next(t tag, low, high int) []byte {
	if r.err != nil {
		return nil
	}
	if len(r.rest) < fieldOverhead {
		return r.fail(api.CodeDamaged, t, "the blob ends before this field")
	}
	size := uint64(binary.BigEndian.Uint32(r.rest[2:]))
	if size > uint64(len(r.rest)-fieldOverhead) {
		return r.fail(api.CodeDamaged, t, "its length reaches after the end of the blob")
	}
	end := 6 + int(size)
	if checksum(r.rest[:end]) != binary.BigEndian.Uint32(r.rest[end:]) {
		return r.fail(api.CodeDamaged, t, "checksum is wrong")
	}
	if got := tag(binary.BigEndian.Uint16(r.rest)); got != t {
		return r.fail(api.CodeMalformedBlob, t, fmt.Sprintf("found field %d, want field %d", got, t))
	}
	if int(size) < low || int(size) > high {
		return r.fail(api.CodeMalformedBlob, t, fmt.Sprintf("%d bytes, want %d to %d", size, low, high))
	}
	value := r.rest[6:end]
	r.rest = r.rest[end+4:]
	return value
}

// optional reads a field of 0 or exactly size bytes.
func (r *fieldReader) optional(t tag, size int) []byte {
	v := r.next(t, 0, size)
	if len(v) != 0 && len(v) != size {
		return r.fail(api.CodeMalformedBlob, t, fmt.Sprintf("%d bytes, want 0 or %d", len(v), size))
	}
	return v
}

func (r *fieldReader) fail(c api.Code, t tag, detail string) []byte {
	if r.err == nil {
		r.err = &Error{Code: c, Field: t.String(), Detail: detail}
	}
	return nil
}
