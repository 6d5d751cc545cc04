// SPDX-License-Identifier: Apache-2.0

package ear

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"

	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// Algorithms of JWS (RFC 7518, section 3.1; RFC 8037, section 3.1).
const (
	es256 = "ES256"
	eddsa = "EdDSA"
)

// coordinate is the size of a coordinate of P-256, and of r and s, in bytes.
const coordinate = 32

// Key signs tokens. Several goroutines may use one if they may use its signer.
type Key struct {
	signer crypto.Signer
	jwk    jwk
}

// jwk is a public key as JSON (RFC 7517), in the order of its thumbprint.
type jwk struct {
	Curve     string `json:"crv"`
	Type      string `json:"kty"`
	X         string `json:"x"`
	Y         string `json:"y,omitzero"`
	Algorithm string `json:"alg,omitzero"`
	ID        string `json:"kid,omitzero"`
	Use       string `json:"use,omitzero"`
}

// NewKey returns a key that signs tokens: ECDSA on P-256, or Ed25519. The private key may be in an
// HSM.
func NewKey(signer crypto.Signer) (*Key, error) {
	public, err := publicJWK(signer.Public())
	if err != nil {
		return nil, err
	}
	return &Key{signer, *public}, nil
}

// ID returns kid: the thumbprint of the public key (RFC 7638), SHA-256 in base64url.
func (k *Key) ID() string { return k.jwk.ID }

// Public returns the public key, for [KeySet].
func (k *Key) Public() crypto.PublicKey { return k.signer.Public() }

// publicJWK returns a public key with its thumbprint.
func publicJWK(public crypto.PublicKey) (*jwk, error) {
	var k jwk
	encode := base64.RawURLEncoding.EncodeToString
	switch public := public.(type) {
	case ed25519.PublicKey:
		k = jwk{Curve: "Ed25519", Type: "OKP", X: encode(public)}
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return nil, fmt.Errorf("ear: ECDSA on %s: want P-256, which ES256 is for", public.Curve.Params().Name)
		}
		point, err := public.Bytes() // 4, then both coordinates
		if err != nil {
			return nil, fmt.Errorf("ear: %w", err)
		}
		k = jwk{Curve: "P-256", Type: "EC", X: encode(point[1:][:coordinate]), Y: encode(point[1+coordinate:])}
	default:
		return nil, fmt.Errorf("ear: a %T: want a key of Ed25519, or of ECDSA on P-256", public)
	}
	members, err := strictjson.Encode(k) // the required ones alone, in the order of their names
	if err != nil {
		return nil, fmt.Errorf("ear: %w", err)
	}
	sum := sha256.Sum256(members)
	k.ID, k.Use, k.Algorithm = encode(sum[:]), "sig", eddsa
	if k.Type == "EC" {
		k.Algorithm = es256
	}
	return &k, nil
}

// KeySet returns a JWK Set (RFC 7517, section 5) of public keys, each once, as relying parties read it.
func KeySet(public ...crypto.PublicKey) ([]byte, error) {
	if len(public) == 0 {
		return nil, errors.New("ear: a set of no keys accepts nothing")
	}
	set := struct {
		Keys []jwk `json:"keys"`
	}{}
	for _, p := range public {
		k, err := publicJWK(p)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(set.Keys, *k) {
			set.Keys = append(set.Keys, *k)
		}
	}
	return strictjson.Encode(set)
}

// sign returns claims as compact JWS (RFC 7515, section 3.1).
func (k *Key) sign(claims []byte) ([]byte, error) {
	header, err := strictjson.Encode(map[string]string{"alg": k.jwk.Algorithm, "kid": k.jwk.ID, "typ": "JWT"})
	if err != nil {
		return nil, fmt.Errorf("ear: %w", err)
	}
	e := base64.RawURLEncoding
	message := append(e.AppendEncode(nil, header), '.')
	message = e.AppendEncode(message, claims)
	signature, err := k.signature(message)
	if err != nil {
		return nil, fmt.Errorf("ear: sign the token: %w", err)
	}
	return e.AppendEncode(append(message, '.'), signature), nil
}

// errOtherKey says that a signer, such as an HSM, did not sign with the key that it shows.
var errOtherKey = errors.New("the signature does not verify with the public key")

// signature returns the signature of JWS over a message. It verifies what the signer made.
func (k *Key) signature(message []byte) ([]byte, error) {
	switch public := k.signer.Public().(type) {
	case ed25519.PublicKey:
		s, err := k.signer.Sign(rand.Reader, message, crypto.Hash(0))
		if err == nil && !ed25519.Verify(public, message, s) {
			err = errOtherKey
		}
		return s, err
	case *ecdsa.PublicKey:
		var random io.Reader = rand.Reader
		if _, ours := k.signer.(*ecdsa.PrivateKey); ours {
			random = nil // the same signature each time (RFC 6979)
		}
		digest := sha256.Sum256(message)
		der, err := k.signer.Sign(random, digest[:], crypto.SHA256)
		if err != nil {
			return nil, err
		}
		if !ecdsa.VerifyASN1(public, digest[:], der) {
			return nil, errOtherKey
		}
		var s struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(der, &s); err != nil {
			return nil, err
		}
		out := make([]byte, 2*coordinate) // r, then s (RFC 7518, section 3.4)
		s.R.FillBytes(out[:coordinate])
		s.S.FillBytes(out[coordinate:])
		return out, nil
	}
	return nil, errOtherKey
}
