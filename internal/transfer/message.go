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
	"github.com/cvm-agentd/agentd/sealing"
)

// A message is a line that names it, then fields, each a length (4 bytes, big-endian) and a
// value. Nothing follows.
const (
	magicOffer   = "agentd/upgrade/offer/1\n"
	magicRequest = "agentd/upgrade/request/1\n"
	magicAnswer  = "agentd/upgrade/answer/1\n"
)

func refuse(what, found string) error {
	return &sealing.Error{Code: api.CodeMalformedMessage, Detail: fmt.Sprintf("read %s: %s", what, found)}
}

func appendField(b, value []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(value))), value...)
}

// reader reads fields. After the first error it returns nothing.
type reader struct {
	what string
	b    []byte
	err  error
}

func begin(what, magic string, b []byte, most int) *reader {
	r := &reader{what: what, b: b}
	rest, ok := bytes.CutPrefix(b, []byte(magic))
	switch {
	case len(b) > most:
		r.err = refuse(what, fmt.Sprintf("%d bytes, at most %d", len(b), most))
	case !ok:
		r.err = refuse(what, fmt.Sprintf("it does not begin with the line %q: it is another file, or of another version", magic[:len(magic)-1]))
	}
	r.b = rest
	return r
}

// next returns a value of least to most bytes, which is not copied.
func (r *reader) next(name string, least, most int) []byte {
	if r.err != nil {
		return nil
	}
	if len(r.b) < 4 {
		r.err = refuse(r.what, "it ends before "+name)
		return nil
	}
	n := uint64(binary.BigEndian.Uint32(r.b))
	if n < uint64(least) || n > uint64(most) || n > uint64(len(r.b)-4) {
		r.err = refuse(r.what, fmt.Sprintf("%s of %d bytes, want %d to %d, and %d are left", name, n, least, most, len(r.b)-4))
		return nil
	}
	v := r.b[4 : 4+n]
	r.b = r.b[4+n:]
	return v
}

func (r *reader) exactly(name string, size int) []byte {
	if v := r.next(name, size, size); v != nil {
		return v
	}
	return make([]byte, size)
}

// end refuses what follows the last field.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = refuse(r.what, fmt.Sprintf("%d bytes after its end", len(r.b)))
	}
	return r.err
}

// Offer is what the old agent tells its successor. It is not secret, and nothing rests on it:
// a forged one makes a request that no agent answers.
type Offer struct {
	Challenge Challenge        // of the preparation
	StoreKey  sealing.StoreKey // of the store that goes over
}

// Encode returns the message.
func (o Offer) Encode() []byte {
	return appendField(appendField([]byte(magicOffer), o.Challenge[:]), o.StoreKey[:])
}

// ParseOffer reads what Encode returns, and refuses everything else.
func ParseOffer(b []byte) (Offer, error) {
	r := begin("the offer of an upgrade", magicOffer, b, MaxOffer)
	o := Offer{Challenge: Challenge(r.exactly("challenge", ChallengeSize))}
	o.StoreKey = sealing.StoreKey(r.exactly("store key", ed25519.PublicKeySize))
	return o, r.end()
}

// Request is what the successor asks with.
type Request struct {
	Challenge Challenge
	StoreKey  sealing.StoreKey // of the store that it wants
	Public    [PublicSize]byte // its HPKE key
	Evidence  []byte           // fresh, over [Request.UserData]
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
	b := appendField([]byte(magicRequest), r.Challenge[:])
	b = appendField(b, r.StoreKey[:])
	b = appendField(b, r.Public[:])
	return appendField(b, r.Evidence)
}

// ParseRequest reads what Encode returns, and refuses everything else. The evidence is not
// looked at.
func ParseRequest(b []byte) (*Request, error) {
	r := begin("the request for an upgrade", magicRequest, b, MaxRequest)
	out := &Request{Challenge: Challenge(r.exactly("challenge", ChallengeSize))}
	out.StoreKey = sealing.StoreKey(r.exactly("store key", ed25519.PublicKeySize))
	copy(out.Public[:], r.exactly("HPKE key", PublicSize))
	out.Evidence = bytes.Clone(r.next("evidence", 1, MaxRequest))
	return out, r.end()
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
	b := appendField([]byte(magicAnswer), a.Request[:])
	b = appendField(b, a.Enc)
	b = appendField(b, binary.BigEndian.AppendUint32(nil, uint32(len(a.Parts))))
	for _, p := range a.Parts {
		b = appendField(b, p)
	}
	return b
}

// Message returns what the store key signs.
func (a *Answer) Message() []byte {
	sum := sha256.Sum256(a.unsigned())
	return evidence.Preimage(labelAnswer, a.Request[:], sum[:])
}

// Encode returns the message.
func (a *Answer) Encode() []byte { return appendField(a.unsigned(), a.Signature[:]) }

// ParseAnswer reads what Encode returns, and refuses everything else. It verifies nothing.
func ParseAnswer(b []byte) (*Answer, error) {
	r := begin("the answer to a request for an upgrade", magicAnswer, b, MaxAnswer)
	a := &Answer{Request: evidence.Digest(r.exactly("id of the request", sha256.Size))}
	a.Enc = r.exactly("encapsulated key", encSize)
	n := binary.BigEndian.Uint32(r.exactly("number of parts", 4))
	if r.err == nil && (n < 1 || n > maxEntries+1) {
		r.err = refuse(r.what, fmt.Sprintf("%d parts, want 1 to %d", n, maxEntries+1))
	}
	for i := uint32(0); i < n && r.err == nil; i++ {
		a.Parts = append(a.Parts, r.next("part", overheadHPKE, maxEntry+overheadHPKE))
	}
	copy(a.Signature[:], r.exactly("signature", ed25519.SignatureSize))
	return a, r.end()
}

// CheckSigner checks that key signed the answer.
func (a *Answer) CheckSigner(key sealing.StoreKey) error {
	if !ed25519.Verify(key[:], a.Message(), a.Signature[:]) {
		return &sealing.Error{Code: api.CodeOtherStoreKey, Detail: fmt.Sprintf("the answer is not signed by %s, so another party may have made it", key)}
	}
	return nil
}
