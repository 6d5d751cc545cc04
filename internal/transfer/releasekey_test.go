// SPDX-License-Identifier: Apache-2.0

package transfer_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/transfer"
)

// publicPEM is the file of a public key.
func publicPEM(t testing.TB, public crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// A public key of minisign, and its signature over "test", as that tool wrote them.
const (
	minisignKey       = "untrusted comment: minisign public key E7620F1842B4E81F\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n"
	minisignSignature = "untrusted comment: signature from minisign secret key\n" +
		"RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n" +
		"trusted comment: timestamp:1556193335\tfile:test\n" +
		"y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==\n"
)

// signed is a key, a statement, and a signature that is right.
type signed struct {
	file, statement, signature []byte
}

func everyKind(t testing.TB) map[string]signed {
	t.Helper()
	statement := []byte(`{"type":"agentd/release/1"}`)
	out := map[string]signed{"minisign": {[]byte(minisignKey), []byte("test"), []byte(minisignSignature)}}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	out["ed25519"] = signed{publicPEM(t, public), statement, ed25519.Sign(private, statement)}
	p256, long := sha256.Sum256(statement), sha512.Sum384(statement)
	for name, c := range map[string]struct {
		curve  elliptic.Curve
		digest []byte
	}{"ecdsa-p256": {elliptic.P256(), p256[:]}, "ecdsa-p384": {elliptic.P384(), long[:]}} {
		k, err := ecdsa.GenerateKey(c.curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := ecdsa.SignASN1(rand.Reader, k, c.digest)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = signed{publicPEM(t, k.Public()), statement, signature}
	}
	return out
}

// TestReleaseKeys verifies a signature of every kind of key, and none that belongs to another key,
// another statement, or that was changed anywhere.
func TestReleaseKeys(t *testing.T) {
	all := everyKind(t)
	for name, s := range all {
		k, err := transfer.ParseReleaseKey(s.file)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if again, err := transfer.ParseKeyText(k.String()); err != nil || again.String() != k.String() {
			t.Errorf("%s: in text %q: %v", name, k, err)
		}
		if err := k.Verify(s.statement, s.signature); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := k.Verify(append(s.statement, ' '), s.signature); !errors.Is(err, api.CodeReleaseSignature) {
			t.Errorf("%s: another statement: %v", name, err)
		}
		for i := range s.signature {
			changed := bytes.Clone(s.signature)
			changed[i] ^= 0x04
			if name == "minisign" && i < strings.IndexByte(minisignSignature, '\n')+1+14 && i >= len("untrusted comment:") && !bytes.ContainsRune(changed[i:i+1], '\n') {
				continue // a comment that nothing signs, and the id of the key
			}
			if err := k.Verify(s.statement, changed); !errors.Is(err, api.CodeReleaseSignature) && !bytes.Equal(changed, s.signature) {
				t.Errorf("%s: byte %d of the signature was changed: %v", name, i, err)
			}
		}
		for other, o := range all {
			if err := k.Verify(o.statement, o.signature); other != name && !errors.Is(err, api.CodeReleaseSignature) {
				t.Errorf("%s: the signature of %s: %v", name, other, err)
			}
		}
	}
}

// TestReleaseKeyRefused: what is not a public key of a kind that signs releases.
func TestReleaseKeyRefused(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, private, _ := ed25519.GenerateKey(rand.Reader)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	good := publicPEM(t, private.Public())
	for name, file := range map[string][]byte{
		"empty":         nil,
		"RSA":           publicPEM(t, weak.Public()),
		"P-521":         publicPEM(t, curve.Public()),
		"a private key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		"two keys":      append(bytes.Clone(good), good...),
		"zeros":         publicPEM(t, make(ed25519.PublicKey, ed25519.PublicKeySize)), // anyone can sign
		"minisign, cut": []byte(minisignKey[:len(minisignKey)-9]),
		"too long":      append(bytes.Clone(good), make([]byte, transfer.MaxKeyFile)...),
		"a text":        []byte("agentd-release-key:00"),
	} {
		if k, err := transfer.ParseReleaseKey(file); !errors.Is(err, api.CodeInvalidValue) || !k.IsZero() {
			t.Errorf("%s: %v", name, err)
		}
	}
}
