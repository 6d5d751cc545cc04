// SPDX-License-Identifier: Apache-2.0

package evidencetest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // registers SHA-1: evidence that is to be refused uses it
	"encoding/binary"
	"math/big"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// An Attestation is a TPMS_ATTEST over a quote, or over Body if that is set.
type Attestation struct {
	Magic           uint32
	Type            uint16
	QualifiedSigner []byte
	ExtraData       []byte
	Clock           uint64
	Reset, Restart  uint32
	Safe            byte
	Firmware        uint64
	Banks           []Bank
	Digest          []byte
	Body            []byte // in place of Banks and Digest
	Trailing        []byte
}

// A Bank is a TPMS_PCR_SELECTION.
type Bank struct {
	Hash   uint16
	Select []byte
}

// Encode returns the attestation in the TPM's encoding, big-endian.
func (a *Attestation) Encode() []byte {
	var b []byte
	be := binary.BigEndian
	b = be.AppendUint32(b, a.Magic)
	b = be.AppendUint16(b, a.Type)
	b = sized(b, a.QualifiedSigner)
	b = sized(b, a.ExtraData)
	b = be.AppendUint64(b, a.Clock)
	b = be.AppendUint32(b, a.Reset)
	b = be.AppendUint32(b, a.Restart)
	b = append(b, a.Safe)
	b = be.AppendUint64(b, a.Firmware)
	if a.Body != nil {
		return append(append(b, a.Body...), a.Trailing...)
	}
	b = be.AppendUint32(b, uint32(len(a.Banks)))
	for _, k := range a.Banks {
		b = be.AppendUint16(b, k.Hash)
		b = append(append(b, byte(len(k.Select))), k.Select...)
	}
	b = sized(b, a.Digest)
	return append(b, a.Trailing...)
}

func sized(b, value []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(value))), value...)
}

// An AK is an attestation key in software.
type AK struct {
	Template tpm2.TPMTPublic // its public area; a test may change it
	Raw      []byte          // in place of Template, if set
	Hash     crypto.Hash     // hash of its signatures
	HashAlg  uint16          // TPM_ALG_ID of Hash
	Scheme   uint16          // TPM_ALG_ID
	ECC      *ecdsa.PrivateKey
	RSA      *rsa.PrivateKey
}

// Public returns the TPMT_PUBLIC.
func (k *AK) Public() []byte {
	if k.Raw != nil {
		return k.Raw
	}
	return tpm2.Marshal(k.Template)
}

var akAttributes = tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true}

// ECCKey returns a P-256 key made of one letter, signing over SHA-256.
func ECCKey(letter byte) *AK {
	return ECCKeyOn(elliptic.P256(), tpm2.TPMECCNistP256, tpm2.TPMAlgSHA256, letter)
}

// ECCKeyOn returns a key on another curve, signing over another hash.
func ECCKeyOn(curve elliptic.Curve, id tpm2.TPMECCCurve, hash tpm2.TPMAlgID, letter byte) *AK {
	size := (curve.Params().BitSize + 7) / 8
	key, err := ecdsa.ParseRawPrivateKey(curve, bytes.Repeat([]byte{letter}, size))
	if err != nil {
		panic(err) // a letter is a number in range on every curve
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	h, err := hash.Hash()
	if err != nil {
		panic(err)
	}
	return &AK{
		Hash: h, HashAlg: uint16(hash), Scheme: uint16(tpm2.TPMAlgECDSA), ECC: key,
		Template: tpm2.TPMTPublic{
			Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: akAttributes,
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
				Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: hash})},
				CurveID: id,
			}),
			Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
				X: tpm2.TPM2BECCParameter{Buffer: point[1 : 1+size]}, Y: tpm2.TPM2BECCParameter{Buffer: point[1+size:]},
			}),
		},
	}
}

// RSAKey returns a new RSA key of this size, signing over SHA-256 with the scheme RSASSA or RSAPSS.
func RSAKey(tb testing.TB, bits int, scheme tpm2.TPMAlgID) *AK {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		tb.Fatal(err)
	}
	return RSAKeyOf(key, scheme)
}

// RSAKeyOf returns the attestation key of an RSA key, signing over SHA-256.
func RSAKeyOf(key *rsa.PrivateKey, scheme tpm2.TPMAlgID) *AK {
	details := tpm2.NewTPMUAsymScheme(scheme, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})
	if scheme == tpm2.TPMAlgRSAPSS {
		details = tpm2.NewTPMUAsymScheme(scheme, &tpm2.TPMSSigSchemeRSAPSS{HashAlg: tpm2.TPMAlgSHA256})
	}
	return &AK{
		Hash: crypto.SHA256, HashAlg: uint16(tpm2.TPMAlgSHA256), Scheme: uint16(scheme), RSA: key,
		Template: tpm2.TPMTPublic{
			Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: akAttributes,
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
				Scheme: tpm2.TPMTRSAScheme{Scheme: scheme, Details: details}, KeyBits: tpm2.TPMKeyBits(key.N.BitLen()),
			}),
			Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()}),
		},
	}
}

// Sign returns the TPMT_SIGNATURE over message.
func (k *AK) Sign(tb testing.TB, message []byte) []byte {
	tb.Helper()
	h := k.Hash.New()
	h.Write(message)
	digest := h.Sum(nil)
	b := binary.BigEndian.AppendUint16(nil, k.Scheme)
	b = binary.BigEndian.AppendUint16(b, k.HashAlg)
	if k.RSA != nil {
		var sig []byte
		var err error
		if len(k.RSA.Primes) == 0 {
			return sized(b, signPrime(k.RSA, digest))
		}
		if k.Scheme == uint16(tpm2.TPMAlgRSAPSS) {
			sig, err = rsa.SignPSS(rand.Reader, k.RSA, k.Hash, digest, nil)
		} else {
			sig, err = rsa.SignPKCS1v15(rand.Reader, k.RSA, k.Hash, digest)
		}
		if err != nil {
			tb.Fatal(err)
		}
		return sized(b, sig)
	}
	r, s, err := ecdsa.Sign(rand.Reader, k.ECC, digest)
	if err != nil {
		tb.Fatal(err)
	}
	return k.EncodeSignature(r, s)
}

// EncodeSignature returns the TPMT_SIGNATURE of these numbers, as long as those of the curve.
func (k *AK) EncodeSignature(r, s *big.Int) []byte {
	size := (k.ECC.Params().BitSize + 7) / 8
	b := binary.BigEndian.AppendUint16(nil, k.Scheme)
	b = binary.BigEndian.AppendUint16(b, k.HashAlg)
	b = sized(b, r.FillBytes(make([]byte, size)))
	return sized(b, s.FillBytes(make([]byte, size)))
}
