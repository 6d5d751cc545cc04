// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
)

// signing is what an algorithm of signing keys consists of.
type signing struct {
	material int            // bytes that are derived
	curve    elliptic.Curve // nil for Ed25519, and for keys in the TPM
	hash     crypto.Hash    // of ECDSA, 0 for Ed25519
	inTPM    bool           // whether the TPM makes the key, and has it alone
}

// TPMKeySize is how many bytes the TPM makes a signing key from: the unique member of the template,
// a point of two times 32 bytes, and 32 bytes for the authorization value.
const TPMKeySize = 3 * 32

// signings are the algorithms. A scalar is made from 128 bits more than the order of its
// curve has, twice what FIPS 186-5 (A.2.1) asks for: so its bias is below 2^-128.
var signings = map[api.SigningAlgorithm]signing{
	api.SignEd25519: {material: ed25519.SeedSize},
	api.SignP256:    {material: 32 + 16, curve: elliptic.P256(), hash: crypto.SHA256},
	api.SignP384:    {material: 48 + 16, curve: elliptic.P384(), hash: crypto.SHA384},
	api.SignTPMP256: {material: TPMKeySize, hash: crypto.SHA256, inTPM: true},
}

// InTPM reports whether the TPM makes the keys of a, and has them alone.
func InTPM(a api.SigningAlgorithm) bool { return signings[a].inTPM }

// signingOf returns what a consists of.
func signingOf(a api.SigningAlgorithm) (signing, error) {
	s, ok := signings[a]
	if !ok {
		return s, invalid("algorithm", fmt.Sprintf("%q is not an algorithm of signing keys: want one of %q", a, api.SigningAlgorithms()))
	}
	return s, nil
}

func invalid(field, detail string) error {
	return &Error{Code: api.CodeInvalidValue, Field: field, Detail: detail}
}

// CheckSigningKey refuses a label or an algorithm that no signing key has.
func CheckSigningKey(a api.SigningAlgorithm, label string) error {
	if err := text.Check("label", label, 1, MaxLabel); err != nil {
		return &Error{Code: api.CodeInvalidValue, Field: "label", Detail: "label of a signing key", Err: err}
	}
	_, err := signingOf(a)
	return err
}

// CheckSigned refuses what a key of algorithm a does not sign: exactly one of message and
// digest is given, and a digest only to ECDSA.
func CheckSigned(a api.SigningAlgorithm, message, digest []byte) error {
	s, err := signingOf(a)
	switch {
	case err != nil:
		return err
	case len(message) > 0 && len(digest) > 0:
		return invalid("digest", "a message and a digest are given, want one of them")
	case len(digest) == 0 && (len(message) < 1 || len(message) > MaxMessage):
		return invalid("message", fmt.Sprintf("message of %d bytes, want 1 to %d, or a digest", len(message), MaxMessage))
	case len(digest) > 0 && s.hash == 0:
		return invalid("digest", "ed25519 signs the message itself, and not a digest of it")
	case len(digest) > 0 && len(digest) != s.hash.Size():
		return invalid("digest", fmt.Sprintf("digest of %d bytes, want the %d of %v", len(digest), s.hash.Size(), s.hash))
	}
	return nil
}

// SigningSize returns how many bytes a key of algorithm a is made from.
func SigningSize(a api.SigningAlgorithm) (int, error) {
	s, err := signingOf(a)
	return s.material, err
}

// SigningInfo returns the input of the derivation of a signing key, which is made from
// HKDF-Expand-SHA-256(root of that version, info, [SigningSize]). Its label is that of signing keys
// alone, so no derived secret of the app has anything to do with the key.
func SigningInfo(app App, version uint32, a api.SigningAlgorithm, label string) []byte {
	return evidence.Preimage(LabelSign, binary.BigEndian.AppendUint32(nil, version),
		[]byte(app.Name), []byte(app.Unit), []byte(app.User), []byte(a), []byte(label))
}

