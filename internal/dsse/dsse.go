// SPDX-License-Identifier: Apache-2.0

// Package dsse signs documents, and verifies such signatures, as the Dead Simple Signing Envelope
// says (secure-systems-lab/dsse, protocol 1.0). An envelope is a JSON object with the document as it
// is, its type, and signatures over both:
//
//	{"payloadType":"...","payload":"<base64>","signatures":[{"keyid":"...","sig":"<base64>"}]}
//
// What is signed is "DSSEv1 LEN(type) type LEN(payload) payload" (protocol.md, PAE). So a
// signature over a document of one type is none over another type. The document is never decoded
// and encoded again: what [Read] returns is what was signed, byte for byte.
package dsse

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
)

// Bounds of an envelope and of a file of keys.
const (
	MaxSignatures = 32
	MaxKeys       = 32
	MaxKeyFile    = 64 << 10 // bytes
	maxType       = 128      // bytes of a payload type
	maxSignature  = 256      // bytes of one signature
	maxKeyID      = 256      // bytes, a hint
	overhead      = 64 << 10 // bytes of an envelope beside the payload
)

// Encoding of the signed message, "PAE" in protocol.md.
func encoding(payloadType string, payload []byte) []byte {
	out := []byte("DSSEv1 " + strconv.Itoa(len(payloadType)) + " " + payloadType + " " + strconv.Itoa(len(payload)) + " ")
	return append(out, payload...)
}

// envelope is the JSON form. Unknown members are passed over, as the specification demands.
type envelope struct {
	PayloadType string     `json:"payloadType"`
	Payload     string     `json:"payload"`
	Signatures  signatures `json:"signatures"`
}

// signatures stops reading at its cap: an element of two bytes, "{}", would become one of 32.
type signatures []signature

// UnmarshalJSONFrom reads at most [MaxSignatures].
func (l *signatures) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxSignatures, signature{})
}

type signature struct {
	KeyID string `json:"keyid,omitempty"` // a hint, which decides nothing
	Sig   string `json:"sig"`
}

// A Key is a public key: Ed25519, or ECDSA on P-256 with SHA-256.
type Key struct {
	public crypto.PublicKey
	id     string
}

// ID returns SHA-256 over the SubjectPublicKeyInfo, in hexadecimal.
func (k *Key) ID() string { return k.id }

// newKey returns a key of the kinds that may sign.
func newKey(public crypto.PublicKey) (*Key, error) {
	switch k := public.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, fmt.Errorf("an ECDSA key on %s: want Ed25519, or ECDSA on P-256", k.Curve.Params().Name)
		}
	default:
		return nil, fmt.Errorf("a key of type %T: want Ed25519, or ECDSA on P-256", public)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	return &Key{public, hex.EncodeToString(sum[:])}, nil
}

// verify reports whether sig is a signature of the key over message. Signatures of ECDSA come in two
// forms: DER, as most programs write it, and r and s of 32 bytes each, as the example of the
// specification has it.
func (k *Key) verify(message, sig []byte) bool {
	switch public := k.public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(public, message, sig)
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(message)
		if ecdsa.VerifyASN1(public, sum[:], sig) {
			return true
		}
		if len(sig) != 64 {
			return false
		}
		der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])})
		return err == nil && ecdsa.VerifyASN1(public, sum[:], der)
	}
	return false
}

// ParseKeys reads public keys, PEM "PUBLIC KEY", one after the other. Text between them is a comment.
func ParseKeys(b []byte) ([]*Key, error) {
	var out []*Key
	if len(b) > MaxKeyFile {
		return nil, fmt.Errorf("%d bytes of keys, at most %d", len(b), MaxKeyFile)
	}
	blocks := bytes.Count(b, []byte("-----BEGIN"))
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		b = rest
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("PEM block %s: want public keys, \"PUBLIC KEY\"", text.Excerpt(block.Type))
		}
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", len(out)+1, err)
		}
		k, err := newKey(public)
		if err != nil {
			return nil, fmt.Errorf("key %d is %w", len(out)+1, err)
		}
		if slices.ContainsFunc(out, func(o *Key) bool { return o.id == k.id }) {
			return nil, fmt.Errorf("key %d is there twice", len(out)+1)
		}
		if out = append(out, k); len(out) > MaxKeys {
			return nil, fmt.Errorf("more than %d keys", MaxKeys)
		}
	}
	// A block that is damaged would be passed over: a key fewer than the file seems to have.
	if len(out) == 0 || len(out) != blocks {
		return nil, errors.New("want public keys in PEM, \"PUBLIC KEY\"")
	}
	return out, nil
}

