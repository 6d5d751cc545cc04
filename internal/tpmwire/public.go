// SPDX-License-Identifier: Apache-2.0

package tpmwire

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// MaxPublic is the largest TPMT_PUBLIC that is read, in bytes. That of RSA 4096 has 550 or
// so.
const MaxPublic = 1 << 10

// ParsePublic reads exactly one TPMT_PUBLIC (TPM 2.0 Part 2, section 12.2.4) of at most
// [MaxPublic] bytes, in its canonical encoding, with nothing after it. So each name of an
// object has one meaning.
func ParsePublic(b []byte) (*tpm2.TPMTPublic, error) {
	if len(b) < 4 || len(b) > MaxPublic {
		return nil, fmt.Errorf("%d bytes, want 4 to %d", len(b), MaxPublic)
	}
	if public, ok := signingPublic(b); ok {
		return public, nil
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](b)
	if err != nil {
		return nil, err
	}
	// The library ignores what it has no use for, so its reading is encoded and compared.
	if !bytes.Equal(tpm2.Marshal(public), b) {
		return nil, errors.New("not the canonical encoding of its content, or bytes follow it")
	}
	return public, nil
}

// objectAttributes returns the bits of a TPMA_OBJECT (TPM 2.0 Part 2, section 8.3.2). It
// returns false if the library has no name for a bit that is set.
func objectAttributes(bits uint32) (tpm2.TPMAObject, bool) {
	var a tpm2.TPMAObject
	for _, x := range []struct {
		bit int
		to  *bool
	}{
		{1, &a.FixedTPM}, {2, &a.STClear}, {4, &a.FixedParent}, {5, &a.SensitiveDataOrigin}, {6, &a.UserWithAuth}, {7, &a.AdminWithPolicy},
		{10, &a.NoDA}, {11, &a.EncryptedDuplication}, {16, &a.Restricted}, {17, &a.Decrypt}, {18, &a.SignEncrypt}, {19, &a.X509Sign},
	} {
		*x.to = bits&(1<<x.bit) != 0
		bits &^= 1 << x.bit
	}
	return a, bits == 0
}

// signingPublic reads the TPMT_PUBLIC of a signing key in the form that attestation keys
// have. It returns false for everything else, which the library may then read. The library
// reads by reflection, which takes a quarter of a verification whose report is in the cache
// (47 of 187 µs, BenchmarkWarmEvidence in verify).
//
//	type        2 bytes  RSA or ECC
//	nameAlg     2 bytes
//	attributes  4 bytes
//	authPolicy  TPM2B
//	symmetric   2 bytes  TPM_ALG_NULL
//	scheme      2 bytes  RSASSA, RSAPSS or ECDSA, and its hash 2 bytes
//	RSA: keyBits 2 bytes, exponent 4 bytes; modulus TPM2B
//	ECC: curve 2 bytes, kdf 2 bytes TPM_ALG_NULL; x TPM2B, y TPM2B
func signingPublic(b []byte) (*tpm2.TPMTPublic, bool) {
	r := newReader(b)
	p := &tpm2.TPMTPublic{Type: tpm2.TPMAlgID(r.U16("type")), NameAlg: tpm2.TPMIAlgHash(r.U16("nameAlg"))}
	attributes, plain := objectAttributes(r.U32("objectAttributes"))
	p.ObjectAttributes = attributes
	p.AuthPolicy = tpm2.TPM2BDigest{Buffer: r.sized("authPolicy")}
	symmetric := tpm2.TPMAlgID(r.U16("symmetric"))
	scheme, hash := tpm2.TPMAlgID(r.U16("scheme")), tpm2.TPMIAlgHash(r.U16("hash"))
	if r.Err != nil || !plain || symmetric != tpm2.TPMAlgNull {
		return nil, false
	}
	none := tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}
	switch {
	case p.Type == tpm2.TPMAlgECC && scheme == tpm2.TPMAlgECDSA:
		curve, kdf := tpm2.TPMECCCurve(r.U16("curve")), tpm2.TPMAlgID(r.U16("kdf"))
		if kdf != tpm2.TPMAlgNull {
			return nil, false
		}
		p.Parameters = tpm2.NewTPMUPublicParms(p.Type, &tpm2.TPMSECCParms{Symmetric: none, CurveID: curve, KDF: tpm2.TPMTKDFScheme{Scheme: kdf},
			Scheme: tpm2.TPMTECCScheme{Scheme: scheme, Details: tpm2.NewTPMUAsymScheme(scheme, &tpm2.TPMSSigSchemeECDSA{HashAlg: hash})}})
		p.Unique = tpm2.NewTPMUPublicID(p.Type, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: r.sized("x")}, Y: tpm2.TPM2BECCParameter{Buffer: r.sized("y")}})
	case p.Type == tpm2.TPMAlgRSA && (scheme == tpm2.TPMAlgRSASSA || scheme == tpm2.TPMAlgRSAPSS):
		details := tpm2.NewTPMUAsymScheme(scheme, &tpm2.TPMSSigSchemeRSASSA{HashAlg: hash})
		if scheme == tpm2.TPMAlgRSAPSS {
			details = tpm2.NewTPMUAsymScheme(scheme, &tpm2.TPMSSigSchemeRSAPSS{HashAlg: hash})
		}
		bits, exponent := r.U16("keyBits"), r.U32("exponent")
		p.Parameters = tpm2.NewTPMUPublicParms(p.Type, &tpm2.TPMSRSAParms{Symmetric: none, KeyBits: tpm2.TPMKeyBits(bits), Exponent: exponent,
			Scheme: tpm2.TPMTRSAScheme{Scheme: scheme, Details: details}})
		p.Unique = tpm2.NewTPMUPublicID(p.Type, &tpm2.TPM2BPublicKeyRSA{Buffer: r.sized("modulus")})
	default:
		return nil, false
	}
	return p, r.Err == nil && len(r.Rest) == 0
}

// MadeFrom reports whether the TPMT_PUBLIC p was made from template: all members but the
// unique one, which is the key itself, are the same (TPM 2.0 Part 2, section 12.2.4).
func MadeFrom(p, template tpm2.TPMTPublic) bool {
	if p.Type != template.Type {
		return false
	}
	p.Unique = template.Unique
	return bytes.Equal(tpm2.Marshal(p), tpm2.Marshal(template))
}
