// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"crypto/ed25519"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/unitname"
	"github.com/cvm-agentd/agentd/sealing"
)

// RecordType is the type member of a record.
const RecordType = "agentd/delivery/1"

// MaxRecord is the largest record in bytes.
const MaxRecord = 16 << 10

// A Record is what a relying party keeps of one delivery, as a file of strict JSON. It is not
// secret. A party that can write it can have a secret sent twice, or a receipt accepted that is
// not one.
type Record struct {
	Type      string         `json:"type"`            // RecordType
	Challenge evidence.Bytes `json:"challenge"`       // 32 random bytes
	Made      uint64         `json:"made"`            // when the challenge was made: seconds since 1970, by the clock of the relying party
	Sent      *Sent          `json:"sent,omitzero"`   // what was sent; nil: nothing yet
	Stored    bool           `json:"stored,omitzero"` // a receipt was verified
}

// Sent is what was sent.
type Sent struct {
	App      string          `json:"app"`      // application that the secret is for
	Name     string          `json:"name"`     // name of the secret
	Ticket   evidence.Digest `json:"ticket"`   // id of the ticket
	Sealed   evidence.Digest `json:"sealed"`   // SHA-256 of the message with the encrypted secret
	AgentKey evidence.Bytes  `json:"agentKey"` // public half of the key that vouched for the ticket
}

// Encode returns the file.
func (r *Record) Encode() ([]byte, error) {
	b, err := strictjson.Encode(r)
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// ParseRecord reads what Encode returns.
func ParseRecord(b []byte) (*Record, error) {
	r := &Record{}
	if err := strictjson.Decode(b, MaxRecord, r); err != nil {
		return nil, fmt.Errorf("read the record of a delivery: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("read the record of a delivery: %w", err)
	}
	return r, nil
}

func (r *Record) check() error {
	if r.Type != RecordType {
		return fmt.Errorf("type %s, want %q", text.Excerpt(r.Type), RecordType)
	}
	if err := text.Size("challenge", len(r.Challenge), ChallengeSize, ChallengeSize); err != nil {
		return err
	}
	s := r.Sent
	if s == nil {
		if r.Stored {
			return fmt.Errorf("stored, and nothing was sent")
		}
		return nil
	}
	if err := text.Check("app", s.App, 1, sealing.MaxName); err != nil {
		return err
	}
	if err := unitname.CheckCredential(s.Name); err != nil {
		return err
	}
	return text.Size("agentKey", len(s.AgentKey), ed25519.PublicKeySize, ed25519.PublicKeySize)
}
