// SPDX-License-Identifier: Apache-2.0

package message

import (
	"crypto/hpke"
	"fmt"

	"github.com/cvm-agentd/agentd/internal/secret"
)

// The suite: MLKEM768-X25519 (an attacker must break both), HKDF-SHA-256, AES-256-GCM. It is
// not negotiated; another one is another version of the messages.
var (
	kem  = hpke.MLKEM768X25519()
	kdf  = hpke.HKDFSHA256()
	aead = hpke.AES256GCM()
)

// Sizes in bytes.
const (
	SeedSize   = 32   // private half of a key: draft-ietf-hpke-pq, MLKEM768-X25519
	PublicSize = 1216 // public half
	EncSize    = 1120 // encapsulated key
	Overhead   = 16   // tag of AES-256-GCM
)

// A PublicKey is the public half of an HPKE key.
type PublicKey [PublicSize]byte

// NewKey returns the halves of a new HPKE key. The caller wipes the private one.
func NewKey() (seed *secret.Secret, public PublicKey, err error) {
	k, err := kem.GenerateKey()
	if err != nil {
		return nil, public, fmt.Errorf("make an HPKE key: %w", err)
	}
	b, err := k.Bytes()
	if err != nil {
		return nil, public, fmt.Errorf("make an HPKE key: %w", err)
	}
	copy(public[:], k.PublicKey().Bytes())
	seed, err = secret.Take(b)
	return seed, public, err
}

// PublicOf returns the public half of a key.
func PublicOf(seed *secret.Secret) (public PublicKey, err error) {
	err = seed.Use(func(b []byte) error {
		k, err := kem.NewPrivateKey(b)
		if err == nil {
			copy(public[:], k.PublicKey().Bytes())
		}
		return err
	})
	return public, err
}

// NewSender returns what encrypts to a key in base mode, and the encapsulated key. The error says
// that the key is not one.
func NewSender(public PublicKey, info []byte) (enc []byte, s *hpke.Sender, err error) {
	k, err := kem.NewPublicKey(public[:])
	if err != nil {
		return nil, nil, err
	}
	return hpke.NewSender(k, kdf, aead, info)
}

// NewRecipient returns what decrypts with the private half of a key.
func NewRecipient(enc []byte, seed *secret.Secret, info []byte) (out *hpke.Recipient, err error) {
	err = seed.Use(func(b []byte) error {
		k, err := kem.NewPrivateKey(b)
		if err == nil {
			out, err = hpke.NewRecipient(enc, k, kdf, aead, info)
		}
		return err
	})
	return out, err
}
