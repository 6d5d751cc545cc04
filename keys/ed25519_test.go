// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"testing"
)

// point is a point of the curve in affine coordinates.
type point struct{ x, y *big.Int }

func mod(x *big.Int) *big.Int { return x.Mod(x, fieldPrime) }

func mul(a, b *big.Int) *big.Int { return mod(new(big.Int).Mul(a, b)) }

// add is the addition law of RFC 8032, section 5.1.4, without its projective coordinates.
func add(p, q point) point {
	xx, yy := mul(p.x, q.x), mul(p.y, q.y)
	t := mul(curveD, mul(xx, yy))
	num := mod(new(big.Int).Add(mul(p.x, q.y), mul(q.x, p.y)))
	x := mul(num, new(big.Int).ModInverse(mod(new(big.Int).Add(big.NewInt(1), t)), fieldPrime))
	num = mod(new(big.Int).Add(yy, xx))
	y := mul(num, new(big.Int).ModInverse(mod(new(big.Int).Sub(big.NewInt(1), t)), fieldPrime))
	return point{x, y}
}

func times(n *big.Int, p point) point {
	out := point{new(big.Int), big.NewInt(1)}
	for i := n.BitLen() - 1; i >= 0; i-- {
		if out = add(out, out); n.Bit(i) == 1 {
			out = add(out, p)
		}
	}
	return out
}

// encode writes y, which need not be below the prime, and a sign.
func encode(y *big.Int, sign uint) []byte {
	b := y.FillBytes(make([]byte, 32))
	slices.Reverse(b)
	b[31] |= byte(sign << 7)
	return b
}

// decodeX returns an x for y, nil if there is none.
func decodeX(y *big.Int) *big.Int {
	square := mul(y, y)
	u := mod(new(big.Int).Sub(square, big.NewInt(1)))
	v := mod(new(big.Int).Add(mul(curveD, square), big.NewInt(1)))
	return new(big.Int).ModSqrt(mul(u, new(big.Int).ModInverse(v, fieldPrime)), fieldPrime)
}

// torsion returns the y of each of the eight points of small order, found by multiplying points
// of the curve with the order of its large subgroup.
func torsion(t *testing.T) map[string]point {
	t.Helper()
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	found := map[string]point{}
	for n := int64(2); len(found) < 8 && n < 1000; n++ {
		y := big.NewInt(n)
		x := decodeX(y)
		if x == nil {
			continue
		}
		p := times(order, point{x, y})
		for q, i := p, 0; i < 8; q, i = add(q, p), i+1 {
			found[q.x.String()+","+q.y.String()] = q
		}
	}
	if len(found) != 8 {
		t.Fatalf("%d points of small order, want 8", len(found))
	}
	return found
}

// TestSmallOrder checks every encoding of the eight points of small order: with each sign, and
// with y as it is and not reduced. For each there is a signature that verifies over messages of
// which no private key knows.
func TestSmallOrder(t *testing.T) {
	eight := big.NewInt(8)
	limit := new(big.Int).Lsh(big.NewInt(1), 255)
	encodings := map[string]bool{}
	for _, p := range torsion(t) {
		if q := times(eight, p); q.x.Sign() != 0 || q.y.Cmp(big.NewInt(1)) != 0 {
			t.Fatalf("8 times (%v, %v) is (%v, %v)", p.x, p.y, q.x, q.y)
		}
		for y := new(big.Int).Set(p.y); y.Cmp(limit) < 0; y = new(big.Int).Add(y, fieldPrime) {
			for sign := range uint(2) {
				encodings[string(encode(y, sign))] = true
			}
		}
	}
	if len(encodings) != 14 {
		t.Errorf("%d encodings of points of small order, want 14", len(encodings))
	}
	for e := range encodings {
		err := CheckEd25519([]byte(e))
		if !errors.Is(err, ErrSmallOrder) && !errors.Is(err, ErrEncoding) {
			t.Errorf("%x: %v", e, err)
		}
	}
	// The neutral point: S = 0 and R = the neutral point verify over everything.
	neutral := encode(big.NewInt(1), 0)
	if !ed25519.Verify(neutral, []byte("any message"), append(slices.Clone(neutral), make([]byte, 32)...)) {
		t.Error("crypto/ed25519 refuses the neutral point by itself: CheckEd25519 may be more than is needed")
	}
}

// TestEncodings: y that is not reduced, y without a point, and wrong sizes are refused, and keys
// that programs make are not.
func TestEncodings(t *testing.T) {
	for n := int64(0); n < 19; n++ { // every y from 2^255 - 19 to 2^255 - 1
		for sign := range uint(2) {
			key := encode(new(big.Int).Add(fieldPrime, big.NewInt(n)), sign)
			if err := CheckEd25519(key); !errors.Is(err, ErrEncoding) {
				t.Errorf("%x: %v", key, err)
			}
		}
	}
	on, off := 0, 0
	for n := int64(2); n < 500; n++ {
		key := encode(big.NewInt(n), uint(n%2))
		err := CheckEd25519(key)
		if exists := decodeX(big.NewInt(n)) != nil; exists != (err == nil) || !exists && !errors.Is(err, ErrEncoding) {
			t.Errorf("y = %d, a point %t: %v", n, exists, err)
		}
		if err == nil {
			on++
		} else {
			off++
		}
	}
	if on < 100 || off < 100 {
		t.Errorf("%d points and %d others: the test shows nothing", on, off)
	}
	for i := range 200 {
		key := ed25519.NewKeyFromSeed(append(make([]byte, 31), byte(i))).Public().(ed25519.PublicKey)
		if err := CheckEd25519(key); err != nil {
			t.Errorf("%x: %v", key, err)
		}
		for _, size := range []int{0, 31, 33, 64} {
			if err := CheckEd25519(append(slices.Clone(key), make([]byte, 32)...)[:size]); !errors.Is(err, ErrEncoding) {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
	}
	for _, x := range []string{ // RFC 8032, section 7.1
		"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
		"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
		"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
	} {
		key, err := hex.DecodeString(x)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckEd25519(key); err != nil {
			t.Errorf("%s: %v", x, err)
		}
	}
}

func BenchmarkCheckEd25519(b *testing.B) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)
	for b.Loop() {
		if err := CheckEd25519(key); err != nil {
			b.Fatal(err)
		}
	}
}
