// SPDX-License-Identifier: Apache-2.0

// Package message has what the messages between machines share: their fields, and the suite that
// encrypts to a key. Which messages there are is up to its users: docs/upgrades.md and
// docs/delivery.md.
//
// A message is a line that names it, then fields, each a length (4 bytes, big-endian) and a value.
// Every field is present, and nothing follows.
package message

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/sealing"
)

// Refuse returns the error of a message that is not one.
func Refuse(what, found string) error {
	return &sealing.Error{Code: api.CodeMalformedMessage, Detail: fmt.Sprintf("read %s: %s", what, found)}
}

// Append appends a field.
func Append(b, value []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(value))), value...)
}

// A Reader reads fields. After the first error it returns nothing.
type Reader struct {
	What string // the message in words
	Err  error  // first error
	rest []byte
}

// Read returns a Reader of fields that no line comes before.
func Read(what string, b []byte) *Reader { return &Reader{What: what, rest: b} }

// Begin returns a Reader of a message of at most so many bytes, which begins with the line magic.
func Begin(what, magic string, b []byte, most int) *Reader {
	r := Read(what, b)
	rest, ok := bytes.CutPrefix(b, []byte(magic))
	switch {
	case len(b) > most:
		r.Err = Refuse(what, fmt.Sprintf("%d bytes, at most %d", len(b), most))
	case !ok:
		r.Err = Refuse(what, fmt.Sprintf("it does not begin with the line %q: it is another file, or of another version", magic[:len(magic)-1]))
	}
	r.rest = rest
	return r
}

// Next returns a value of least to most bytes, which is not copied.
func (r *Reader) Next(name string, least, most int) []byte {
	if r.Err != nil {
		return nil
	}
	if len(r.rest) < 4 {
		r.Err = Refuse(r.What, "it ends before "+name)
		return nil
	}
	n := uint64(binary.BigEndian.Uint32(r.rest))
	if n < uint64(least) || n > uint64(most) || n > uint64(len(r.rest)-4) {
		r.Err = Refuse(r.What, fmt.Sprintf("%s of %d bytes, want %d to %d, and %d are left", name, n, least, most, len(r.rest)-4))
		return nil
	}
	v := r.rest[4 : 4+n]
	r.rest = r.rest[4+n:]
	return v
}

// Exactly returns a value of that size, and zeros after an error.
func (r *Reader) Exactly(name string, size int) []byte {
	if v := r.Next(name, size, size); v != nil {
		return v
	}
	return make([]byte, size)
}

// End refuses what follows the last field, and returns the first error.
func (r *Reader) End() error {
	if r.Err == nil && len(r.rest) > 0 {
		r.Err = Refuse(r.What, fmt.Sprintf("%d bytes after its end", len(r.rest)))
	}
	return r.Err
}
