// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"errors"

	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// storeKey signs what the store writes. The sealed manifest contains its private half; root
// keeps the public half with the recovery identity.
type storeKey struct {
	public  sealing.StoreKey
	private *secret.Secret // ed25519.PrivateKey, 64 bytes; the first 32 are the seed
}

// newStoreKey makes a random store key.
func newStoreKey() (*storeKey, error) {
	seed, err := secret.Random(sealing.SeedSize)
	if err != nil {
		return nil, err
	}
	defer seed.Wipe()
	var k *storeKey
	err = seed.Use(func(b []byte) error {
		k, err = storeKeyOf(b)
		return err
	})
	return k, err
}

// storeKeyOf returns the store key with that private half.
func storeKeyOf(seed []byte) (*storeKey, error) {
	private := ed25519.NewKeyFromSeed(seed)
	k := &storeKey{public: sealing.StoreKey(private[sealing.SeedSize:])}
	var err error
	k.private, err = secret.Take(private)
	return k, err
}

// seed returns a copy of the private half, for the manifest. The caller clears it.
func (k *storeKey) seed() (seed [sealing.SeedSize]byte, err error) {
	err = k.private.Use(func(b []byte) error {
		copy(seed[:], b)
		return nil
	})
	return seed, err
}

// wipe forgets the private half.
func (k *storeKey) wipe() {
	if k != nil {
		k.private.Wipe()
	}
}

// sign completes a blob: signature, and the check that binds it to the data key.
func (k *storeKey) sign(b *sealing.Blob, dataKey *secret.Secret) error {
	b.Sender.Key = k.public
	var err error
	if b.Sender.Signature, err = k.signMessage(b.Message(k.public)); err != nil {
		return err
	}
	b.Sender.Check, err = senderCheck(b, dataKey)
	return err
}

// signMessage signs a message that a label keeps apart from all others.
func (k *storeKey) signMessage(message []byte) (signature [ed25519.SignatureSize]byte, err error) {
	// Package ed25519 takes only keys on the heap.
	private := make(ed25519.PrivateKey, ed25519.PrivateKeySize)
	defer clear(private)
	err = k.private.Use(func(p []byte) error {
		copy(private, p)
		copy(signature[:], ed25519.Sign(private, message))
		return nil
	})
	return signature, err
}

// senderCheck returns HKDF-Expand-SHA-256(data key, [sealing.Blob.SenderInfo], 16).
func senderCheck(b *sealing.Blob, dataKey *secret.Secret) (check [sealing.CheckSize]byte, err error) {
	err = dataKey.Use(func(k []byte) error {
		out, err := hkdf.Expand(sha256.New, k, string(b.SenderInfo()), len(check))
		copy(check[:], out)
		return err
	})
	return check, err
}

// errSender means that the signature was changed after sealing.
var errSender = errors.New("the check of the sender does not match")

// checkBound checks that the data key is that of the blob's sender. A machine that opens its
// own blob need not verify the signature. It notices this way that an attacker changed it,
// before a recovery depends on it.
func checkBound(b *sealing.Blob, dataKey *secret.Secret) error {
	if b.Version == 1 {
		return nil
	}
	check, err := senderCheck(b, dataKey)
	if err == nil && subtle.ConstantTimeCompare(check[:], b.Sender.Check[:]) != 1 {
		err = errSender
	}
	return err
}
