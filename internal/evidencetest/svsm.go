// SPDX-License-Identifier: Apache-2.0

package evidencetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha512"
	"encoding/binary"
	"math/big"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// EK returns the TPMT_PUBLIC of the P-256 endorsement key of template L-2 made of one letter.
func EK(letter byte) []byte {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{letter}, 32))
	if err != nil {
		panic(err) // a letter is a number in range
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	area := tpm2.ECCEKTemplate
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}})
	return tpm2.Marshal(area)
}

// A KeyEndingIn returns an RSA attestation key whose TPMT_PUBLIC ends with these bytes, of
// which the last must be odd. Its modulus is a prime number, so that its private exponent is
// easy to compute: what a guest does that passes the beginning of the key as a nonce, and lets
// the SVSM append the rest.
func KeyEndingIn(tail []byte) *AK {
	const size = 256
	if len(tail) > size-16 || tail[len(tail)-1]&1 == 0 {
		panic("no modulus can end so")
	}
	b := append(bytes.Repeat([]byte{0xff}, size-len(tail)), tail...)
	n, step := new(big.Int).SetBytes(b), new(big.Int).Lsh(big.NewInt(1), uint(8*len(tail)))
	for !n.ProbablyPrime(0) {
		n.Sub(n, step)
	}
	k := RSAKeyOf(&rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 65537}}, tpm2.TPMAlgRSASSA)
	order := new(big.Int).Sub(n, big.NewInt(1))
	if k.RSA.D = new(big.Int).ModInverse(big.NewInt(65537), order); k.RSA.D == nil {
		panic("the exponent has no inverse")
	}
	return k
}

// signPrime returns an RSASSA signature over a SHA-256 digest by a key of [KeyEndingIn], which
// the library does not take (RFC 8017, section 8.2.1).
func signPrime(key *rsa.PrivateKey, digest []byte) []byte {
	info := append([]byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}, digest...)
	size := (key.N.BitLen() + 7) / 8
	em := append([]byte{0, 1}, bytes.Repeat([]byte{0xff}, size-3-len(info))...)
	em = append(append(em, 0), info...)
	return new(big.Int).Exp(new(big.Int).SetBytes(em), key.D, key.N).FillBytes(make([]byte, size))
}

// SVSM describes what an SVSM puts around the report of evidence.
type SVSM struct {
	Manifest func(ak []byte) []byte // of its vTPM, given the recipe's AK; nil for version 1 with the key 'e' and that AK
	Nonce    func([]byte) []byte    // what the SVSM is asked with: 64 bytes
	Hashed   []byte                 // what it hashes after the nonce; nil for the manifest
	Bytes    func([]byte) []byte    // report and manifest
}

// NewSVSM returns a recipe for good evidence of a machine with an SVSM and a Genoa processor.
func NewSVSM() *Recipe {
	r := New()
	r.SVSM = new(SVSM)
	return r
}

// wrap makes the report over data and the manifest, and appends that.
func (s *SVSM) wrap(tb testing.TB, r *Report, ak *AK, data [64]byte) (report []byte, certificates [][]byte) {
	tb.Helper()
	manifest, nonce := Manifest(EK('e'), ak.Public()), data[:]
	if s.Manifest != nil {
		manifest = s.Manifest(ak.Public())
	}
	if s.Nonce != nil {
		nonce = s.Nonce(nonce)
	}
	hashed := manifest
	if s.Hashed != nil {
		hashed = s.Hashed
	}
	report, certificates = r.make(tb, sha512.Sum512(slices.Concat(nonce, hashed)))
	report = append(report, manifest...)
	if s.Bytes != nil {
		report = s.Bytes(report)
	}
	return report, certificates
}

// Manifest returns the manifest of an SVSM's vTPM, of version 1.
func Manifest(ek, ak []byte) []byte {
	return (&tpmwire.Manifest{Version: 1, EK: ek, AK: ak}).Bytes()
}

// Services returns the manifest of all services of an SVSM.
func Services(all ...tpmwire.Service) []byte {
	le, at := binary.LittleEndian, 24+24*len(all)
	size := at
	for _, s := range all {
		size += len(s.Data)
	}
	b := []byte("\xbb\x9e\x84\x63\x92\x3d\x70\x46\xa1\xff\x58\xf9\xc9\x4b\x87\xbb")
	b = le.AppendUint32(le.AppendUint32(b, uint32(size)), uint32(len(all)))
	for _, s := range all {
		b = le.AppendUint32(le.AppendUint32(append(b, s.GUID[:]...), uint32(at)), uint32(len(s.Data)))
		at += len(s.Data)
	}
	for _, s := range all {
		b = append(b, s.Data...)
	}
	return b
}
