// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"

	"github.com/cvm-agentd/agentd/internal/text"
)

// Shared is what the documents of one batch have in common, encoded once: all members but
// the statement and its place in the tree. Encoding it for each caller anew would take most
// of the time that evidence takes.
type Shared struct {
	head, tail []byte // before the statement, and after the inclusion
}

// Share checks e as [Evidence.Check] does, except for its statement and inclusion, and encodes
// it for the documents of its batch.
func (e Evidence) Share() (*Shared, error) {
	e.Statement, e.Inclusion = Bytes{0}, Inclusion{}
	if err := e.Check(); err != nil {
		return nil, err
	}
	var head encoder
	tail := encoder{b: make([]byte, 0, e.room())}
	e.encodeHead(&head)
	e.encodeTail(&tail)
	if err := cmp.Or(head.err, tail.err); err != nil {
		return nil, fmt.Errorf("encode evidence: %w", err)
	}
	return &Shared{head: head.b, tail: tail.b}, nil
}

// room returns how many bytes the members after the inclusion take in most documents, or a little
// more: their logs may be large.
func (e *Evidence) room() int {
	n := len(e.Report.Bytes) + len(e.FirmwareLog)
	if e.Log != nil {
		n += len(e.Log.Records)
	}
	if e.IMA != nil {
		n += len(e.IMA.Entries)
	}
	for _, c := range e.Certificates {
		n += len(c)
	}
	return usualRest + base64.StdEncoding.EncodedLen(n)
}

// usualRest is room for quotes, PCRs and keys, in bytes.
const usualRest = 8 << 10

// Document returns the document of one caller: the bytes that [strictjson.Encode] would
// give. Statement is the exact bytes of the statement, at most [MaxStatement]. The index
// of i is less than [MaxBatch], and its path has at most [MaxProof] digests. Document checks no
// more of both.
func (s *Shared) Document(statement []byte, i Inclusion) ([]byte, error) {
	parts, err := s.Parts(statement, i)
	if err != nil {
		return nil, err
	}
	return bytes.Join(parts, nil), nil
}

// Parts returns the document of one caller as consecutive parts, so that what documents have in
// common is not copied for each. The parts must not be changed.
func (s *Shared) Parts(statement []byte, i Inclusion) ([][]byte, error) {
	if err := cmp.Or(text.Size("statement", len(statement), 1, MaxStatement), text.Size("inclusion.path", len(i.Path), 0, MaxProof)); err != nil {
		return nil, err
	}
	if i.Index >= MaxBatch {
		return nil, fmt.Errorf("inclusion.index %d, want less than %d", i.Index, MaxBatch)
	}
	const members = len(`,"statement":"","inclusion":{"index":00000,"path":[]}`)
	const digest = len(`"",`) + 44
	middle := encoder{b: make([]byte, 0, members+base64.StdEncoding.EncodedLen(len(statement))+digest*len(i.Path))}
	middle.bytes("statement", statement)
	middle.name("inclusion")
	i.encode(&middle)
	return [][]byte{s.head, middle.b, s.tail}, middle.err
}
