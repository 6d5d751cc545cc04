// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"

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
// give. Statement is the exact bytes of the statement, at most [MaxStatement]. The path of i has
// at most [MaxProof] digests. Document checks no more of both.
func (s *Shared) Document(statement []byte, i Inclusion) ([]byte, error) {
	if err := cmp.Or(text.Size("statement", len(statement), 1, MaxStatement), text.Size("inclusion.path", len(i.Path), 0, MaxProof)); err != nil {
		return nil, err
	}
	inclusion, err := strictjson.Encode(&i)
	if err != nil {
		return nil, fmt.Errorf("encode inclusion: %w", err)
	}
	const members = len(`"statement":"","inclusion":,"batch":`)
	b := make([]byte, 0, len(s.head)+len(s.tail)+len(inclusion)+members+len(statement)*4/3+4)
	b = append(b, s.head...)
	b = append(b, `"statement":"`...)
	b = append(b, strictjson.EncodeBase64(statement)...)
	b = append(b, `","inclusion":`...)
	b = append(b, inclusion...)
	b = append(b, `,"batch":`...)
	return append(b, s.tail...), nil
}
