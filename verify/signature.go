// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
)

// signature is a TPMT_SIGNATURE (TPM 2.0 Part 2, section 11.3.4) of the AK's scheme.
type signature struct {
	r, s *big.Int // ECDSA
	rsa  []byte   // RSASSA, RSAPSS
}

// decodeSignature reads exactly one signature of the scheme and hash of k. The numbers
// must be in range, and as long as the key or without leading zeros. That leaves ECDSA
// two or more spellings of one signature, (r, n-s) among them: a TPM does not choose
// between s and n-s, so nothing may rest on a signature being the only one.
//
//	sigAlg  2 bytes   TPM_ALG_ID, must be the scheme of the key
//	hash    2 bytes   TPM_ALG_ID, must be the hash of the key
//	ECDSA:  signatureR TPM2B, signatureS TPM2B
//	RSA:    sig TPM2B
func (k *attestKey) decodeSignature(b []byte) (*signature, error) {
	r := &reader{b: b}
	scheme, hash := r.u16("sigAlg"), r.u16("hash")
	if r.err != nil {
		return nil, r.err
	}
	if scheme != k.scheme || hash != k.alg {
		return nil, fmt.Errorf("scheme 0x%04x with hash 0x%04x, the key signs with 0x%04x and 0x%04x", scheme, hash, k.scheme, k.alg)
	}
	out := &signature{}
	if k.rsa != nil {
		out.rsa = r.sized("sig")
		if r.err == nil && len(out.rsa) != k.rsa.Size() {
			return nil, fmt.Errorf("signature of %d bytes under a key of %d", len(out.rsa), k.rsa.Size())
		}
	} else {
		rb, sb := r.sized("signatureR"), r.sized("signatureS")
		if r.err == nil {
			var err error
			if out.r, err = k.scalar("r", rb); err != nil {
				return nil, err
			}
			if out.s, err = k.scalar("s", sb); err != nil {
				return nil, err
			}
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	if len(r.b) != 0 {
		return nil, fmt.Errorf("%d bytes behind the signature", len(r.b))
	}
	return out, nil
}

// scalar is a number from 1 to n-1 (FIPS 186-5, section 6.4.2).
func (k *attestKey) scalar(name string, b []byte) (*big.Int, error) {
	order := k.ecc.Params().N
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

var errSignature = errors.New("the signature does not hold under the key")

// verify reports whether sig is one over message.
func (k *attestKey) verify(message []byte, sig *signature) error {
	h := k.hash.New()
	h.Write(message)
	digest := h.Sum(nil)
	switch {
	case k.ecc != nil:
		if !ecdsa.Verify(k.ecc, digest, sig.r, sig.s) {
			return errSignature
		}
	case k.scheme == algRSAPSS:
		if rsa.VerifyPSS(k.rsa, k.hash, digest, sig.rsa, nil) != nil {
			return errSignature
		}
	default:
		if rsa.VerifyPKCS1v15(k.rsa, k.hash, digest, sig.rsa) != nil {
			return errSignature
		}
	}
	return nil
}

// equal compares public values; nothing here is secret.
func equal(a, b []byte) bool { return bytes.Equal(a, b) }
