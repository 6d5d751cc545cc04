// SPDX-License-Identifier: Apache-2.0

package tpmwire

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/binary"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"
)

// A Signature is a TPMT_SIGNATURE (TPM 2.0 Part 2, section 11.3.4) of a key's scheme.
type Signature struct {
	r, s *big.Int // ECDSA
	rsa  []byte   // RSASSA, RSAPSS
}

// ParseSignature reads exactly one signature of the scheme and hash of k. The numbers must
// be in range, and as long as the key or without leading zeros. That leaves ECDSA two or
// more spellings of one signature, (r, n-s) among them. A TPM does not choose between s and
// n-s, so nothing may depend on a signature being the only one.
//
//	sigAlg  2 bytes   TPM_ALG_ID, must be the scheme of the key
//	hash    2 bytes   TPM_ALG_ID, must be the hash of the key
//	ECDSA:  signatureR TPM2B, signatureS TPM2B
//	RSA:    sig TPM2B
func (k *Key) ParseSignature(b []byte) (*Signature, error) {
	r := newReader(b)
	scheme, hash := r.U16("sigAlg"), r.U16("hash")
	if r.Err != nil {
		return nil, r.Err
	}
	if scheme != uint16(k.Scheme) || hash != uint16(k.Alg) {
		return nil, fmt.Errorf("scheme 0x%04x with hash 0x%04x, the key signs with 0x%04x and 0x%04x", scheme, hash, uint16(k.Scheme), uint16(k.Alg))
	}
	out := &Signature{}
	if k.RSA != nil {
		out.rsa = r.sized("sig")
		if r.Err == nil && len(out.rsa) != k.RSA.Size() {
			return nil, fmt.Errorf("signature of %d bytes under a key of %d", len(out.rsa), k.RSA.Size())
		}
	} else {
		rb, sb := r.sized("signatureR"), r.sized("signatureS")
		if r.Err == nil {
			var err error
			if out.r, err = k.scalar("r", rb); err != nil {
				return nil, err
			}
			if out.s, err = k.scalar("s", sb); err != nil {
				return nil, err
			}
		}
	}
	if r.Err != nil {
		return nil, r.Err
	}
	if len(r.Rest) != 0 {
		return nil, fmt.Errorf("%d bytes follow the signature", len(r.Rest))
	}
	return out, nil
}

// scalar returns a number from 1 to n-1 (FIPS 186-5, section 6.4.2).
func (k *Key) scalar(name string, b []byte) (*big.Int, error) {
	order := k.ECC.Params().N
	size := (order.BitLen() + 7) / 8
	if len(b) == 0 || len(b) > size {
		return nil, fmt.Errorf("%s has %d bytes, want 1 to %d", name, len(b), size)
	}
	if b[0] == 0 && len(b) != size {
		return nil, fmt.Errorf("%s is padded to %d bytes", name, len(b))
	}
	x := new(big.Int).SetBytes(b)
	if x.Sign() == 0 || x.Cmp(order) >= 0 {
		return nil, fmt.Errorf("%s is out of range", name)
	}
	return x, nil
}

// Verify reports whether sig is a signature of k over message.
func (k *Key) Verify(message []byte, sig *Signature) bool {
	h := k.Hash.New()
	h.Write(message)
	digest := h.Sum(nil)
	switch {
	case k.ECC != nil:
		return ecdsa.Verify(k.ECC, digest, sig.r, sig.s)
	case k.Scheme == tpm2.TPMAlgRSAPSS:
		return rsa.VerifyPSS(k.RSA, k.Hash, digest, sig.rsa, nil) == nil
	default:
		return rsa.VerifyPKCS1v15(k.RSA, k.Hash, digest, sig.rsa) == nil
	}
}

// Wrap returns the TPMT_SIGNATURE of a bare RSA signature of k.
func (k *Key) Wrap(sig []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(k.Scheme))
	b = binary.BigEndian.AppendUint16(b, uint16(k.Alg))
	return append(binary.BigEndian.AppendUint16(b, uint16(len(sig))), sig...)
}
