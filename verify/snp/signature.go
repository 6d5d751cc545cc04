// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"math/big"
	"slices"
)

// algorithmECDSAP384 is SIGNATURE_ALGO 1 (ABI, chapter "Digital Signatures").
const algorithmECDSAP384 = 1

// scalarSize is the size of r and of s in a signature: 72 bytes, little-endian,
// the upper 24 of them zero on this curve (ABI, table "ECDSA P-384 with SHA-384 signature").
const scalarSize = 72

// VerifySignature checks the signature over bytes 0 to 0x29F under the leaf's
// key. It says nothing about whose key that is: see [VerifyChain].
func (r *Report) VerifySignature(leaf *EndorsementKey) error {
	if r.SignatureAlgorithm != algorithmECDSAP384 {
		return refuse(CodeSignatureAlgorithm, "report signature").found("algorithm %d", r.SignatureAlgorithm).want("%d, ECDSA P-384 with SHA-384", algorithmECDSAP384)
	}
	field := r.raw[offsetSignature:]
	if zero(field) {
		return refuse(CodeSignatureAbsent, "report signature").found("all zero").want("a signature; the host may have masked the chip's keys")
	}
	if !zero(field[2*scalarSize:]) {
		return refuse(CodeSignatureEncoding, "report signature").found("bytes set after r and s").want("zero")
	}
	rr, err := scalar("r", field[:scalarSize])
	if err != nil {
		return err
	}
	s, err := scalar("s", field[scalarSize:2*scalarSize])
	if err != nil {
		return err
	}
	digest := sha512.Sum384(r.raw[:offsetSignature])
	if !ecdsa.Verify(leaf.key, digest[:], rr, s) {
		return refuse(CodeSignature, "report signature").found("one that the %v does not verify", leaf.Signer).want("the signature of the key that the certificate names")
	}
	return nil
}

// scalar parses a number in 1 to n-1, n being the order of the curve. Any other must
// not reach the arithmetic: a zero r or s verifies under any key in
// implementations that forget to look.
func scalar(name string, b []byte) (*big.Int, error) {
	be := slices.Clone(b)
	slices.Reverse(be)
	n := new(big.Int).SetBytes(be)
	if n.Sign() == 0 {
		return nil, refuse(CodeSignatureEncoding, "report signature, %s", name).found("zero").want("1 to the order of the curve, less one")
	}
	if n.Cmp(elliptic.P384().Params().N) >= 0 {
		return nil, refuse(CodeSignatureEncoding, "report signature, %s", name).found("a number of %d bits, not below the order of the curve", n.BitLen()).want("1 to the order of the curve, less one")
	}
	return n, nil
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
