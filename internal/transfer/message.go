// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/message"
	"github.com/cvm-agentd/agentd/sealing"
)

// The lines that name messages (package message).
const (
	magicOffer   = "agentd/upgrade/offer/1\n"
	magicRequest = "agentd/upgrade/request/1\n"
	magicAnswer  = "agentd/upgrade/answer/1\n"
)

// Offer is what the old agent tells its successor. It is not secret, and nothing rests on it:
// a forged one makes a request that no agent answers.
type Offer struct {
	Challenge Challenge        // of the preparation
	StoreKey  sealing.StoreKey // of the store that goes over
}

// Encode returns the message.
func (o Offer) Encode() []byte {
	return message.Append(message.Append([]byte(magicOffer), o.Challenge[:]), o.StoreKey[:])
}

// ParseOffer reads what Encode returns, and refuses everything else.
func ParseOffer(b []byte) (Offer, error) {
	r := message.Begin("the offer of an upgrade", magicOffer, b, MaxOffer)
	o := Offer{Challenge: Challenge(r.Exactly("challenge", ChallengeSize))}
	o.StoreKey = sealing.StoreKey(r.Exactly("store key", ed25519.PublicKeySize))
	return o, r.End()
}

// Request is what the successor asks with.
type Request struct {
	Challenge Challenge
	StoreKey  sealing.StoreKey  // of the store that it wants
	Public    message.PublicKey // its HPKE key
	Evidence  []byte            // fresh, over [Request.UserData]
}

// ID names the successor: the same for each request that it makes with one key.
func (r *Request) ID() evidence.Digest {
	return evidence.Sum256(labelRequest, r.Challenge[:], r.StoreKey[:], r.Public[:])
}

// UserData is what the evidence of the request commits to, besides its nonce, which is the
// challenge.
func (r *Request) UserData() []byte { id := r.ID(); return id[:] }

// Encode returns the message.
func (r *Request) Encode() []byte {
	b := message.Append([]byte(magicRequest), r.Challenge[:])
	b = message.Append(b, r.StoreKey[:])
	b = message.Append(b, r.Public[:])
	return message.Append(b, r.Evidence)
}

// ParseRequest reads what Encode returns, and refuses everything else. The evidence is not
// looked at.
func ParseRequest(b []byte) (*Request, error) {
	r := message.Begin("the request for an upgrade", magicRequest, b, MaxRequest)
	out := &Request{Challenge: Challenge(r.Exactly("challenge", ChallengeSize))}
	out.StoreKey = sealing.StoreKey(r.Exactly("store key", ed25519.PublicKeySize))
	copy(out.Public[:], r.Exactly("HPKE key", message.PublicSize))
	out.Evidence = bytes.Clone(r.Next("evidence", 1, MaxRequest))
	return out, r.End()
}

// Answer is the store, sealed to the key of a request. It is secret from all but the owner of
// that key.
type Answer struct {
	Request   evidence.Digest // [Request.ID]
	Enc       []byte          // encapsulated key
	Parts     [][]byte        // the head, then each entry, encrypted in this order
	Signature [ed25519.SignatureSize]byte
}

// unsigned returns the message up to the signature.
func (a *Answer) unsigned() []byte {
	b := message.Append([]byte(magicAnswer), a.Request[:])
	b = message.Append(b, a.Enc)
	b = message.Append(b, binary.BigEndian.AppendUint32(nil, uint32(len(a.Parts))))
	for _, p := range a.Parts {
		b = message.Append(b, p)
	}
	return b
}

// Message returns what the store key signs.
func (a *Answer) Message() []byte {
	sum := sha256.Sum256(a.unsigned())
	return evidence.Preimage(labelAnswer, a.Request[:], sum[:])
}

// Encode returns the message.
func (a *Answer) Encode() []byte { return message.Append(a.unsigned(), a.Signature[:]) }

// ParseAnswer reads what Encode returns, and refuses everything else. It verifies nothing.
func ParseAnswer(b []byte) (*Answer, error) {
	r := message.Begin("the answer to a request for an upgrade", magicAnswer, b, MaxAnswer)
	a := &Answer{Request: evidence.Digest(r.Exactly("id of the request", sha256.Size))}
	a.Enc = r.Exactly("encapsulated key", message.EncSize)
	n := binary.BigEndian.Uint32(r.Exactly("number of parts", 4))
	if r.Err == nil && (n < 1 || n > maxEntries+1) {
		r.Err = message.Refuse(r.What, fmt.Sprintf("%d parts, want 1 to %d", n, maxEntries+1))
	}
	for i := uint32(0); i < n && r.Err == nil; i++ {
		a.Parts = append(a.Parts, r.Next("part", message.Overhead, maxEntry+message.Overhead))
	}
	copy(a.Signature[:], r.Exactly("signature", ed25519.SignatureSize))
	return a, r.End()
}

// CheckSigner checks that key signed the answer.
func (a *Answer) CheckSigner(key sealing.StoreKey) error {
	if !ed25519.Verify(key[:], a.Message(), a.Signature[:]) {
		return &sealing.Error{Code: api.CodeOtherStoreKey, Detail: fmt.Sprintf("the answer is not signed by %s, so another party may have made it", key)}
	}
	return nil
}