// A SigningKey is the private half of a key that an app signs with. It has no encoding.
type SigningKey struct {
	signer crypto.Signer
	hash   crypto.Hash
}

// Format writes a placeholder, whatever the verb is.
func (*SigningKey) Format(f fmt.State, _ rune) { io.WriteString(f, "[signing key]") }

// NewSigningKey makes a key from the bytes that [SigningInfo] leads to. For Ed25519 they are
// the seed of RFC 8032. For ECDSA they are a big-endian integer c, and the private key is
// (c mod (n-1)) + 1, n being the order of the curve (FIPS 186-5, A.2.1). A key in the TPM is not made
// by this function. The caller wipes material.
func NewSigningKey(a api.SigningAlgorithm, material []byte) (*SigningKey, error) {
	s, err := signingOf(a)
	if err != nil {
		return nil, err
	}
	if s.inTPM {
		return nil, fmt.Errorf("make a signing key of %s: the TPM makes it", a)
	}
	if len(material) != s.material {
		return nil, fmt.Errorf("make a signing key from %d bytes, want %d", len(material), s.material)
	}
	if s.curve == nil {
		return &SigningKey{signer: ed25519.NewKeyFromSeed(material)}, nil
	}
	d := scalar(material, s.curve.Params().N.Bytes())
	defer clear(d)
	key, err := ecdsa.ParseRawPrivateKey(s.curve, d)
	if err != nil {
		return nil, fmt.Errorf("make a signing key of %s: %w", a, err)
	}
	return &SigningKey{signer: key, hash: s.hash}, nil
}

// PublicKey returns the public half, a DER SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7).
func (k *SigningKey) PublicKey() ([]byte, error) {
	return x509.MarshalPKIXPublicKey(k.signer.Public())
}

// Sign signs a message, or a digest of one that [CheckSigned] takes. Ed25519 is deterministic
// (RFC 8032), and ECDSA is not: a nonce comes from fresh randomness, the key and the message
// together. So neither a clone of the machine with the same random numbers nor a fault in one
// of two signatures over the same message gives the key away.
func (k *SigningKey) Sign(message, digest []byte) ([]byte, error) {
	if k.hash == 0 {
		return k.signer.Sign(rand.Reader, message, crypto.Hash(0))
	}
	if len(digest) == 0 {
		h := k.hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}
	return k.signer.Sign(rand.Reader, digest, k.hash)
}

// Wipe overwrites a key of Ed25519. Package ecdsa keeps keys in its own memory.
func (k *SigningKey) Wipe() {
	if seed, ok := k.signer.(ed25519.PrivateKey); ok {
		clear(seed)
	}
}

// scalar returns (c mod (n-1)) + 1 in as many bytes as the odd n has, which must be a multiple
// of 8. It takes the same time for every c. All integers are big-endian.
func scalar(c, n []byte) []byte {
	modulus := make([]uint64, len(n)/8) // the least significant word first
	for i := range modulus {
		modulus[i] = binary.BigEndian.Uint64(n[len(n)-8*(i+1):])
	}
	modulus[0]-- // n is odd
	rest, less := make([]uint64, len(modulus)), make([]uint64, len(modulus))
	defer clear(rest)
	defer clear(less)
	for _, b := range c {
		for bit := 7; bit >= 0; bit-- {
			// rest = 2 rest + bit, and less the modulus unless that is negative.
			carry := uint64(b>>bit) & 1
			for i, w := range rest {
				rest[i], carry = w<<1|carry, w>>63
			}
			var borrow uint64
			for i := range rest {
				less[i], borrow = bits.Sub64(rest[i], modulus[i], borrow)
			}
			keep := -(borrow &^ carry) // all ones if rest was below the modulus
			for i := range rest {
				rest[i] = rest[i]&keep | less[i]&^keep
			}
		}
	}
	out := make([]byte, len(n))
	one := uint64(1)
	for i, w := range rest {
		w, one = bits.Add64(w, 0, one)
		binary.BigEndian.PutUint64(out[len(n)-8*(i+1):], w)
	}
	return out
}
