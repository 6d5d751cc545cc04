// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"math/big"
	"slices"
)

// CheckSigner compares the kind of key that the report names with the leaf's. A
// host that loaded a VLEK must not pass its signature for the chip's own, and a
// report made while the chip's keys were masked vouches for nothing.
func CheckSigner(r *Report, leaf *EndorsementKey) error {
	if r.KeyInfo.MaskChipKey() && r.KeyInfo.Signer() != SignerVLEK {
		return refuse(CodeChipKeyMasked, "key info of the report").found("the chip's keys are masked").want("a report signed by the %v", leaf.Signer)
	}
	switch s := r.KeyInfo.Signer(); s {
	case SignerNone:
		return refuse(CodeUnsigned, "key info of the report").found("no signer").want("%v", leaf.Signer)
	case leaf.Signer:
		return nil
	default:
		return refuse(CodeSigner, "key info of the report").found("signed by %v", s).want("%v, which the certificate is for", leaf.Signer)
	}
}

// CheckProduct compares the processor in the report with the certificate's
// product and the chain's. A version 2 report names no processor: then only
// certificate and chain are compared.
func CheckProduct(r *Report, chain *Chain) error {
	leaf := chain.Leaf
	if leaf.Product != chain.Product {
		return refuse(CodeProduct, "product of the endorsement key").found("%v", leaf.Product).want("%v, as its chain is for", chain.Product)
	}
	if r.CPU == nil {
		return nil
	}
	switch p := r.CPU.Product(); p {
	case ProductUnknown:
		return refuse(CodeProductUnknown, "processor in the report").found("%v", *r.CPU).want("one of Milan, Genoa or Turin")
	case leaf.Product:
		return nil
	default:
		return refuse(CodeProduct, "processor in the report").found("%v (%v)", *r.CPU, p).want("%v, as the certificate says", leaf.Product)
	}
}

// CheckChipID compares the chip in the report with the certificate's. There are three
// answers besides nil: another chip ([CodeChipID]), a report that does not name its chip
// ([CodeChipIDMasked]), and a VLEK, which belongs to no chip, so that there is nothing to
// compare ([CodeChipIDUnbound]: not asserted, not a failure by itself).
func CheckChipID(r *Report, leaf *EndorsementKey) error {
	if leaf.Signer == SignerVLEK {
		return refuse(CodeChipIDUnbound, "chip of the endorsement key").found("a VLEK, which names none")
	}
	if zero(r.ChipID[:]) {
		return refuse(CodeChipIDMasked, "chip id in the report").found("zero: masked by the host").want("%x", leaf.HWID)
	}
	// On Turin 8 bytes count and the rest is zero; padding the certificate's
	// value compares both at once.
	var want [64]byte
	copy(want[:], leaf.HWID)
	if !bytes.Equal(r.ChipID[:], want[:]) {
		return refuse(CodeChipID, "chip id in the report").found("%x", r.ChipID[:8]).want("%x, as the certificate says (first bytes shown)", want[:8])
	}
	return nil
}

// CheckTCB compares the reported TCB with the certificate's, byte for byte, and
// names the component that differs. The key is derived for exactly one TCB: a
// difference means that the report is not what this certificate is for.
func CheckTCB(r *Report, leaf *EndorsementKey) error {
	if r.ReportedTCB == leaf.TCB {
		return nil
	}
	got, want := r.ReportedTCB.Bytes(), leaf.TCB.Bytes()
	for i, l := range layouts[leaf.Product] {
		if got[i] != want[i] {
			return refuse(CodeTCB, "reported TCB, %s (byte %d)", cmp.Or(l.component, "reserved"), i).found("%d", got[i]).want("%d, as the certificate says", want[i])
		}
	}
	return refuse(CodeTCBLayout, "reported TCB").found("product %v", leaf.Product).want("Milan, Genoa or Turin")
}

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
	s, err2 := scalar("s", field[scalarSize:2*scalarSize])
	if err := cmp.Or(err, err2); err != nil {
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

func zero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }
