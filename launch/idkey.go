// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
)

// A public key and a signature as firmware reads them (ABI, chapter "Digital Signatures",
// tables "ECDSA P-384 with SHA-384 Public Key Format" and "... Signature Format"). Numbers
// are little-endian:
//
//	key        curve u32 (2: P-384), x 72, y 72, zeros up to 1028 bytes
//	signature  r 72, s 72, zeros up to 512 bytes
const (
	keySize       = 0x404
	signatureSize = 0x200
	numberSize    = 72
	curveP384     = 2
)

// fieldSize is the size of a coordinate and of a scalar of P-384 in bytes.
const fieldSize = 48

// KeyDigest returns the digest by which reports name a key that signed an ID block or an ID
// key: SHA-384 of the key in the form that firmware reads.
func KeyDigest(key crypto.PublicKey) ([Size]byte, error) {
	raw, err := marshalKey(key)
	if err != nil {
		return [Size]byte{}, err
	}
	return digestOf(raw), nil
}

func digestOf(raw []byte) [Size]byte { return sha512.Sum384(raw) }

func marshalKey(key crypto.PublicKey) ([]byte, error) {
	k, ok := key.(*ecdsa.PublicKey)
	if !ok || k.Curve != elliptic.P384() {
		return nil, errors.New("firmware of SEV-SNP knows no other kind of key than ECDSA on P-384")
	}
	point, err := k.Bytes() // 4, x, y; big-endian
	if err != nil {
		return nil, err
	}
	raw := make([]byte, keySize)
	binary.LittleEndian.PutUint32(raw, curveP384)
	putNumber(raw[4:], point[1:1+fieldSize])
	putNumber(raw[4+numberSize:], point[1+fieldSize:])
	return raw, nil
}

func parseKey(raw []byte) (*ecdsa.PublicKey, error) {
	if n := binary.LittleEndian.Uint32(raw); n != curveP384 {
		return nil, fmt.Errorf("curve %d, want %d: P-384", n, curveP384)
	}
	x, errX := getNumber(raw[4:])
	y, errY := getNumber(raw[4+numberSize:])
	if !zero(raw[4+2*numberSize:]) || errX != nil || errY != nil {
		return nil, errors.New("bytes after a coordinate are not zero")
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P384(), slices.Concat([]byte{4}, x, y))
}

// putNumber writes a big-endian number as a little-endian one.
func putNumber(to, number []byte) {
	copy(to, number)
	slices.Reverse(to[:len(number)])
}

// getNumber returns the big-endian form of a little-endian number. What is beyond the size
// of the field must be zero.
func getNumber(from []byte) ([]byte, error) {
	if !zero(from[fieldSize:numberSize]) {
		return nil, errors.New("the number is too large")
	}
	b := slices.Clone(from[:fieldSize])
	slices.Reverse(b)
	return b, nil
}

// pair is a signature as package crypto writes it (RFC 3279, section 2.2.3).
type pair struct{ R, S *big.Int }

func sign(random io.Reader, key crypto.Signer, message []byte) ([]byte, error) {
	digest := sha512.Sum384(message)
	der, err := key.Sign(random, digest[:], crypto.SHA384)
	if err != nil {
		return nil, err
	}
	var p pair
	if rest, err := asn1.Unmarshal(der, &p); err != nil || len(rest) > 0 || p.R.Sign() <= 0 || p.S.Sign() <= 0 || p.R.BitLen() > 8*fieldSize || p.S.BitLen() > 8*fieldSize {
		return nil, errors.New("the signer returned a signature that is not one of ECDSA on P-384")
	}
	raw := make([]byte, signatureSize)
	putNumber(raw, p.R.FillBytes(make([]byte, fieldSize)))
	putNumber(raw[numberSize:], p.S.FillBytes(make([]byte, fieldSize)))
	return raw, nil
}

func verify(key *ecdsa.PublicKey, message, raw []byte) error {
	r, errR := getNumber(raw)
	s, errS := getNumber(raw[numberSize:])
	if !zero(raw[2*numberSize:]) || errR != nil || errS != nil {
		return errors.New("bytes after a number of the signature are not zero")
	}
	digest := sha512.Sum384(message)
	if !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)) {
		return errors.New("the signature is wrong")
	}
	return nil
}

func zero(b []byte) bool { return !slices.ContainsFunc(b, func(x byte) bool { return x != 0 }) }
