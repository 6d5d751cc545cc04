// SPDX-License-Identifier: Apache-2.0

package sealing_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/sealing"
)

// text is bytes in hexadecimal.
type text []byte

func (b *text) UnmarshalText(s []byte) (err error) {
	*b, err = hex.DecodeString(string(s))
	return err
}

// known are the signing keys that another program computed.
type known struct {
	Root text
	Keys []struct {
		Version   uint32
		Label     string
		Algorithm api.SigningAlgorithm
		Material  text
		Private   text
		Public    text
	}
}

// billing is the app of the known keys.
var billing = sealing.App{Name: "billing", Unit: "billing.service", User: "billing"}

func readKnown(t *testing.T) (k known) {
	t.Helper()
	b, err := os.ReadFile("testdata/signing.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &k); err != nil || len(k.Keys) != 2*len(api.SigningAlgorithms()) {
		t.Fatalf("%d keys, %v", len(k.Keys), err)
	}
	return k
}

// TestKnownSigningKeys checks that keys are those that another program computed: a change would
// lock every app out of the keys that others know it by.
func TestKnownSigningKeys(t *testing.T) {
	k := readKnown(t)
	for _, x := range k.Keys {
		t.Run(fmt.Sprintf("%s %s", x.Algorithm, x.Label), func(t *testing.T) {
			size, err := sealing.SigningSize(x.Algorithm)
			if err != nil {
				t.Fatal(err)
			}
			material, err := hkdf.Expand(sha256.New, k.Root, string(sealing.SigningInfo(billing, x.Version, x.Algorithm, x.Label)), size)
			if err != nil || !bytes.Equal(material, x.Material) {
				t.Fatalf("got material %x, %v", material, err)
			}
			if sealing.InTPM(x.Algorithm) { // package tpmkeys makes a key of it
				if key, err := sealing.NewSigningKey(x.Algorithm, material); err == nil {
					t.Errorf("%v is made outside the TPM", key)
				}
				return
			}
			key, err := sealing.NewSigningKey(x.Algorithm, material)
			if err != nil {
				t.Fatal(err)
			}
			public, err := key.PublicKey()
			if err != nil || !bytes.Equal(public, x.Public) {
				t.Errorf("got public half %x, %v", public, err)
			}
			checkSigns(t, x.Algorithm, key, public)
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
				if printed := fmt.Sprintf(verb, key); printed != "[signing key]" {
					t.Errorf("%s prints %s", verb, printed)
				}
			}
		})
	}
}

// checkSigns checks that a key signs messages, and digests if it may.
func checkSigns(t *testing.T, a api.SigningAlgorithm, key *sealing.SigningKey, public []byte) {
	t.Helper()
	message := []byte("message")
	signature, err := key.Sign(message, nil)
	if err != nil || !verifies(t, public, message, signature) || verifies(t, public, []byte("other"), signature) {
		t.Errorf("%x is not a signature over the message, %v", signature, err)
	}
	again, err := key.Sign(message, nil)
	if same := bytes.Equal(again, signature); err != nil || same != (a == api.SignEd25519) {
		t.Errorf("the second signature over the message is the same: %t, %v", same, err)
	}
	if a == api.SignEd25519 {
		return
	}
	signature, err = key.Sign(nil, digestOf(a, message))
	if err != nil || !verifies(t, public, message, signature) {
		t.Errorf("%x is not a signature over the digest, %v", signature, err)
	}
}

func digestOf(a api.SigningAlgorithm, message []byte) []byte {
	if a == api.SignP384 {
		sum := sha512.Sum384(message)
		return sum[:]
	}
	sum := sha256.Sum256(message)
	return sum[:]
}

func verifies(t *testing.T, public, message, signature []byte) bool {
	t.Helper()
	key, err := x509.ParsePKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	if k, ok := key.(ed25519.PublicKey); ok {
		return ed25519.Verify(k, message, signature)
	}
	k := key.(*ecdsa.PublicKey)
	a := api.SignP256
	if k.Curve == elliptic.P384() {
		a = api.SignP384
	}
	return ecdsa.VerifyASN1(k, digestOf(a, message), signature)
}

