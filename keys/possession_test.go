// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
)

// spki returns a key as DER SubjectPublicKeyInfo.
func spki(t *testing.T, key any) []byte {
	t.Helper()
	b, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sign signs with any options over a digest of any hash, 0 for the message itself.
func sign(t *testing.T, key crypto.Signer, h crypto.Hash, message []byte, opts crypto.SignerOpts) []byte {
	t.Helper()
	if h != 0 {
		message = sum(h, message)
	}
	sig, err := key.Sign(rand.Reader, message, opts)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ecKey(t *testing.T, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestPossession checks each kind of key with its one form of signature, and every other
// form that the key could make, over the same message.
func TestPossession(t *testing.T) {
	message := []byte("what is signed")
	ed := ed25519.NewKeyFromSeed(make([]byte, 32))
	type form struct {
		hash crypto.Hash
		opts crypto.SignerOpts
	}
	salted := func(h crypto.Hash, salt int) form { return form{h, &rsa.PSSOptions{SaltLength: salt, Hash: h}} }
	rsaOthers := []form{
		salted(crypto.SHA256, 20), salted(crypto.SHA256, 0), salted(crypto.SHA256, 48), salted(crypto.SHA256, rsa.PSSSaltLengthAuto),
		salted(crypto.SHA384, 48), salted(crypto.SHA512, 32), {crypto.SHA256, crypto.SHA256}, // the last is PKCS #1 v1.5
	}
	for name, c := range map[string]struct {
		key    crypto.Signer
		right  form
		others []form
	}{
		"Ed25519":  {ed, form{0, crypto.Hash(0)}, []form{{crypto.SHA512, crypto.SHA512}}}, // Ed25519ph
		"P-256":    {ecKey(t, elliptic.P256()), form{crypto.SHA256, crypto.SHA256}, []form{{crypto.SHA384, crypto.SHA384}, {crypto.SHA512, crypto.SHA512}}},
		"P-384":    {ecKey(t, elliptic.P384()), form{crypto.SHA384, crypto.SHA384}, []form{{crypto.SHA256, crypto.SHA256}, {crypto.SHA512, crypto.SHA512}}},
		"P-521":    {ecKey(t, elliptic.P521()), form{crypto.SHA512, crypto.SHA512}, []form{{crypto.SHA256, crypto.SHA256}, {crypto.SHA384, crypto.SHA384}}},
		"RSA-2048": {rsaKey(t, 2048), salted(crypto.SHA256, 32), rsaOthers},
		"RSA-3072": {rsaKey(t, 3072), salted(crypto.SHA256, 32), rsaOthers},
	} {
		t.Run(name, func(t *testing.T) {
			public := spki(t, c.key.Public())
			good := sign(t, c.key, c.right.hash, message, c.right.opts)
			if err := CheckPossession(public, message, good); err != nil {
				t.Fatal(err)
			}
			for what, proof := range map[string][]byte{
				"nothing":               nil,
				"cut":                   good[:len(good)-1],
				"trailing byte":         append(bytes.Clone(good), 0),
				"leading byte":          append([]byte{0}, good...),
				"one bit":               append([]byte{good[0] ^ 1}, good[1:]...),
				"of a certificate, raw": make([]byte, len(good)),
			} {
				if err := CheckPossession(public, message, proof); !errors.Is(err, ErrPossession) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if err := CheckPossession(public, append(bytes.Clone(message), 0), good); !errors.Is(err, ErrPossession) {
				t.Errorf("another message: %v", err)
			}
			for i, f := range c.others {
				if err := CheckPossession(public, message, sign(t, c.key, f.hash, message, f.opts)); !errors.Is(err, ErrPossession) {
					t.Errorf("form %d: %v", i, err)
				}
			}
			for what, other := range map[string][]byte{
				"trailing byte": append(bytes.Clone(public), 0),
				"cut":           public[:len(public)-1],
				"nothing":       nil,
			} {
				if err := CheckPossession(other, message, good); !errors.Is(err, ErrKeyKind) {
					t.Errorf("key with %s: %v", what, err)
				}
			}
		})
	}
}

// TestECDSAEncoding checks that r and s have one encoding.
func TestECDSAEncoding(t *testing.T) {
	message := []byte("what is signed")
	key := ecKey(t, elliptic.P256())
	public := spki(t, key.Public())
	sig := sign(t, key, crypto.SHA256, message, crypto.SHA256)
	var parts struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(sig, &parts); err != nil {
		t.Fatal(err)
	}
	integer := func(n *big.Int, zeros int) []byte {
		b := append(make([]byte, zeros), n.Bytes()...)
		if zeros == 0 && b[0] >= 0x80 {
			b = append([]byte{0}, b...)
		}
		return append([]byte{2, byte(len(b))}, b...)
	}
	sequence := func(body ...[]byte) []byte {
		b := bytes.Join(body, nil)
		return append([]byte{0x30, byte(len(b))}, b...)
	}
	r, s := integer(parts.R, 0), integer(parts.S, 0)
	if err := CheckPossession(public, message, sequence(r, s)); err != nil {
		t.Fatal(err)
	}
	long := append([]byte{0x30, 0x81, byte(len(r) + len(s))}, append(bytes.Clone(r), s...)...)
	for name, proof := range map[string][]byte{
		"r with zeros":          sequence(integer(parts.R, 3), s),
		"s with zeros":          sequence(r, integer(parts.S, 3)),
		"a third integer":       sequence(r, s, []byte{2, 1, 0}),
		"a long length":         long,
		"r and s side by side":  append(parts.R.FillBytes(make([]byte, 32)), parts.S.FillBytes(make([]byte, 32))...),
		"an indefinite length":  append(append([]byte{0x30, 0x80}, append(bytes.Clone(r), s...)...), 0, 0),
		"negative r":            sequence(append([]byte{2, 1}, 0xff), s),
		"r of the order's size": sequence(integer(new(big.Int).Add(parts.R, elliptic.P256().Params().N), 0), s),
	} {
		if err := CheckPossession(public, message, proof); !errors.Is(err, ErrPossession) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKindsOfKeys checks that every other kind of key, and every other spelling of a good one,
// is refused before any signature is looked at.
func TestKindsOfKeys(t *testing.T) {
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small := new(big.Int).Lsh(big.NewInt(1), 1023)
	odd := func(bits uint) *big.Int {
		return new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), bits-1), big.NewInt(1))
	}
	p256 := spki(t, ecKey(t, elliptic.P256()).Public())
	explicit := bytes.Clone(p256)
	explicit[26] = 2 // says that a compressed point follows
	rsa2048 := spki(t, rsaKey(t, 2048).Public())
	params := bytes.Replace(rsa2048, []byte{0x30, 0x0d, 6, 9}, []byte{0x30, 0x0b, 6, 9}, 1)
	params = bytes.Replace(params, []byte{1, 1, 1, 5, 0}, []byte{1, 1, 1}, 1)
	params[3] -= 2
	algorithm := func(oid asn1.ObjectIdentifier, key []byte) []byte {
		b, err := asn1.Marshal(struct {
			A struct{ O asn1.ObjectIdentifier }
			B asn1.BitString
		}{struct{ O asn1.ObjectIdentifier }{oid}, asn1.BitString{Bytes: key, BitLength: 8 * len(key)}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	low := make([]byte, 32)
	low[0] = 1
	for name, public := range map[string][]byte{
		"P-224":                 spki(t, ecKey(t, elliptic.P224()).Public()),
		"X25519":                spki(t, x25519.Public()),
		"RSA of 1,024 bits":     spki(t, &rsa.PublicKey{N: small, E: 65537}),
		"RSA of 2,047 bits":     spki(t, &rsa.PublicKey{N: odd(2047), E: 65537}),
		"RSA of 4,097 bits":     spki(t, &rsa.PublicKey{N: odd(4097), E: 65537}),
		"RSA, even modulus":     spki(t, &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}),
		"RSA, exponent 3":       spki(t, &rsa.PublicKey{N: odd(2048), E: 3}),
		"RSA, even exponent":    spki(t, &rsa.PublicKey{N: odd(2048), E: 65538}),
		"RSA, long exponent":    spki(t, &rsa.PublicKey{N: odd(2048), E: 1<<31 + 1}),
		"RSA, no parameters":    params,
		"compressed point":      explicit,
		"Ed25519, small order":  algorithm(asn1.ObjectIdentifier{1, 3, 101, 112}, low),
		"Ed25519, not a point":  algorithm(asn1.ObjectIdentifier{1, 3, 101, 112}, append([]byte{2}, make([]byte, 31)...)),
		"Ed25519, not reduced":  algorithm(asn1.ObjectIdentifier{1, 3, 101, 112}, bytes.Repeat([]byte{0xff}, 32)),
		"Ed448":                 algorithm(asn1.ObjectIdentifier{1, 3, 101, 113}, make([]byte, 57)),
		"id-RSASSA-PSS":         algorithm(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}, make([]byte, 256)),
		"ML-DSA-65":             algorithm(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 18}, make([]byte, 1952)),
		"a certificate request": []byte("-----BEGIN CERTIFICATE REQUEST-----"),
		"text":                  []byte("a public key"),
		"empty":                 nil,
	} {
		for _, proof := range [][]byte{nil, make([]byte, 64), make([]byte, 256)} {
			if err := CheckPossession(public, []byte("m"), proof); !errors.Is(err, ErrKeyKind) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if _, err := parseProver(p256); err != nil { // what the broken spellings were made of
		t.Error(err)
	}
	if _, err := parseProver(rsa2048); err != nil {
		t.Error(err)
	}
}
