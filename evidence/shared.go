// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
)

// Shared is what the documents of one batch have in common, encoded once: all members but
// the statement and its place in the tree. Encoding it for each caller anew would take most
// of the time that evidence takes.
type Shared struct {
	head, tail []byte // before the text of the statement, and after the inclusion
}

// Share checks e as [Evidence.Check] does, except for its statement and inclusion, and encodes
// it for the documents of its batch.
func (e Evidence) Share() (*Shared, error) {
	e.Statement, e.Inclusion = Bytes{0}, Inclusion{}
	if err := e.Check(); err != nil {
		return nil, err
	}
	b, err := strictjson.Encode(&e)
	if err != nil {
		return nil, err
	}
	head, rest, found := bytes.Cut(b, []byte(`"statement":"AA==","inclusion":`))
	_, tail, more := bytes.Cut(rest, []byte(`,"batch":`)) // not in an inclusion
	if !found || !more {
		return nil, errors.New("the encoding of evidence has another order of members than this package expects")
	}
	return &Shared{head: bytes.Clone(head), tail: bytes.Clone(tail)}, nil
}

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
	const members = len(`"statement":"","inclusion":{"index":00000,"path":[]},"batch":`)
	const digest = len(`"",`) + 44
	b := make([]byte, 0, members+base64.StdEncoding.EncodedLen(len(statement))+digest*len(i.Path))
	b = append(b, `"statement":"`...)
	b = base64.StdEncoding.AppendEncode(b, statement)
	b = append(b, `","inclusion":`...)
	b = i.append(b)
	b = append(b, `,"batch":`...)
	return [][]byte{s.head, b, s.tail}, nil
}

// append appends the encoding of i, as [strictjson.Encode] would give it.
func (i *Inclusion) append(b []byte) []byte {
	b = append(b, `{"index":`...)
	b = strconv.AppendUint(b, i.Index, 10)
	for n, d := range i.Path {
		b = append(b, []string{`,"path":["`, `","`}[min(n, 1)]...)
		b = base64.StdEncoding.AppendEncode(b, d[:])
	}
	if len(i.Path) > 0 {
		b = append(b, `"]`...)
	}
	return append(b, '}')
}
