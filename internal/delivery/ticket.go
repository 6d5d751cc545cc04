// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/message"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/sealing"
)

// The lines that name messages (package message).
const (
	magicTicket  = "agentd/delivery/ticket/1\n"
	magicSealed  = "agentd/delivery/sealed/1\n"
	magicReceipt = "agentd/delivery/receipt/1\n"
	magicAsk     = "agentd/delivery/ask/1\n"
	magicRefusal = "agentd/delivery/refusal/1\n"
)

// Ticket is what an agent lets a relying party encrypt one secret by. It is not secret. Until
// [Request.Verify] accepted it, any party can have written it.
type Ticket struct {
	Challenge Challenge         // of the relying party
	Public    message.PublicKey // key that exists for this ticket alone, in the memory of the agent
	App       string            // application that the secret is for
	Name      string            // name of the secret, and of the credential
	Digest    evidence.Digest   // of the application's manifest: only as this it gets the secret stored
	Replace   bool              // the secret replaces one of that name; otherwise there must be none
	ValidFor  uint32            // seconds from the making of the ticket, by the guest's clock that starts with the kernel
	Sender    []byte            // Ed25519 public key that must sign what is encrypted; nil: any sender
	Evidence  []byte            // fresh: its nonce is the challenge, its user data [Ticket.ID]
	Signature []byte            // of the agent key, over [Ticket.vouched]
}

// ID names the ticket. The evidence, the encryption, the sender's signature and the receipt are
// bound to it.
func (t *Ticket) ID() evidence.Digest {
	return evidence.Sum256(labelTicket, t.Challenge[:], t.Public[:], []byte(t.App), []byte(t.Name), t.Digest[:], []byte{flag(t.Replace)},
		binary.BigEndian.AppendUint32(nil, t.ValidFor), t.Sender)
}

// Vouch signs the ticket with the agent key. The agent does that for tickets that it made itself
// alone, so no evidence that another program asked for passes for that of a ticket.
func (t *Ticket) Vouch(agent crypto.Signer) (err error) {
	t.Signature, err = agent.Sign(nil, t.vouched(), crypto.Hash(0))
	return err
}

// vouched is what the agent key signs.
func (t *Ticket) vouched() []byte {
	id, sum := t.ID(), sha256.Sum256(t.Evidence)
	return evidence.Preimage(labelVouch, id[:], sum[:])
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// Encode returns the message.
func (t *Ticket) Encode() []byte {
	b := message.Append([]byte(magicTicket), t.Challenge[:])
	b = message.Append(b, t.Public[:])
	b = message.Append(b, []byte(t.App))
	b = message.Append(b, []byte(t.Name))
	b = message.Append(b, t.Digest[:])
	b = message.Append(b, []byte{flag(t.Replace)})
	b = message.Append(b, binary.BigEndian.AppendUint32(nil, t.ValidFor))
	b = message.Append(b, t.Sender)
	b = message.Append(b, t.Evidence)
	return message.Append(b, t.Signature)
}

// ParseTicket reads what Encode returns, and refuses everything else. It verifies nothing.
func ParseTicket(b []byte) (*Ticket, error) {
	r := message.Begin("the ticket of a delivery", magicTicket, b, MaxTicket)
	t := &Ticket{Challenge: Challenge(r.Exactly("challenge", ChallengeSize))}
	copy(t.Public[:], r.Exactly("HPKE key", message.PublicSize))
	t.App = string(r.Next("app", 1, sealing.MaxName))
	t.Name = string(r.Next("name", 1, sealing.MaxName))
	t.Digest = evidence.Digest(r.Exactly("digest", sha256.Size))
	replace := r.Exactly("mark of a replacement", 1)[0]
	t.Replace = replace == 1
	t.ValidFor = binary.BigEndian.Uint32(r.Exactly("validity", 4))
	t.Sender = bytes.Clone(r.Next("sender", 0, ed25519.PublicKeySize))
	t.Evidence = bytes.Clone(r.Next("evidence", 1, MaxTicket))
	t.Signature = bytes.Clone(r.Exactly("signature", ed25519.SignatureSize))
	if r.Err == nil {
		r.Err = t.check(r.What, replace)
	}
	return t, r.End()
}

// check refuses what no agent writes.
func (t *Ticket) check(what string, replace byte) error {
	if err := checkSecret(what, t.App, t.Name, replace); err != nil {
		return err
	}
	if t.ValidFor < 1 || t.ValidFor > MaxValidity {
		return message.Refuse(what, fmt.Sprintf("valid for %d seconds, want 1 to %d", t.ValidFor, MaxValidity))
	}
	if len(t.Sender) > 0 {
		if err := CheckSender(t.Sender); err != nil {
			return message.Refuse(what, err.Error())
		}
	} else {
		t.Sender = nil
	}
	return nil
}

// CheckSender refuses what is not the public half of an Ed25519 key.
func CheckSender(key []byte) error {
	if len(key) != ed25519.PublicKeySize {
		return fmt.Errorf("sender's key of %d bytes, want %d of an Ed25519 public key", len(key), ed25519.PublicKeySize)
	}
	return keys.CheckEd25519(key)
}

// Receipt is what an agent answers once a secret is stored.
type Receipt struct {
	Ticket    evidence.Digest // [Ticket.ID]
	Sealed    evidence.Digest // [Sealed.Digest] of the message that was opened
	Signature []byte          // of the agent key that vouched for the ticket
}

// Vouch signs the receipt with the agent key.
func (r *Receipt) Vouch(agent crypto.Signer) (err error) {
	r.Signature, err = agent.Sign(nil, r.vouched(), crypto.Hash(0))
	return err
}

func (r *Receipt) vouched() []byte { return evidence.Preimage(labelReceipt, r.Ticket[:], r.Sealed[:]) }

// Encode returns the message.
func (r *Receipt) Encode() []byte {
	return message.Append(message.Append(message.Append([]byte(magicReceipt), r.Ticket[:]), r.Sealed[:]), r.Signature)
}

// ParseReceipt reads what Encode returns, and refuses everything else. It verifies nothing.
func ParseReceipt(b []byte) (*Receipt, error) {
	r := message.Begin("the receipt of a delivery", magicReceipt, b, MaxReceipt)
	out := &Receipt{Ticket: evidence.Digest(r.Exactly("id of the ticket", sha256.Size))}
	out.Sealed = evidence.Digest(r.Exactly("digest of what was opened", sha256.Size))
	out.Signature = bytes.Clone(r.Exactly("signature", ed25519.SignatureSize))
	return out, r.End()
}

// refused returns an error with a code of the API.
func refused(code api.Code, format string, a ...any) error {
	return &sealing.Error{Code: code, Detail: fmt.Sprintf(format, a...)}
}
