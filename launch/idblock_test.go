// SPDX-License-Identifier: Apache-2.0

package launch_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/launch"
)

func key(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// block returns an ID block in which no two fields look alike.
func block() *launch.IDBlock {
	b := &launch.IDBlock{GuestSVN: 0x01020304, Policy: 0x3001F}
	for i := range b.Measurement {
		b.Measurement[i] = byte(i + 1)
	}
	for i := range b.FamilyID {
		b.FamilyID[i], b.ImageID[i] = byte(i+100), byte(i+150)
	}
	return b
}

// number returns the number in little-endian bytes, and checks that the rest is zero.
func number(t *testing.T, b []byte) *big.Int {
	t.Helper()
	b = slices.Clone(b)
	slices.Reverse(b)
	return new(big.Int).SetBytes(b)
}

// TestIDBlockFormat reads block and signatures by the offsets of the specification, and
// verifies the signatures without the code of the package.
func TestIDBlockFormat(t *testing.T) {
	b, id, author := block(), key(t, elliptic.P384()), key(t, elliptic.P384())
	a, err := launch.SignIDBlock(rand.Reader, b, id, author)
	if err != nil {
		t.Fatal(err)
	}
	raw, auth := b.Bytes(), a.Bytes()
	if len(raw) != 96 || len(auth) != 4096 {
		t.Fatalf("%d and %d bytes", len(raw), len(auth))
	}
	if !bytes.Equal(raw[:48], b.Measurement[:]) || !bytes.Equal(raw[48:64], b.FamilyID[:]) || !bytes.Equal(raw[64:80], b.ImageID[:]) ||
		!bytes.Equal(raw[80:], []byte{1, 0, 0, 0, 4, 3, 2, 1, 0x1F, 0, 3, 0, 0, 0, 0, 0}) {
		t.Errorf("ID block %x", raw)
	}
	if !bytes.Equal(auth[:8], []byte{1, 0, 0, 0, 1, 0, 0, 0}) {
		t.Errorf("algorithms %x", auth[:8])
	}
	for _, c := range []struct {
		name           string
		key            *ecdsa.PrivateKey
		at, signature  int
		message        []byte
		digest, others [48]byte
	}{
		{"ID key", id, 0x240, 0x40, raw, a.IDKeyDigest(), a.AuthorKeyDigest()},
		{"author key", author, 0x880, 0x680, auth[0x240:0x644], a.AuthorKeyDigest(), a.IDKeyDigest()},
	} {
		wire := auth[c.at : c.at+1028]
		point, _ := c.key.PublicKey.Bytes()
		x, y := new(big.Int).SetBytes(point[1:49]), new(big.Int).SetBytes(point[49:])
		if binary.LittleEndian.Uint32(wire) != 2 || number(t, wire[4:76]).Cmp(x) != 0 || number(t, wire[76:148]).Cmp(y) != 0 || number(t, wire[148:]).Sign() != 0 {
			t.Errorf("%s: %x", c.name, wire)
		}
		s, digest := auth[c.signature:c.signature+512], sha512.Sum384(c.message)
		if !ecdsa.Verify(&c.key.PublicKey, digest[:], number(t, s[:72]), number(t, s[72:144])) || number(t, s[144:]).Sign() != 0 {
			t.Errorf("%s: signature", c.name)
		}
		if c.digest != sha512.Sum384(wire) || c.digest == c.others {
			t.Errorf("%s: digest", c.name)
		}
		if got, err := launch.KeyDigest(c.key.Public()); err != nil || got != c.digest {
			t.Errorf("%s: digest of the key %v", c.name, err)
		}
	}
}

// TestIDBlockReads: what is written can be read, with and without an author key. Without
// random bytes two signers write the same.
func TestIDBlockReads(t *testing.T) {
	b, id := block(), key(t, elliptic.P384())
	for _, author := range []crypto.Signer{nil, key(t, elliptic.P384()), id} {
		a, err := launch.SignIDBlock(nil, b, id, author)
		if err != nil {
			t.Fatal(err)
		}
		again, err := launch.SignIDBlock(nil, b, id, author)
		if err != nil || !bytes.Equal(a.Bytes(), again.Bytes()) {
			t.Errorf("the second signature differs: %v", err)
		}
		readBlock, err := launch.ParseIDBlock(b.Bytes())
		if err != nil || *readBlock != *b {
			t.Errorf("%v, %v", readBlock, err)
		}
		read, err := launch.ParseIDAuth(a.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if err := read.Verify(readBlock); err != nil || read.IDKeyDigest() != a.IDKeyDigest() || read.AuthorKeyDigest() != a.AuthorKeyDigest() {
			t.Error(err)
		}
		if (read.AuthorKeyDigest() == [48]byte{}) != (author == nil) {
			t.Errorf("author key digest %x", read.AuthorKeyDigest())
		}
	}
}

// TestIDBlockRefusals: each byte that is wrong is noticed, by the parser or by Verify.
func TestIDBlockRefusals(t *testing.T) {
	b := block()
	a, err := launch.SignIDBlock(nil, b, key(t, elliptic.P384()), key(t, elliptic.P384()))
	if err != nil {
		t.Fatal(err)
	}
	alone, err := launch.SignIDBlock(nil, b, key(t, elliptic.P384()), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, whole := range []*launch.IDAuth{a, alone} {
		for at := range whole.Bytes() {
			raw := whole.Bytes()
			raw[at] ^= 0x40
			if read, err := launch.ParseIDAuth(raw); err == nil && read.Verify(b) == nil {
				t.Fatalf("byte %#x is wrong, and that passes", at)
			}
		}
	}
	for at := range b.Bytes() {
		raw := b.Bytes()
		raw[at] ^= 0x40
		if read, err := launch.ParseIDBlock(raw); err == nil && a.Verify(read) == nil {
			t.Fatalf("byte %#x of the block is wrong, and that passes", at)
		}
	}
	for _, c := range []struct {
		words string
		raw   []byte
		at    int
		to    byte
	}{
		{"of 4095 bytes", a.Bytes()[:4095], 0, 1},
		{"of 4097 bytes", append(a.Bytes(), 0), 0, 1},
		{"ID key of algorithm 2", a.Bytes(), 0, 2},
		{"author key of algorithm 2", a.Bytes(), 4, 2},
		{"no algorithm of it", a.Bytes(), 4, 0},
		{"no algorithm of it", alone.Bytes(), 0x880, 1},
		{"no algorithm of it", alone.Bytes(), 0x680, 1},
		{"author key: curve 0", alone.Bytes(), 4, 1},
		{"ID key: curve 1", a.Bytes(), 0x240, 1},
		{"author key: curve 1", a.Bytes(), 0x880, 1},
		{"ID key: bytes after a coordinate", a.Bytes(), 0x240 + 4 + 48, 1},
		{"ID key: bytes after a coordinate", a.Bytes(), 0x240 + 4 + 72 + 71, 1},
		{"ID key: bytes after a coordinate", a.Bytes(), 0x240 + 4 + 144, 1},
		{"at 0x8 to 0x40", a.Bytes(), 0x3F, 1},
		{"at 0x644 to 0x680", a.Bytes(), 0x644, 1},
		{"at 0xc84 to 0x1000", a.Bytes(), 0xFFF, 1},
	} {
		c.raw[c.at] = c.to
		if _, err := launch.ParseIDAuth(c.raw); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("byte %#x is %d: %v, want %q", c.at, c.to, err, c.words)
		}
	}
	for _, c := range []struct {
		words string
		at    int
	}{
		{"ID key did not sign this ID block: the signature is wrong", 0x40},
		{"ID key did not sign this ID block: bytes after", 0x40 + 48},
		{"ID key did not sign this ID block: bytes after", 0x40 + 72 + 48},
		{"ID key did not sign this ID block: bytes after", 0x40 + 144},
		{"author key did not sign this ID key: the signature is wrong", 0x680},
		{"author key did not sign this ID key: bytes after", 0x680 + 511},
	} {
		raw := a.Bytes()
		raw[c.at] ^= 1
		read, err := launch.ParseIDAuth(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := read.Verify(b); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("byte %#x: %v, want %q", c.at, err, c.words)
		}
	}
}

// TestIDBlocksThatLaunchNothing: the firmware would refuse them, so they are not signed and
// not accepted.
func TestIDBlocksThatLaunchNothing(t *testing.T) {
	id := key(t, elliptic.P384())
	a, err := launch.SignIDBlock(nil, block(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	for words, change := range map[string]func(*launch.IDBlock){
		"bit 17 must be one": func(b *launch.IDBlock) { b.Policy = 0x1001F },
		"of zeros":           func(b *launch.IDBlock) { b.Measurement = [48]byte{} },
	} {
		b := block()
		change(b)
		device := signer{id, func() ([]byte, error) { return nil, errors.New("the device was asked") }}
		_, signing := launch.SignIDBlock(nil, b, device, nil)
		_, parsing := launch.ParseIDBlock(b.Bytes())
		for _, err := range []error{signing, parsing, a.Verify(b)} {
			if err == nil || !strings.Contains(err.Error(), words) {
				t.Errorf("%v, want %q", err, words)
			}
		}
	}
	raw := block().Bytes()
	for words, raw := range map[string][]byte{"of 95 bytes": raw[:95], "of 97 bytes": append(block().Bytes(), 0), "version 2": slices.Replace(block().Bytes(), 0x50, 0x51, 2)} {
		if _, err := launch.ParseIDBlock(raw); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v, want %q", err, words)
		}
	}
}

// signer is a key that signs in another way.
type signer struct {
	crypto.Signer
	sign func() ([]byte, error)
}

func (s signer) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return s.sign() }

// TestOtherSigners: keys of another kind, and devices that fail or return something else,
// make no signature.
func TestOtherSigners(t *testing.T) {
	good := key(t, elliptic.P384())
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pair := func(r, s *big.Int) func() ([]byte, error) {
		return func() ([]byte, error) { return asn1.Marshal(struct{ R, S *big.Int }{r, s}) }
	}
	wide := new(big.Int).Lsh(big.NewInt(1), 384)
	for _, c := range []struct {
		name, words string
		bad         crypto.Signer
	}{
		{"P-256", "no other kind of key", key(t, elliptic.P256())},
		{"Ed25519", "no other kind of key", edwards},
		{"failed", "the device failed", signer{good, func() ([]byte, error) { return nil, errors.New("the device failed") }}},
		{"not DER", "not one of ECDSA", signer{good, func() ([]byte, error) { return []byte("signature"), nil }}},
		{"more than DER", "not one of ECDSA", signer{good, func() ([]byte, error) {
			b, err := pair(big.NewInt(1), big.NewInt(1))()
			return append(b, 0), err
		}}},
		{"wide r", "not one of ECDSA", signer{good, pair(wide, big.NewInt(1))}},
		{"wide s", "not one of ECDSA", signer{good, pair(big.NewInt(1), wide)}},
		{"negative r", "not one of ECDSA", signer{good, pair(big.NewInt(-1), big.NewInt(1))}},
		{"s of zero", "not one of ECDSA", signer{good, pair(big.NewInt(1), big.NewInt(0))}},
		{"other signature", "the signature is wrong", signer{good, pair(big.NewInt(1), big.NewInt(1))}},
	} {
		if _, err := launch.SignIDBlock(nil, block(), c.bad, good); err == nil || !strings.Contains(err.Error(), c.words) || !strings.Contains(err.Error(), "ID key") {
			t.Errorf("%s as ID key: %v", c.name, err)
		}
		if _, err := launch.SignIDBlock(nil, block(), good, c.bad); err == nil || !strings.Contains(err.Error(), c.words) || !strings.Contains(err.Error(), "author key") {
			t.Errorf("%s as author key: %v", c.name, err)
		}
	}
	if _, err := launch.KeyDigest(edwards.Public()); err == nil {
		t.Error("an Ed25519 key has a digest")
	}
}