// TestScalars checks the private keys of ECDSA against arithmetic in math/big, for random bytes
// and for those at which the reduction changes.
func TestScalars(t *testing.T) {
	for _, c := range []struct {
		a     api.SigningAlgorithm
		curve elliptic.Curve
	}{{api.SignP256, elliptic.P256()}, {api.SignP384, elliptic.P384()}} {
		size, err := sealing.SigningSize(c.a)
		if err != nil {
			t.Fatal(err)
		}
		n1 := new(big.Int).Sub(c.curve.Params().N, big.NewInt(1))
		most := new(big.Int).Lsh(big.NewInt(1), uint(8*size))
		var tried []*big.Int
		for d := int64(-2); d <= 2; d++ {
			for _, m := range []*big.Int{new(big.Int), n1, new(big.Int).Lsh(n1, 1), new(big.Int).Lsh(n1, 100), new(big.Int).Div(most, n1), most,
				new(big.Int).Mul(n1, new(big.Int).Div(most, n1)), new(big.Int).Lsh(big.NewInt(1), uint(c.curve.Params().BitSize))} {
				if x := new(big.Int).Add(m, big.NewInt(d)); x.Sign() >= 0 && x.Cmp(most) < 0 {
					tried = append(tried, x)
				}
			}
		}
		random := rand.NewChaCha8([32]byte{1})
		for range 200 {
			b := make([]byte, size)
			random.Read(b)
			tried = append(tried, new(big.Int).SetBytes(b))
		}
		for _, x := range tried {
			key, err := sealing.NewSigningKey(c.a, x.FillBytes(make([]byte, size)))
			if err != nil {
				t.Fatalf("%s: %x: %v", c.a, x, err)
			}
			d := new(big.Int).Mod(x, n1)
			d.Add(d, big.NewInt(1))
			want, err := ecdsa.ParseRawPrivateKey(c.curve, d.FillBytes(make([]byte, c.curve.Params().BitSize/8)))
			if err != nil {
				t.Fatal(err)
			}
			public, err := x509.MarshalPKIXPublicKey(want.Public())
			if err != nil {
				t.Fatal(err)
			}
			if got, err := key.PublicKey(); err != nil || !bytes.Equal(got, public) {
				t.Errorf("%s: %x gives another key than arithmetic does, %v", c.a, x, err)
			}
		}
	}
}

// TestSigningRequests checks that a request names one key and one thing to sign.
func TestSigningRequests(t *testing.T) {
	for _, a := range api.SigningAlgorithms() {
		for _, label := range []string{"", strings.Repeat("a", sealing.MaxLabel+1), "a\nb", "a\x1b[2J", "a\xff"} {
			if err := sealing.CheckSigningKey(a, label); !errors.Is(err, api.CodeInvalidValue) {
				t.Errorf("%s: label %q: %v", a, label, err)
			}
		}
		if err := sealing.CheckSigningKey(a, strings.Repeat("a", sealing.MaxLabel)); err != nil {
			t.Error(err)
		}
		hash := map[api.SigningAlgorithm]crypto.Hash{api.SignP256: crypto.SHA256, api.SignP384: crypto.SHA384, api.SignTPMP256: crypto.SHA256}[a]
		for length := range 66 {
			want := hash != 0 && length == hash.Size()
			if err := sealing.CheckSigned(a, nil, make([]byte, length)); (err == nil) != want || err != nil && !errors.Is(err, api.CodeInvalidValue) {
				t.Errorf("%s: digest of %d bytes: %v", a, length, err)
			}
			if err := sealing.CheckSigned(a, []byte("message"), make([]byte, length)); (err == nil) != (length == 0) {
				t.Errorf("%s: message, and digest of %d bytes: %v", a, length, err)
			}
		}
		for length, want := range map[int]bool{1: true, sealing.MaxMessage: true, sealing.MaxMessage + 1: false} {
			if err := sealing.CheckSigned(a, make([]byte, length), nil); (err == nil) != want {
				t.Errorf("%s: message of %d bytes: %v", a, length, err)
			}
		}
		for _, length := range []int{0, 31, 33, 47, 49, 63, 65} {
			if _, err := sealing.NewSigningKey(a, make([]byte, length)); err == nil {
				t.Errorf("%s: a key was made from %d bytes", a, length)
			}
		}
	}
	for _, a := range []api.SigningAlgorithm{"", "Ed25519", "ecdsa-p521", "rsa"} {
		if err := sealing.CheckSigningKey(a, "host"); !errors.Is(err, api.CodeInvalidValue) {
			t.Errorf("%q: %v", a, err)
		}
		if err := sealing.CheckSigned(a, []byte("message"), nil); !errors.Is(err, api.CodeInvalidValue) {
			t.Errorf("%q: %v", a, err)
		}
		if _, err := sealing.NewSigningKey(a, make([]byte, 32)); !errors.Is(err, api.CodeInvalidValue) {
			t.Errorf("%q: %v", a, err)
		}
	}
}

// TestSigningKeysAreUnrelated checks that each part of a key's name gives another key.
func TestSigningKeysAreUnrelated(t *testing.T) {
	seen := map[string]string{}
	for _, app := range []sealing.App{billing, {Name: "ledger", Unit: billing.Unit, User: billing.User}, {Name: billing.Name, Unit: "b.service", User: billing.User},
		{Name: billing.Name, Unit: billing.Unit, User: "root"}} {
		for version := uint32(1); version <= 2; version++ {
			for _, a := range api.SigningAlgorithms() {
				for _, label := range []string{"host", "hos", "t", "host "} {
					name := fmt.Sprint(app, version, a, label)
					info := string(sealing.SigningInfo(app, version, a, label))
					if other, ok := seen[info]; ok {
						t.Errorf("%s has the key of %s", name, other)
					}
					seen[info] = name
				}
			}
		}
	}
}
