// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // registers the hashes that quotes are signed over
	_ "crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/google/go-tpm/tpm2"
)

// minRSA is the smallest RSA modulus of an attestation key, in bits.
const minRSA = 2048

// attestKey is an attestation key whose attributes and algorithm were judged.
type attestKey struct {
	name   []byte // nameAlg, then the digest of the public area (TPM 2.0 Part 1, section 16)
	scheme uint16 // TPM_ALG_ID of the signing scheme
	hash   crypto.Hash
	alg    uint16 // TPM_ALG_ID of hash
	ecc    *ecdsa.PublicKey
	rsa    *rsa.PublicKey
}

// Algorithms of signatures (TCG Algorithm Registry, table 3).
const (
	algRSASSA = uint16(tpm2.TPMAlgRSASSA)
	algRSAPSS = uint16(tpm2.TPMAlgRSAPSS)
	algECDSA  = uint16(tpm2.TPMAlgECDSA)
)

// signatureHashes are the hashes that a quote may be signed over. SHA-1 is not.
var signatureHashes = map[uint16]crypto.Hash{
	uint16(tpm2.TPMAlgSHA256): crypto.SHA256,
	uint16(tpm2.TPMAlgSHA384): crypto.SHA384,
	uint16(tpm2.TPMAlgSHA512): crypto.SHA512,
}

// decodePublic reads exactly one TPMT_PUBLIC (TPM 2.0 Part 2, section 12.2.4). What the
// library reads is written again and compared, since it ignores what it has no use for.
func decodePublic(b []byte) (public *tpm2.TPMTPublic, err error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("%d bytes", len(b))
	}
	if public, ok := commonPublic(b); ok {
		return public, nil
	}
	public, err = tpm2.Unmarshal[tpm2.TPMTPublic](b)
	if err != nil {
		return nil, err
	}
	if again := tpm2.Marshal(public); !bytes.Equal(again, b) {
		return nil, errors.New("it has another encoding than the canonical one, or bytes behind it")
	}
	return public, nil
}

// attributeFaults lists what an attestation key must not lack, or must not have
// (TPM 2.0 Part 2, section 8.3). Only a restricted key is proof that a TPM made what
// it signed: an unrestricted one signs any digest that its user hands it.
func attributeFaults(a tpm2.TPMAObject) string {
	var faults []string
	for _, x := range []struct {
		name      string
		got, want bool
	}{
		{"fixedTPM", a.FixedTPM, true},
		{"fixedParent", a.FixedParent, true},
		{"sensitiveDataOrigin", a.SensitiveDataOrigin, true},
		{"restricted", a.Restricted, true},
		{"sign", a.SignEncrypt, true},
		{"decrypt", a.Decrypt, false},
		{"x509sign", a.X509Sign, false},
		{"encryptedDuplication", a.EncryptedDuplication, false},
	} {
		switch {
		case x.want && !x.got:
			faults = append(faults, x.name+" is clear")
		case !x.want && x.got:
			faults = append(faults, x.name+" is set")
		}
	}
	return strings.Join(faults, ", ")
}

// signingKey is the key and the one scheme that it signs with, or why it is refused.
// Encoded is what public was read from.
func signingKey(public *tpm2.TPMTPublic, encoded []byte) (*attestKey, error) {
	nameHash, ok := signatureHashes[uint16(public.NameAlg)]
	if !ok {
		return nil, fmt.Errorf("its name is taken with algorithm 0x%04x, want SHA-256, SHA-384 or SHA-512", uint16(public.NameAlg))
	}
	h := nameHash.New()
	h.Write(encoded)
	k := &attestKey{name: h.Sum(binary.BigEndian.AppendUint16(nil, uint16(public.NameAlg)))}
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
	hash, ok := signatureHashes[k.alg]
	if !ok {
		return nil, fmt.Errorf("it signs with hash 0x%04x, want SHA-256, SHA-384 or SHA-512", k.alg)
	}
	k.hash = hash
	return k, nil
}

func (k *attestKey) setECC(public *tpm2.TPMTPublic) error {
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
	k.scheme, k.alg, k.ecc = algECDSA, uint16(scheme.HashAlg), key
	return nil
}

func (k *attestKey) setRSA(public *tpm2.TPMTPublic) error {
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
		k.alg = uint16(d.HashAlg)
	case tpm2.TPMAlgRSAPSS:
		d, err := params.Scheme.Details.RSAPSS()
		if err != nil {
			return err
		}
		k.alg = uint16(d.HashAlg)
	default:
		return fmt.Errorf("its scheme is 0x%04x, want RSASSA or RSAPSS", uint16(params.Scheme.Scheme))
	}
	n := new(big.Int).SetBytes(modulus.Buffer)
	if n.BitLen() < minRSA || n.BitLen() != int(params.KeyBits) || n.BitLen() > 4096 || len(modulus.Buffer)*8 != n.BitLen() {
		return fmt.Errorf("its modulus has %d bits, stated are %d, want %d to 4096", n.BitLen(), params.KeyBits, minRSA)
	}
	exponent := params.Exponent
	if exponent == 0 { // the default (TPM 2.0 Part 2, section 12.2.3.5)
		exponent = 65537
	}
	if exponent < 65537 || exponent > 1<<31-1 || exponent%2 == 0 {
		return fmt.Errorf("its exponent is %d, want 65537", exponent)
	}
	k.scheme, k.rsa = uint16(params.Scheme.Scheme), &rsa.PublicKey{N: n, E: int(exponent)}
	return nil
}
