// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/keys"
)

// ecc returns template with the public key of a new private key on P-256.
func ecc(t testing.TB, template tpm2.TPMTPublic) (*keys.Public, crypto.PublicKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}})
	return parsed(t, template), key.Public()
}

func parsed(t testing.TB, area tpm2.TPMTPublic) *keys.Public {
	p, err := keys.ParsePublic(tpm2.Marshal(area))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// madeEK returns the public area of an endorsement key that no TPM made.
func madeEK(t testing.TB, kind keys.EKKind) (*keys.Public, crypto.PublicKey) {
	if kind == keys.EKECC256 {
		return ecc(t, tpm2.ECCEKTemplate)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	area := tpm2.RSAEKTemplate
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.FillBytes(make([]byte, 256))})
	return parsed(t, area), key.Public()
}

// madeAK returns the public area of an attestation key that no TPM made.
func madeAK(t testing.TB) *keys.Public {
	area := tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, Restricted: true, SignEncrypt: true},
	}
	curve(tpm2.TPMECCNistP256, tpm2.TPMAlgECDSA)(&area)
	p, _ := ecc(t, area)
	return p
}
