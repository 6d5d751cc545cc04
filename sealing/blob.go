// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"bytes"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
)

// Blob is a sealed blob that was parsed. Nothing in it was authenticated yet.
type Blob struct {
	Claimed Header // what the blob says of itself; a forger can write anything here

	fields  []byte   // of the header, as they stand in the file
	wrapped [][]byte // one for each slot
	payload []byte   // nonce, ciphertext, tag
}

// ParseBlob reads a sealed blob, strictly: at most MaxBlob bytes, every field once in
// its place, every checksum right, no byte behind. Errors: [Truncated], [Damaged],
// [Malformed], [UnknownVersion].
func ParseBlob(b []byte) (*Blob, error) {
	rest, err := readPrelude(b)
	if err != nil {
		return nil, err
	}
	r := &fieldReader{rest: rest}
	out := &Blob{Claimed: readHeader(r)}
	out.fields = bytes.Clone(rest[:len(rest)-len(r.rest)])
	for _, s := range out.Claimed.Slots {
		low, high := keySize+overhead, keySize+overhead
		if s.Kind == SlotRecovery {
			low, high = 1, maxWrapped
		}
		out.wrapped = append(out.wrapped, bytes.Clone(r.next(tagWrappedKey, low, high)))
	}
	out.payload = bytes.Clone(r.next(tagPayload, overhead, maxPayload+overhead))
	if r.err == nil && len(r.rest) > 0 {
		r.err = &Error{Code: Malformed, Field: "end", Detail: fmt.Sprintf("%d bytes behind the payload", len(r.rest))}
	}
	if r.err != nil {
		return nil, r.err
	}
	return out, nil
}

// encode is the reverse of ParseBlob.
func (b *Blob) encode() []byte {
	total := preludeSize + len(b.fields) + fieldOverhead + len(b.payload)
	for _, w := range b.wrapped {
		total += fieldOverhead + len(w)
	}
	out := appendPrelude(make([]byte, 0, total), total)
	out = append(out, b.fields...)
	for _, w := range b.wrapped {
		out = appendField(out, tagWrappedKey, w)
	}
	return appendField(out, tagPayload, b.payload)
}

// headerDigest is the associated data of every wrapped key: a slot that is moved to
// another blob does not open there.
func (b *Blob) headerDigest() evidence.Digest { return evidence.Sum256(labelHeader, b.fields) }

// payloadData is the associated data of the payload: header and wrapped keys, so that
// no slot can be taken away or exchanged without being noticed.
func (b *Blob) payloadData() []byte {
	h := b.headerDigest()
	parts := [][]byte{h[:]}
	parts = append(parts, b.wrapped...)
	d := evidence.Sum256(labelPayload, parts...)
	return d[:]
}
