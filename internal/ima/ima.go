// SPDX-License-Identifier: Apache-2.0

// Package ima reads the list of Linux's integrity measurement architecture (IMA), and replays
// it to values of PCR 10. The kernel measures a file before it is executed or mapped: it adds
// an entry to the list, then extends the PCR.
//
// The list is the file binary_runtime_measurements of securityfs. Its integers are little-endian,
// as on every machine of AMD:
//
//	PCR            u32
//	hash           20 bytes: SHA-1 of what is hashed, zero for a violation
//	name           u32 length and bytes: name of the template, or its fields joined by "|"
//	data           u32 length and bytes, fields of u32 length and bytes each
//
// What is hashed is the data. The oldest template, "ima", has no length before its data, which
// are a digest of 20 bytes and a path of u32 length and bytes; what is hashed is the digest and
// the path, padded with zeros to 256 bytes (security/integrity/ima in the source of Linux:
// ima_fs.c, ima_crypto.c, ima_template.c).
//
// PCR and name are not hashed. So a template cannot be believed more than the shape of its
// fields: [Entry.Fields] reads them strictly, takes digest and name from the first two only, and a
// verifier must judge entries of all templates by the same rules. Nothing of a violation is hashed.
package ima

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/cvm-agentd/agentd/internal/text"
)

// PCR is the register that the kernel extends, unless a rule of its policy names another.
const PCR = 10

// Caps on one entry. The largest that a kernel writes have a certificate, a signature, a table
// of the device mapper or a policy of SELinux in them.
const (
	MaxTemplate = 255     // bytes of a template's name
	MaxData     = 1 << 20 // bytes of the data of an entry
	MaxPath     = 4096    // bytes of a path, as in the kernel's PATH_MAX
	maxOldPath  = 255     // bytes of a path in the template "ima"
)

const (
	hashSize    = sha1.Size
	headSize    = 4 + hashSize + 4          // PCR, hash and the length of the name
	oldTemplate = "ima"                     // the template without a length of its data
	oldData     = hashSize + maxOldPath + 1 // bytes that are hashed of an entry of that template
)

// An Entry is one measurement.
type Entry struct {
	Number   uint64         // place in the list, from 0
	PCR      uint32         // register that was extended, by the list's word
	Template string         // name, by the list's word
	Hash     [hashSize]byte // SHA-1 of Data; zero for a violation
	Data     []byte         // what is hashed: part of the list, valid until the next entry
}

// Violation reports whether the kernel could not tell what was used: the file was written
// while it was open for measuring. The register was extended with ones, and what the entry says
// is hashed nowhere.
func (e *Entry) Violation() bool { return e.Hash == [hashSize]byte{} }

// A Fault is why a list cannot be read, at one of its entries.
type Fault struct {
	Entry uint64 // number of the entry
	Err   error
}

// Error returns the fault after its place.
func (f *Fault) Error() string { return fmt.Sprintf("IMA list, entry %d: %v", f.Entry, f.Err) }

// Unwrap returns the error without its place.
func (f *Fault) Unwrap() error { return f.Err }

// ErrCut is wrapped by the error about a list that ends within an entry.
var ErrCut = errors.New("the list ends within the entry")

// split returns the name of the first entry of b, and its size. The size is 0 if b is too short.
func split(b []byte) (name []byte, size int, err error) {
	if len(b) < headSize {
		return nil, 0, nil
	}
	n := binary.LittleEndian.Uint32(b[headSize-4:])
	if n < 1 || n > MaxTemplate {
		return nil, 0, fmt.Errorf("the template's name has %d bytes, want 1 to %d", n, MaxTemplate)
	}
	at := headSize + int(n)
	if len(b) < at {
		return nil, 0, nil
	}
	name = b[headSize:at]
	most := uint32(MaxData)
	if string(name) == oldTemplate { // the length of its path follows the digest
		at, most = at+hashSize, maxOldPath
	}
	if len(b) < at+4 {
		return nil, 0, nil
	}
	length := binary.LittleEndian.Uint32(b[at:])
	if length < 1 || length > most {
		return nil, 0, fmt.Errorf("template %s: the data has %d bytes, want 1 to %d", text.Excerpt(string(name)), length, most)
	}
	if size = at + 4 + int(length); len(b) < size {
		return nil, 0, nil
	}
	return name, size, nil
}

// Size returns the number of bytes of the first entry of b, 0 if b ends within it. The error says
// why it is not an entry.
func Size(b []byte) (int, error) {
	_, size, err := split(b)
	return size, err
}

// read fills e with the first entry of b, whose name and size are known.
func (e *Entry) read(b, name []byte, size int) error {
	e.PCR = binary.LittleEndian.Uint32(b)
	e.Hash = [hashSize]byte(b[4:])
	if e.Template != string(name) { // most entries have the template of the one before
		e.Template = string(name)
	}
	at := headSize + len(name)
	if e.Template != oldTemplate {
		e.Data = b[at+4 : size]
	} else {
		path := b[at+hashSize+4 : size]
		if bytes.IndexByte(path, 0) >= 0 { // or the same bytes would be two paths
			return errors.New("the path contains a zero byte")
		}
		e.Data = make([]byte, oldData)
		copy(e.Data, b[at:at+hashSize])
		copy(e.Data[hashSize:], path)
	}
	if e.PCR >= 24 {
		return fmt.Errorf("PCR %d, want 0 to 23", e.PCR)
	}
	if !e.Violation() && sha1.Sum(e.Data) != e.Hash {
		return errors.New("the hash of the template is not that of its data")
	}
	return nil
}

// Entries returns the entries of a list that comes in pieces, cut anywhere. The first error
// ends it: of a piece, or a [*Fault]. An entry is valid until the next one. What is kept in
// memory is a piece, and an entry that is not whole yet. The time grows with the bytes, however
// small the pieces are: who sends a list can choose them.
func Entries(pieces iter.Seq2[[]byte, error]) iter.Seq2[*Entry, error] {
	return EntriesFrom(0, pieces)
}

// EntriesFrom does what [Entries] does, for a list whose first entry has this number.
func EntriesFrom(first uint64, pieces iter.Seq2[[]byte, error]) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		var rest []byte
		e := Entry{Number: first}
		for piece, err := range pieces {
			if err != nil {
				yield(nil, err)
				return
			}
			b := piece
			if len(rest) > 0 {
				rest = append(rest, piece...)
				b = rest
			}
			for {
				name, size, err := split(b)
				if err == nil && size == 0 {
					break
				}
				if err == nil {
					err = e.read(b, name, size)
				}
				if err != nil {
					yield(nil, &Fault{e.Number, err})
					return
				}
				if !yield(&e, nil) {
					return
				}
				e.Number++
				b = b[size:]
			}
			switch {
			case len(rest) == 0:
				rest = append(rest, b...)
			case len(b) < len(rest): // an entry was read; if not, nothing is copied again
				rest = rest[:copy(rest, b)]
			}
		}
		if len(rest) > 0 {
			yield(nil, &Fault{e.Number, ErrCut})
		}
	}
}

// Whole returns a list that is in memory, for [Entries].
func Whole(list []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if len(list) > 0 {
			yield(list, nil)
		}
	}
}

// Looks reports whether b begins as a list does: with an entry that can be read.
func Looks(b []byte) bool {
	name, size, err := split(b)
	return err == nil && size > 0 && new(Entry).read(b, name, size) == nil && !slices.Contains(name, 0)
}
