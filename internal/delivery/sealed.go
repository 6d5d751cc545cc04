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
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// Sealed is a secret that is encrypted to the key of one ticket. All but the agent that made the
// ticket learn its size, rounded up, and nothing else.
type Sealed struct {
	Ticket     evidence.Digest // [Ticket.ID]
	Enc        []byte          // encapsulated key
	Ciphertext []byte          // of length (4), secret, zeros
	Signature  []byte          // of the sender, if the ticket names one; otherwise nil
}

// Seal encrypts a secret to the key of a ticket that was verified. Sender signs it, if the ticket
// names one, and is nil otherwise.
func (t *Ticket) Seal(data []byte, sender crypto.Signer) (*Sealed, error) {
	if len(data) < 1 || len(data) > sealing.MaxSecret {
		return nil, refused(api.CodeInvalidValue, "a secret of %d bytes, want 1 to %d", len(data), sealing.MaxSecret)
	}
	s := &Sealed{Ticket: t.ID()}
	enc, to, err := message.NewSender(t.Public, info(s.Ticket))
	if err != nil {
		return nil, message.Refuse("the ticket of a delivery", "nothing can be encrypted to its HPKE key: "+err.Error())
	}
	plain := pad(data)
	defer clear(plain)
	s.Enc = enc
	if s.Ciphertext, err = to.Seal(nil, plain); err != nil {
		return nil, fmt.Errorf("encrypt a secret: %w", err)
	}
	if sender != nil {
		if s.Signature, err = sender.Sign(nil, s.signed(), crypto.Hash(0)); err != nil {
			return nil, fmt.Errorf("sign an encrypted secret: %w", err)
		}
	}
	return s, nil
}

// info binds the encryption to the ticket, and so to all that it says.
func info(ticket evidence.Digest) []byte { return evidence.Preimage(labelHPKE, ticket[:]) }

// padded returns the size of what is encrypted for a secret of n bytes.
func padded(n int) int { return (lengthSize + n + padding - 1) / padding * padding }

// pad returns the length of a secret, the secret, and zeros.
func pad(data []byte) []byte {
	b := make([]byte, padded(len(data)))
	binary.BigEndian.PutUint32(b, uint32(len(data)))
	copy(b[lengthSize:], data)
	return b
}

// unpad returns the secret in what pad returns, and false for everything else.
func unpad(b []byte) ([]byte, bool) {
	if len(b) < lengthSize {
		return nil, false
	}
	n := binary.BigEndian.Uint32(b)
	if n < 1 || n > sealing.MaxSecret || padded(int(n)) != len(b) {
		return nil, false
	}
	var or byte
	for _, x := range b[lengthSize+n:] {
		or |= x
	}
	return b[lengthSize : lengthSize+n], or == 0
}

// unsigned returns the message up to the signature.
func (s *Sealed) unsigned() []byte {
	return message.Append(message.Append(message.Append([]byte(magicSealed), s.Ticket[:]), s.Enc), s.Ciphertext)
}

// signed is what the sender signs.
func (s *Sealed) signed() []byte {
	sum := sha256.Sum256(s.unsigned())
	return evidence.Preimage(labelSender, s.Ticket[:], sum[:])
}

// Encode returns the message.
func (s *Sealed) Encode() []byte { return message.Append(s.unsigned(), s.Signature) }

// Digest returns the SHA-256 of the message, by which a receipt names it.
func (s *Sealed) Digest() evidence.Digest { return sha256.Sum256(s.Encode()) }

// IsSealed reports whether a message claims to be an encrypted secret.
func IsSealed(b []byte) bool { return bytes.HasPrefix(b, []byte(magicSealed)) }

// ParseSealed reads what Encode returns, and refuses everything else. It verifies nothing.
func ParseSealed(b []byte) (*Sealed, error) {
	r := message.Begin("the encrypted secret of a delivery", magicSealed, b, MaxSealed)
	s := &Sealed{Ticket: evidence.Digest(r.Exactly("id of the ticket", sha256.Size))}
	s.Enc = bytes.Clone(r.Exactly("encapsulated key", message.EncSize))
	s.Ciphertext = bytes.Clone(r.Next("ciphertext", padding+message.Overhead, padded(sealing.MaxSecret)+message.Overhead))
	s.Signature = r.Next("signature", 0, ed25519.SignatureSize)
	if n := len(s.Signature); r.Err == nil && n != 0 && n != ed25519.SignatureSize {
		r.Err = message.Refuse(r.What, fmt.Sprintf("a signature of %d bytes", n))
	}
	if len(s.Signature) == 0 {
		s.Signature = nil
	}
	s.Signature = bytes.Clone(s.Signature)
	return s, r.End()
}

// Open decrypts what was sealed to t with the private half of its key. The caller wipes the secret.
func (t *Ticket) Open(s *Sealed, seed *secret.Secret) (*secret.Secret, error) {
	if s.Ticket != t.ID() {
		return nil, refused(api.CodeTicketUnknown, "the secret was encrypted to another ticket")
	}
	switch {
	case t.Sender == nil && s.Signature != nil:
		return nil, refused(api.CodeOtherSender, "the ticket names no sender, and the encrypted secret is signed: make a ticket with that sender's key")
	case t.Sender != nil && !ed25519.Verify(t.Sender, s.signed(), s.Signature):
		return nil, refused(api.CodeOtherSender, "the encrypted secret is not signed by the sender that the ticket names")
	}
	from, err := message.NewRecipient(s.Enc, seed, info(s.Ticket))
	if err != nil {
		return nil, refused(api.CodeDeliveryChanged, "the secret cannot be decrypted")
	}
	plain, err := from.Open(nil, s.Ciphertext)
	if err != nil {
		return nil, refused(api.CodeDeliveryChanged, "the secret cannot be decrypted")
	}
	defer clear(plain)
	data, ok := unpad(plain)
	if !ok {
		return nil, refused(api.CodeDeliveryChanged, "what was decrypted is not a length, a secret of 1 to %d bytes, and zeros", sealing.MaxSecret)
	}
	return secret.Take(data)
}
