// SPDX-License-Identifier: Apache-2.0

package tpmwire

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // registers the hashes that quotes are signed over
	_ "crypto/sha512"
	"encoding/binary"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"
)

// Sizes of the modulus of an RSA signing key, in bits.
const (
	MinRSA = 2048
	MaxRSA = 4096
)

// A Key is a signing key and the one scheme and hash that it signs with.
type Key struct {
	Name   []byte           // nameAlg, then the digest of the public area (TPM 2.0 Part 1, section 16); nil of a bare key
	Scheme tpm2.TPMAlgID    // RSASSA, RSAPSS or ECDSA
	Alg    tpm2.TPMIAlgHash // SHA-256, SHA-384 or SHA-512
	Hash   crypto.Hash      // the same hash
	ECC    *ecdsa.PublicKey // on P-256 or P-384; nil of an RSA key
	RSA    *rsa.PublicKey   // of MinRSA to MaxRSA bits; nil of an ECC key
}

// signatureHashes are the hashes that a quote may be signed over. SHA-1 is not.
var signatureHashes = map[tpm2.TPMIAlgHash]crypto.Hash{
	tpm2.TPMAlgSHA256: crypto.SHA256,
	tpm2.TPMAlgSHA384: crypto.SHA384,
	tpm2.TPMAlgSHA512: crypto.SHA512,
}

// SignatureHash returns the hash of a TPM_ALG_ID if a quote may be signed over it.
func SignatureHash(alg uint16) (crypto.Hash, bool) {
	h, ok := signatureHashes[tpm2.TPMIAlgHash(alg)]
	return h, ok
}

// SigningKey returns the key of a public area, or why it cannot sign quotes. Encoded is the
// TPMT_PUBLIC that public was read from. The attributes are not checked.
func SigningKey(public *tpm2.TPMTPublic, encoded []byte) (*Key, error) {
	nameHash, ok := signatureHashes[public.NameAlg]
	if !ok {
		return nil, fmt.Errorf("its name is taken with algorithm 0x%04x, want SHA-256, SHA-384 or SHA-512", uint16(public.NameAlg))
	}
	h := nameHash.New()
	h.Write(encoded)
	k := &Key{Name: h.Sum(binary.BigEndian.AppendUint16(nil, uint16(public.NameAlg)))}
	var err error
	switch public.Type {
	case tpm2.TPMAlgECC:
		err = k.setECC(public)
	case tpm2.TPMAlgRSA:
		err = k.setRSA(public)
	default:
		err = fmt.Errorf("type 0x%04x is neither RSA nor ECC", uint16(public.Type))
	}
	if err != nil {
		return nil, err
	}
	hash, ok := signatureHashes[k.Alg]
	if !ok {
		return nil, fmt.Errorf("it signs with hash 0x%04x, want SHA-256, SHA-384 or SHA-512", uint16(k.Alg))
	}
	k.Hash = hash
	return k, nil
}

func (k *Key) setECC(public *tpm2.TPMTPublic) error {
	params, err := public.Parameters.ECCDetail()
	if err != nil {
		return err
	}
	point, err := public.Unique.ECC()
	if err != nil {
		return err
	}
	if params.Scheme.Scheme != tpm2.TPMAlgECDSA {
		return fmt.Errorf("its scheme is 0x%04x, want ECDSA", uint16(params.Scheme.Scheme))
	}
	scheme, err := params.Scheme.Details.ECDSA()
	if err != nil {
		return err
	}
	var curve elliptic.Curve
	switch params.CurveID {
	case tpm2.TPMECCNistP256:
		curve = elliptic.P256()
	case tpm2.TPMECCNistP384:
		curve = elliptic.P384()
	default:
		return fmt.Errorf("its curve is 0x%04x, want P-256 or P-384", uint16(params.CurveID))
	}
	size := (curve.Params().BitSize + 7) / 8
	x, y := point.X.Buffer, point.Y.Buffer
	if len(x) > size || len(y) > size {
		return fmt.Errorf("its point has coordinates of %d and %d bytes, want at most %d", len(x), len(y), size)
	}
	uncompressed := make([]byte, 1+2*size) // SEC 1, section 2.3.3
	uncompressed[0] = 4
	copy(uncompressed[1+size-len(x):], x)
	copy(uncompressed[1+2*size-len(y):], y)
	key, err := ecdsa.ParseUncompressedPublicKey(curve, uncompressed)
	if err != nil {
		return fmt.Errorf("its point is not on the curve: %w", err)
	}
	k.Scheme, k.Alg, k.ECC = tpm2.TPMAlgECDSA, scheme.HashAlg, key
	return nil
}

func (k *Key) setRSA(public *tpm2.TPMTPublic) error {
	params, err := public.Parameters.RSADetail()
	if err != nil {
		return err
	}
	modulus, err := public.Unique.RSA()
	if err != nil {
		return err
	}
	switch params.Scheme.Scheme {
	case tpm2.TPMAlgRSASSA:
		d, err := params.Scheme.Details.RSASSA()
		if err != nil {
			return err
		}
		k.Alg = d.HashAlg
	case tpm2.TPMAlgRSAPSS:
		d, err := params.Scheme.Details.RSAPSS()
		if err != nil {
			return err
		}
		k.Alg = d.HashAlg
	default:
		return fmt.Errorf("its scheme is 0x%04x, want RSASSA or RSAPSS", uint16(params.Scheme.Scheme))
	}
	n := new(big.Int).SetBytes(modulus.Buffer)
	if n.BitLen() < MinRSA || n.BitLen() != int(params.KeyBits) || n.BitLen() > MaxRSA || len(modulus.Buffer)*8 != n.BitLen() {
		return fmt.Errorf("its modulus has %d bits, stated are %d, want %d to %d", n.BitLen(), params.KeyBits, MinRSA, MaxRSA)
	}
	exponent := params.Exponent
	if exponent == 0 { // the default (TPM 2.0 Part 2, section 12.2.3.5)
		exponent = 65537
	}
	if exponent < 65537 || exponent > 1<<31-1 || exponent%2 == 0 {
		return fmt.Errorf("its exponent is %d, want 65537", exponent)
	}
	k.Scheme, k.RSA = params.Scheme.Scheme, &rsa.PublicKey{N: n, E: int(exponent)}
	return nil
}

// BareRSA returns the attestation key of a public key about which nothing but modulus and
// exponent is known. It signs with RSASSA over SHA-256, as such keys do.
func BareRSA(key *rsa.PublicKey) (*Key, error) {
	if n := key.N.BitLen(); n < MinRSA || n > MaxRSA || n%8 != 0 {
		return nil, fmt.Errorf("its modulus has %d bits, want %d to %d", n, MinRSA, MaxRSA)
	}
	if key.E < 65537 || key.E > 1<<31-1 || key.E%2 == 0 {
		return nil, fmt.Errorf("its exponent is %d, want 65537", key.E)
	}
	return &Key{Scheme: tpm2.TPMAlgRSASSA, Alg: tpm2.TPMAlgSHA256, Hash: crypto.SHA256, RSA: key}, nil
}
