// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// Errors of [CheckEd25519], for errors.Is.
var (
	// ErrEncoding is returned for bytes that are not the one encoding of a point of the curve.
	ErrEncoding = errors.New("not an Ed25519 public key in its one encoding")
	// ErrSmallOrder is returned for a point of small order: signatures that verify under it can
	// be made without any private key.
	ErrSmallOrder = errors.New("an Ed25519 public key of small order, for which any party can sign")
)

// The field of Ed25519 is that of the integers modulo 2^255 - 19; d is -121665/121666 (RFC 8032,
// section 5.1).
var (
	fieldPrime = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	curveD     = fraction(-121665, 121666)
	minusOne   = new(big.Int).Sub(fieldPrime, big.NewInt(1))
)

// smallOrder are the y coordinates of the eight points whose order divides the cofactor: the
// neutral point 1, the point -1 of order 2, two points 0 of order 4, and four of order 8. Those of
// order 8 have y^2 = c with d c^2 + 2 c - 1 = 0, since doubling them gives y = 0.
var smallOrder = func() []*big.Int {
	eighth, _ := new(big.Int).SetString("7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7", 16)
	return []*big.Int{new(big.Int), big.NewInt(1), minusOne, eighth, new(big.Int).Sub(fieldPrime, eighth)}
}()

func fraction(a, b int64) *big.Int {
	x := new(big.Int).ModInverse(big.NewInt(b), fieldPrime)
	return x.Mod(x.Mul(x, big.NewInt(a)), fieldPrime)
}

// CheckEd25519 checks an Ed25519 public key of 32 bytes that comes from outside (RFC 8032,
// section 5.1.2). It must encode a point of the curve, in the one encoding of that point: with
// y below 2^255 - 19. The point must not be of small order. Package crypto/ed25519 checks neither
// encoding nor order. Without the first rule one key has several names, and without the second
// a signature says nothing about who made it.
func CheckEd25519(key []byte) error {
	if len(key) != ed25519.PublicKeySize {
		return fmt.Errorf("%w: %d bytes, want %d", ErrEncoding, len(key), ed25519.PublicKeySize)
	}
	big32 := slices.Clone(key)
	slices.Reverse(big32)
	big32[0] &= 0x7f // the highest bit is the sign of x
	y := new(big.Int).SetBytes(big32)
	if y.Cmp(fieldPrime) >= 0 {
		return fmt.Errorf("%w: y is not below 2^255 - 19", ErrEncoding)
	}
	if slices.ContainsFunc(smallOrder, func(s *big.Int) bool { return s.Cmp(y) == 0 }) {
		return ErrSmallOrder
	}
	// x^2 = (y^2 - 1) / (d y^2 + 1): there is such an x if numerator times denominator is a square.
	// Neither is zero: y would be 1 or -1, and d is not a square.
	square := new(big.Int).Mul(y, y)
	u := new(big.Int).Sub(square, big.NewInt(1))
	v := square.Add(square.Mul(square, curveD), big.NewInt(1))
	if u.Mod(u.Mul(u, v), fieldPrime); big.Jacobi(u, fieldPrime) != 1 {
		return fmt.Errorf("%w: no point of the curve has this y", ErrEncoding)
	}
	return nil
}
