// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
)

// Errors of [CheckPossession], for errors.Is.
var (
	// ErrKeyKind is returned for a key that no proof of possession can be made with.
	ErrKeyKind = errors.New("not a key that can prove its possession: want Ed25519, ECDSA on P-256, P-384 or P-521, or RSA of 2,048 to 4,096 bits, as DER SubjectPublicKeyInfo")
	// ErrPossession is returned for a signature that the key did not make over the message.
	ErrPossession = errors.New("not a signature by this key over this request")
)

// Sizes of RSA keys that can prove their possession, in bits.
const (
	minRSA = 2048
	maxRSA = 4096
)

// pss is the one form of RSASSA-PSS (RFC 8017, section 8.1) of a proof: SHA-256, MGF1 with
// SHA-256, and a salt of 32 bytes.
var pss = rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256}

// CheckPossession checks that proof is a signature over message by the private half of
// publicKey, a DER SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7). Each kind of key has one
// form of signature (docs/evidence.md, section 6), so that nothing is negotiated. Message is
// evidence.KeyProofMessage.
func CheckPossession(publicKey, message, proof []byte) error {
	key, err := parseProver(publicKey)
	if err != nil {
		return err
	}
	ok := false
	switch key := key.(type) {
	case ed25519.PublicKey:
		ok = ed25519.Verify(key, message, proof)
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(key, sum(ecdsaHash(key.Curve), message), proof)
	case *rsa.PublicKey:
		ok = rsa.VerifyPSS(key, pss.Hash, sum(pss.Hash, message), proof, &pss) == nil
	}
	if !ok {
		return ErrPossession
	}
	return nil
}

// parseProver parses a key in its one encoding and checks that it can prove its possession.
func parseProver(publicKey []byte) (any, error) {
	key, err := x509.ParsePKIXPublicKey(publicKey)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyKind, err)
	}
	switch key := key.(type) {
	case ed25519.PublicKey:
		if err := CheckEd25519(key); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKeyKind, err)
		}
	case *ecdsa.PublicKey:
		if ecdsaHash(key.Curve) == 0 {
			return nil, fmt.Errorf("%w; it is on %s", ErrKeyKind, key.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		const least, most = 65537, 1<<31 - 1
		if n := key.N.BitLen(); n < minRSA || n > maxRSA || key.N.Bit(0) == 0 || key.E < least || key.E > most || key.E%2 == 0 {
			return nil, fmt.Errorf("%w; it is RSA of %d bits with exponent %d", ErrKeyKind, n, key.E)
		}
	default:
		return nil, fmt.Errorf("%w; it is a %T", ErrKeyKind, key)
	}
	again, err := x509.MarshalPKIXPublicKey(key)
	if err != nil || !bytes.Equal(again, publicKey) {
		return nil, fmt.Errorf("%w; it is not in its one encoding", ErrKeyKind)
	}
	return key, nil
}

// ecdsaHash returns the hash of signatures on a curve, 0 for a curve that no proof is made on.
func ecdsaHash(c elliptic.Curve) crypto.Hash {
	switch c {
	case elliptic.P256():
		return crypto.SHA256
	case elliptic.P384():
		return crypto.SHA384
	case elliptic.P521():
		return crypto.SHA512
	}
	return 0
}

func sum(h crypto.Hash, message []byte) []byte {
	d := h.New()
	d.Write(message)
	return d.Sum(nil)
}
