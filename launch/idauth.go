// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// IDAuthSize is the size of ID authentication information in bytes.
const IDAuthSize = 0x1000

// algorithmP384 is ECDSA on P-384 with SHA-384 (ABI, chapter "Digital Signatures", table
// "Signature Algorithm Encodings").
const algorithmP384 = 1

// Offsets in ID authentication information (ABI, section "SNP_LAUNCH_FINISH", table
// "Structure of the ID Authentication Information"). The rest is reserved and zero.
const (
	offIDAlgorithm     = 0x000 // ID_KEY_ALGO, u32
	offAuthorAlgorithm = 0x004 // AUTH_KEY_ALGO, u32
	offBlockSignature  = 0x040 // ID_BLOCK_SIG, by the ID key over the ID block
	offIDKey           = 0x240 // ID_KEY
	offKeySignature    = 0x680 // ID_KEY_SIG, by the author key over ID_KEY
	offAuthorKey       = 0x880 // AUTHOR_KEY
)

// reservedAuth are the reserved parts, as offsets of their first and after their last byte.
var reservedAuth = [][2]int{
	{0x008, offBlockSignature}, {offIDKey + keySize, offKeySignature}, {offAuthorKey + keySize, IDAuthSize},
}

// An IDAuth is the signature of an ID block, and the signature of its key if an author
// signed it: ID authentication information. It is unverified until [IDAuth.Verify].
type IDAuth struct {
	raw    [IDAuthSize]byte
	id     *ecdsa.PublicKey
	author *ecdsa.PublicKey // nil without one
}

// SignIDBlock signs an ID block with the ID key, and the ID key with the author key if that
// is not nil. Both keys are on P-384. Random bytes are for the signatures: if random is nil
// an *ecdsa.PrivateKey signs without any (RFC 6979), so that two builds make the same bytes.
func SignIDBlock(random io.Reader, b *IDBlock, id, author crypto.Signer) (*IDAuth, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	a := new(IDAuth)
	key, err := marshalKey(id.Public())
	if err != nil {
		return nil, fmt.Errorf("ID key: %w", err)
	}
	signature, err := sign(random, id, b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("ID key: %w", err)
	}
	a.id = id.Public().(*ecdsa.PublicKey)
	binary.LittleEndian.PutUint32(a.raw[offIDAlgorithm:], algorithmP384)
	copy(a.raw[offBlockSignature:], signature)
	copy(a.raw[offIDKey:], key)
	if author != nil {
		authorKey, err := marshalKey(author.Public())
		if err != nil {
			return nil, fmt.Errorf("author key: %w", err)
		}
		if signature, err = sign(random, author, key); err != nil {
			return nil, fmt.Errorf("author key: %w", err)
		}
		a.author = author.Public().(*ecdsa.PublicKey)
		binary.LittleEndian.PutUint32(a.raw[offAuthorAlgorithm:], algorithmP384)
		copy(a.raw[offKeySignature:], signature)
		copy(a.raw[offAuthorKey:], authorKey)
	}
	// A signer may be a device, and may not have the key that it names.
	if err := a.Verify(b); err != nil {
		return nil, err
	}
	return a, nil
}

// ParseIDAuth parses ID authentication information of exactly [IDAuthSize] bytes. Reserved
// bytes must be zero. Without an author key its algorithm, key and signature are zeros.
func ParseIDAuth(raw []byte) (*IDAuth, error) {
	if len(raw) != IDAuthSize {
		return nil, fmt.Errorf("ID authentication information of %d bytes, want %d", len(raw), IDAuthSize)
	}
	a := &IDAuth{raw: [IDAuthSize]byte(raw)}
	for _, r := range reservedAuth {
		if !zero(raw[r[0]:r[1]]) {
			return nil, fmt.Errorf("ID authentication information has a reserved byte that is not zero, at %#x to %#x", r[0], r[1])
		}
	}
	if n := binary.LittleEndian.Uint32(raw[offIDAlgorithm:]); n != algorithmP384 {
		return nil, fmt.Errorf("ID key of algorithm %d, want %d: ECDSA on P-384", n, algorithmP384)
	}
	var err error
	if a.id, err = parseKey(raw[offIDKey : offIDKey+keySize]); err != nil {
		return nil, fmt.Errorf("ID key: %w", err)
	}
	switch n := binary.LittleEndian.Uint32(raw[offAuthorAlgorithm:]); {
	case n == algorithmP384:
		if a.author, err = parseKey(raw[offAuthorKey : offAuthorKey+keySize]); err != nil {
			return nil, fmt.Errorf("author key: %w", err)
		}
	case n != 0:
		return nil, fmt.Errorf("author key of algorithm %d, want %d: ECDSA on P-384, or 0 for none", n, algorithmP384)
	case !zero(raw[offKeySignature : offKeySignature+signatureSize]), !zero(raw[offAuthorKey : offAuthorKey+keySize]):
		return nil, errors.New("there is an author key or its signature, but no algorithm of it")
	}
	return a, nil
}

// Verify checks that the ID key signed this block, and that the author key, if there is
// one, signed the ID key. Whose keys they are is for the caller to decide, by their digests.
func (a *IDAuth) Verify(b *IDBlock) error {
	if err := b.check(); err != nil {
		return err
	}
	if err := verify(a.id, b.Bytes(), a.raw[offBlockSignature:offBlockSignature+signatureSize]); err != nil {
		return fmt.Errorf("the ID key did not sign this ID block: %w", err)
	}
	if a.author == nil {
		return nil
	}
	if err := verify(a.author, a.raw[offIDKey:offIDKey+keySize], a.raw[offKeySignature:offKeySignature+signatureSize]); err != nil {
		return fmt.Errorf("the author key did not sign this ID key: %w", err)
	}
	return nil
}

// Bytes returns the information as firmware reads it.
func (a *IDAuth) Bytes() []byte { return append([]byte(nil), a.raw[:]...) }

// IDKeyDigest returns ID_KEY_DIGEST of a report of such a guest.
func (a *IDAuth) IDKeyDigest() [Size]byte { return digestOf(a.raw[offIDKey : offIDKey+keySize]) }

// AuthorKeyDigest returns AUTHOR_KEY_DIGEST of a report of such a guest: zeros without an
// author key.
func (a *IDAuth) AuthorKeyDigest() [Size]byte {
	if a.author == nil {
		return [Size]byte{}
	}
	return digestOf(a.raw[offAuthorKey : offAuthorKey+keySize])
}
