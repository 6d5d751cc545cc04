// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"crypto/hpke"
	"encoding/binary"
	"fmt"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/message"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// info binds an answer to the preparation, the store and the key.
func (r *Request) info() []byte {
	return evidence.Preimage(labelHPKE, r.Challenge[:], r.StoreKey[:], r.Public[:])
}

// position is the associated data of a part: which it is, of how many.
func position(i, n int) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(i)), uint32(n))
}

// A Sealer encrypts the parts of an answer.
type Sealer struct {
	answer *Answer
	sender *hpke.Sender
	parts  int
	size   int
}

// NewSealer begins the answer to r, of so many entries.
func NewSealer(r *Request, entries int) (*Sealer, error) {
	enc, sender, err := message.NewSender(r.Public, r.info())
	if err != nil {
		return nil, message.Refuse("the request for an upgrade", "nothing can be encrypted to its HPKE key: "+err.Error())
	}
	return &Sealer{answer: &Answer{Request: r.ID(), Enc: enc}, sender: sender, parts: entries + 1}, nil
}

// add encrypts the next part.
func (s *Sealer) add(plain []byte) error {
	if s.size += len(plain); s.size > MaxContent {
		return &sealing.Error{Code: api.CodeTransferTooLarge, Detail: fmt.Sprintf("the store has more than %d bytes to hand over", MaxContent)}
	}
	part, err := s.sender.Seal(position(len(s.answer.Parts), s.parts), plain)
	if err != nil {
		return fmt.Errorf("encrypt a part of the answer: %w", err)
	}
	s.answer.Parts = append(s.answer.Parts, part)
	return nil
}

// Head encrypts the head, before any entry.
func (s *Sealer) Head(h *Head) error {
	b := h.encode()
	defer clear(b)
	return s.add(b)
}

// Entry encrypts one entry.
func (s *Sealer) Entry(e *Entry) error {
	head := e.encode()
	return e.Payload.Use(func(p []byte) error {
		b := make([]byte, 0, len(head)+4+len(p)) // exactly: no copy stays behind as it grows
		b = message.Append(append(b, head...), p)
		defer clear(b)
		return s.add(b)
	})
}

// Answer returns the answer, which is not signed yet.
func (s *Sealer) Answer() (*Answer, error) {
	if len(s.answer.Parts) != s.parts {
		return nil, fmt.Errorf("make the answer of an upgrade: %d parts, want %d", len(s.answer.Parts), s.parts)
	}
	return s.answer, nil
}

// errOtherRequest is returned for an answer that was not made for the key.
func errOtherRequest(detail string) error {
	return &sealing.Error{Code: api.CodeOtherRequest, Detail: detail}
}

// Open decrypts an answer with the private half of the key of r. It calls head, and then entry
// for each, which takes over the payload. What head is given is overwritten at the end.
func (a *Answer) Open(r *Request, seed *secret.Secret, head func(*Head) error, entry func(*Entry) error) error {
	if a.Request != r.ID() {
		return errOtherRequest("the answer is for another request than the last one of this agent: ask again with `agentctl key upgrade-request`")
	}
	recipient, err := message.NewRecipient(a.Enc, seed, r.info())
	if err != nil {
		return errOtherRequest("the answer cannot be decrypted: it was changed, or made for another key")
	}
	for i, p := range a.Parts {
		b, err := recipient.Open(position(i, len(a.Parts)), p)
		if err != nil {
			return errOtherRequest(fmt.Sprintf("part %d of the answer cannot be decrypted: it was changed, or made for another key", i))
		}
		if i == 0 {
			h := &Head{}
			if err = h.parse(b); err == nil {
				defer h.Wipe()
				err = head(h)
			}
		} else {
			var e *Entry
			if e, err = parseEntry(b); err == nil {
				err = entry(e)
			}
		}
		clear(b)
		if err != nil {
			return err
		}
	}
	return nil
}