// Is reports whether b looks like an envelope: like a JSON object. Nothing else is known of it.
func Is(b []byte) bool {
	return strings.HasPrefix(strings.TrimLeft(string(b[:min(len(b), 64)]), " \t\r\n"), "{")
}

// An Unverified envelope was read, and no signature of it was verified.
type Unverified struct {
	Type     string
	Payload  []byte
	envelope envelope
}

// KeyIDs returns the hints at keys in the envelope, for messages. An attacker may have written them.
func (u *Unverified) KeyIDs() (out []string) {
	for _, s := range u.envelope.Signatures {
		out = append(out, s.KeyID)
	}
	return out
}

// Read reads an envelope whose payload has at most limit bytes, and verifies nothing.
func Read(b []byte, limit int) (*Unverified, error) {
	u := new(Unverified)
	e := &u.envelope
	if err := strictjson.DecodeForeign(b, Size(limit), e); err != nil {
		return nil, err
	}
	u.Type = e.PayloadType
	if err := text.Check("payloadType", e.PayloadType, 1, maxType); err != nil {
		return nil, err
	}
	if len(e.Signatures) == 0 {
		return nil, fmt.Errorf("0 signatures, want 1 to %d", MaxSignatures)
	}
	var err error
	if u.Payload, err = decode(e.Payload); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	if len(u.Payload) > limit {
		return nil, fmt.Errorf("payload of %d bytes, at most %d", len(u.Payload), limit)
	}
	for i, s := range e.Signatures {
		if len(s.KeyID) > maxKeyID || len(s.Sig) > 2*maxSignature {
			return nil, fmt.Errorf("signature %d is too long", i+1)
		}
	}
	return u, nil
}

// Size returns how many bytes an envelope may have whose payload has at most limit.
func Size(limit int) int { return limit/3*4 + overhead }

// Signers returns the keys that signed the payload as of its type. Each counts once, however many
// signatures it made. The hints at keys decide nothing.
func (u *Unverified) Signers(keys []*Key) (out []*Key) {
	message := encoding(u.Type, u.Payload)
	for _, k := range keys {
		if slices.ContainsFunc(u.envelope.Signatures, func(s signature) bool {
			sig, err := decode(s.Sig)
			return err == nil && k.verify(message, sig)
		}) {
			out = append(out, k)
		}
	}
	return out
}

// decode decodes base64 in its standard or its URL form, with padding: verifiers must accept both
// (protocol.md). Line breaks are refused: package base64 would pass over them, and so one document
// would have many spellings.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("a line break in base64")
	}
	if strings.ContainsAny(s, "-_") {
		return base64.URLEncoding.Strict().DecodeString(s)
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}

// Sign returns an envelope of payload, with one signature. The same key and payload give the same
// bytes: ECDSA is that of RFC 6979.
func Sign(key crypto.Signer, payloadType string, payload []byte) ([]byte, error) {
	e := envelope{PayloadType: payloadType, Payload: base64.StdEncoding.EncodeToString(payload)}
	return e.sign(key, payload)
}

// Add returns the envelope with one signature more. That of the same key is replaced.
func (u *Unverified) Add(key crypto.Signer) ([]byte, error) {
	e := u.envelope
	e.Signatures = slices.Clone(e.Signatures)
	return e.sign(key, u.Payload)
}

func (e *envelope) sign(key crypto.Signer, payload []byte) ([]byte, error) {
	public, err := newKey(key.Public())
	if err != nil {
		return nil, err
	}
	message, hash := encoding(e.PayloadType, payload), crypto.Hash(0)
	if _, ok := public.public.(*ecdsa.PublicKey); ok {
		sum := sha256.Sum256(message)
		message, hash = sum[:], crypto.SHA256
	}
	sig, err := key.Sign(nil, message, hash)
	if err != nil {
		return nil, err
	}
	e.Signatures = slices.DeleteFunc(e.Signatures, func(s signature) bool { return s.KeyID == public.id })
	if len(e.Signatures) == MaxSignatures {
		return nil, fmt.Errorf("the envelope has %d signatures already", MaxSignatures)
	}
	e.Signatures = append(e.Signatures, signature{public.id, base64.StdEncoding.EncodeToString(sig)})
	return strictjson.Encode(e)
}
