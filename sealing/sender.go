// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
)

// StoreKey is the public half of the key that signs every blob of a store: Ed25519 (RFC
// 8032), 32 bytes. Root keeps it with the recovery identity.
type StoreKey [ed25519.PublicKeySize]byte

// storeKeyPrefix begins a store key in text. After it come the key and four bytes of a
// checksum in hexadecimal.
const storeKeyPrefix = "agentd-store-key:"

// String returns k in text, with a checksum, so that a typing error is not taken for a
// forgery.
func (k StoreKey) String() string {
	sum := evidence.Sum256(LabelStoreKey, k[:])
	return storeKeyPrefix + hex.EncodeToString(k[:]) + hex.EncodeToString(sum[:4])
}

// IsZero reports whether k is all zero, which stands for no key.
func (k StoreKey) IsZero() bool { return k == StoreKey{} }

// ParseStoreKey parses what [StoreKey.String] returns, in that one spelling. It refuses a key
// under which any party can sign.
func ParseStoreKey(text string) (k StoreKey, err error) {
	digits, ok := strings.CutPrefix(text, storeKeyPrefix)
	if b, e := hex.DecodeString(digits); ok && e == nil && len(b) == len(k)+4 {
		copy(k[:], b)
		if k.String() == text {
			if err := keys.CheckEd25519(k[:]); err != nil {
				return StoreKey{}, fmt.Errorf("the store key is not one that a store has: %w", err)
			}
			return k, nil
		}
		return StoreKey{}, errors.New("the checksum of the store key is wrong: a digit was changed when it was copied")
	}
	return StoreKey{}, fmt.Errorf("want a store key, %s and %d hexadecimal digits, found %d bytes of text: `agentctl key store-key` prints that of a store that opens", storeKeyPrefix, 2*(len(k)+4), len(text))
}

// Sender is the writer of a blob, 112 bytes at its end.
type Sender struct {
	Key       StoreKey                    // public half of the store key
	Signature [ed25519.SignatureSize]byte // Ed25519 over [Blob.Message]
	Check     [CheckSize]byte             // derived from the data key, so that who opens the blob notices another sender
}

// senderSize of a Sender in bytes.
const senderSize = len(StoreKey{}) + ed25519.SignatureSize + CheckSize

func (s *Sender) bytes() []byte {
	b := append(make([]byte, 0, senderSize), s.Key[:]...)
	return append(append(b, s.Signature[:]...), s.Check[:]...)
}

func readSender(r *fieldReader) (s Sender) {
	v := &byteReader{rest: r.next(tagSignature, senderSize, senderSize)}
	copy(s.Key[:], v.take(len(s.Key)))
	copy(s.Signature[:], v.take(len(s.Signature)))
	copy(s.Check[:], v.take(len(s.Check)))
	return s
}

// Message returns what the store key k signs: label, k, and SHA-256 of the file up to the
// payload.
func (b *Blob) Message(k StoreKey) []byte {
	sum := sha256.Sum256(b.unsigned())
	return evidence.Preimage(LabelSignature, k[:], sum[:])
}

// SenderInfo returns the input of the sender's check, which is HKDF-Expand-SHA-256(data key,
// SenderInfo, 16).
func (b *Blob) SenderInfo() []byte {
	return evidence.Preimage(LabelSender, b.Sender.Key[:], b.Sender.Signature[:])
}

// CheckSender checks that the store with key k wrote the blob. A recovery recipient is
// public, so before an identity opens anything, this is what tells a blob of the store from
// one that an attacker made. The code of an error is [api.CodeNoSender],
// [api.CodeOtherStoreKey] or [api.CodeBadSignature].
func (b *Blob) CheckSender(k StoreKey) error {
	switch {
	case b.Version == 1:
		return &Error{Code: api.CodeNoSender, Field: tagSignature.String(), Detail: "the blob is of version 1, which has no signature: nothing tells who wrote it"}
	case b.Sender.Key != k:
		return &Error{Code: api.CodeOtherStoreKey, Field: tagSignature.String(), Detail: fmt.Sprintf("the blob names %s, want %s", b.Sender.Key, k)}
	case !ed25519.Verify(k[:], b.Message(k), b.Sender.Signature[:]):
		return &Error{Code: api.CodeBadSignature, Field: tagSignature.String(), Detail: "the blob names this store key and is not signed by it: the blob was changed, or another party made it"}
	}
	return nil
}
