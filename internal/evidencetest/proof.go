// SPDX-License-Identifier: Apache-2.0

package evidencetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"math/big"
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
)

// Prove names key in the statement of r, with a proof that the caller has it. Change returns the
// statement that the proof is really over; nil is the statement itself.
func (r *Recipe) Prove(tb testing.TB, key crypto.Signer, change func(*evidence.Statement)) {
	tb.Helper()
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	r.Statement.PublicKey = public
	over := r.Statement
	if change != nil {
		change(&over)
	}
	r.Statement.KeyProof = SignPossession(tb, key, evidence.KeyProofMessage(&over, r.AgentKey.Public().(ed25519.PublicKey)))
}

// SignPossession signs message in the form that belongs to the kind of key.
func SignPossession(tb testing.TB, key crypto.Signer, message []byte) []byte {
	tb.Helper()
	var opts crypto.SignerOpts = crypto.Hash(0)
	switch public := key.Public().(type) {
	case *ecdsa.PublicKey:
		opts = map[int]crypto.Hash{256: crypto.SHA256, 384: crypto.SHA384, 521: crypto.SHA512}[public.Curve.Params().BitSize]
	case *rsa.PublicKey:
		opts = &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256}
	}
	switch opts.HashFunc() {
	case crypto.SHA256:
		message = digest(sha256.Sum256(message))
	case crypto.SHA384:
		d := sha512.Sum384(message)
		message = d[:]
	case crypto.SHA512:
		d := sha512.Sum512(message)
		message = d[:]
	}
	sig, err := key.Sign(rand.Reader, message, opts)
	if err != nil {
		tb.Fatal(err)
	}
	return sig
}

func digest(d [32]byte) []byte { return d[:] }

// A Forger is an agent key of small order: signatures under it are made without any private key.
type Forger struct{ Public []byte }

// Forgers returns the agent keys of small order, and each in its other encodings, by name.
func Forgers() map[string]Forger {
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	eighth, _ := new(big.Int).SetString("7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7", 16)
	encode := func(y *big.Int, sign byte) Forger {
		b := reversed(y.FillBytes(make([]byte, 32)))
		b[31] |= sign << 7
		return Forger{b}
	}
	plus := func(n int64) *big.Int { return new(big.Int).Add(p, big.NewInt(n)) }
	return map[string]Forger{
		"the neutral point":               encode(big.NewInt(1), 0),
		"the neutral point, signed":       encode(big.NewInt(1), 1),
		"the neutral point, not reduced":  encode(plus(1), 0),
		"the neutral point, both":         encode(plus(1), 1),
		"order 2":                         encode(plus(-1), 0),
		"order 2, signed":                 encode(plus(-1), 1),
		"order 4":                         encode(new(big.Int), 0),
		"order 4, signed":                 encode(new(big.Int), 1),
		"order 4, not reduced":            encode(plus(0), 0),
		"order 4, signed and not reduced": encode(plus(0), 1),
		"order 8":                         encode(eighth, 0),
		"order 8, signed":                 encode(eighth, 1),
		"order 8, other y":                encode(new(big.Int).Sub(p, eighth), 0),
		"order 8, other y, signed":        encode(new(big.Int).Sub(p, eighth), 1),
	}
}

// Key returns an agent key whose public half is that of f.
func (f Forger) Key() ed25519.PrivateKey {
	return append(make(ed25519.PrivateKey, ed25519.SeedSize), f.Public...)
}

// Sign returns a signature that verifies over message: R is a multiple of the base point, and S
// that number. Such a signature is good for every message whose hash the order of the key divides,
// one in eight at least, so that another R is soon found.
func (f Forger) Sign(message []byte) []byte {
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	for n := range 1000 {
		key := ed25519.NewKeyFromSeed(append(make([]byte, 30), byte(n>>8), byte(n)))
		h := sha512.Sum512(key.Seed()) // RFC 8032, section 5.1.5
		h[0], h[31] = h[0]&248, h[31]&63|64
		number := new(big.Int).SetBytes(reversed(h[:32]))
		s := reversed(number.Mod(number, order).FillBytes(make([]byte, 32)))
		if sig := append(append([]byte(nil), key[ed25519.SeedSize:]...), s...); ed25519.Verify(f.Public, message, sig) {
			return sig
		}
	}
	return make([]byte, ed25519.SignatureSize)
}

func reversed(b []byte) []byte {
	b = slices.Clone(b)
	slices.Reverse(b)
	return b
}
