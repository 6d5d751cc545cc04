// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"bytes"
	"fmt"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// Blob is a sealed blob that was parsed and not opened. Nothing in it is authenticated.
type Blob struct {
	Claimed Header   // header as the file claims it; an attacker can write anything here
	Wrapped [][]byte // wrapped data key for each slot: AES-256-GCM, 60 bytes, or an age file
	Payload []byte   // AES-256-GCM under the data key: nonce (12 bytes), ciphertext, tag (16)

	fields []byte // header as it is in the file
}

// New returns the blob of header h, without wrapped keys and payload: the caller encrypts
// those. If [ParseBlob] would refuse the header, the code of the error is
// [api.CodeMalformedBlob].
func New(h Header) (*Blob, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	return &Blob{Claimed: h, fields: h.encode()}, nil
}

// ParseBlob reads a sealed blob strictly: at most [MaxBlob] bytes, each field once in its
// place, each checksum right, nothing after the payload. Every error is an [*Error] with
// the code [api.CodeTruncated], [api.CodeDamaged], [api.CodeMalformedBlob] or
// [api.CodeUnknownVersion].
func ParseBlob(b []byte) (*Blob, error) {
	rest, err := readPrelude(b)
	if err != nil {
		return nil, err
	}
	r := &fieldReader{rest: rest}
	out := &Blob{Claimed: readHeader(r)}
	out.fields = bytes.Clone(rest[:len(rest)-len(r.rest)])
	for _, s := range out.Claimed.Slots {
		low, high := KeySize+Overhead, KeySize+Overhead
		if s.Kind == SlotRecovery {
			low, high = 1, maxWrapped
		}
		out.Wrapped = append(out.Wrapped, bytes.Clone(r.next(tagWrappedKey, low, high)))
	}
	out.Payload = bytes.Clone(r.next(tagPayload, Overhead, MaxPayload+Overhead))
	if r.err == nil && len(r.rest) > 0 {
		r.err = &Error{Code: api.CodeMalformedBlob, Field: "end", Detail: fmt.Sprintf("%d bytes after the payload", len(r.rest))}
	}
	if r.err != nil {
		return nil, r.err
	}
	return out, nil
}

// Encode returns the blob as a file. It is the inverse of [ParseBlob].
func (b *Blob) Encode() []byte {
	total := preludeSize + len(b.fields) + fieldOverhead + len(b.Payload)
	for _, w := range b.Wrapped {
		total += fieldOverhead + len(w)
	}
	out := appendPrelude(make([]byte, 0, total), total)
	out = append(out, b.fields...)
	for _, w := range b.Wrapped {
		out = appendField(out, tagWrappedKey, w)
	}
	return appendField(out, tagPayload, b.Payload)
}

// HeaderDigest returns the associated data of each wrapped key, SHA-256 over label and
// header. Because of it, a slot that an attacker moves to another blob does not open there.
func (b *Blob) HeaderDigest() evidence.Digest { return evidence.Sum256(LabelHeader, b.fields) }

// PayloadData returns the associated data of the payload, SHA-256 over label, header digest
// and wrapped keys. Because of it, an attacker cannot remove or exchange a slot unnoticed.
func (b *Blob) PayloadData() []byte {
	h := b.HeaderDigest()
	parts := [][]byte{h[:]}
	parts = append(parts, b.Wrapped...)
	d := evidence.Sum256(LabelPayload, parts...)
	return d[:]
}
