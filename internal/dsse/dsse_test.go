// SPDX-License-Identifier: Apache-2.0

package dsse

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// The example of protocol.md: an ECDSA key on P-256 by its private number, and an envelope with a
// signature of r and s.
const (
	exampleType     = "http://example.com/HelloWorld"
	exampleKey      = "97358161215184420915383655311931858321456579547487070936769975997791359926199"
	exampleEnvelope = `{"payload": "aGVsbG8gd29ybGQ=",
 "payloadType": "http://example.com/HelloWorld",
 "signatures": [{"sig": "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="}]}`
)

func example(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	d, ok := new(big.Int).SetString(exampleKey, 10)
	if !ok {
		t.Fatal("the number of the key cannot be read")
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d.FillBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func public(t *testing.T, key any) *Key {
	t.Helper()
	k, err := newKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestSpecification: the example of the specification, in both alphabets of base64.
func TestSpecification(t *testing.T) {
	if got, want := string(encoding(exampleType, []byte("hello world"))), "DSSEv1 29 http://example.com/HelloWorld 11 hello world"; got != want {
		t.Errorf("the message is %q, want %q", got, want)
	}
	key := public(t, &example(t).PublicKey)
	for _, text := range []string{exampleEnvelope, strings.NewReplacer("+", "-").Replace(exampleEnvelope)} {
		u, err := Read([]byte(text), 100)
		if err != nil || u.Type != exampleType || string(u.Payload) != "hello world" {
			t.Fatalf("%+v, %v", u, err)
		}
		if got := u.Signers([]*Key{key}); len(got) != 1 {
			t.Errorf("%d keys signed", len(got))
		}
	}
}

// TestEncodingIsApart: a message has one type and one payload: moving bytes between them makes another.
func TestEncodingIsApart(t *testing.T) {
	seen := make(map[string]string)
	for _, x := range [][2]string{{"a", "b"}, {"a 1 b", ""}, {"", "a 1 b"}, {"ab", ""}, {"", "ab"}, {"é", "b"}, {"a", "b 1"}} {
		m := string(encoding(x[0], []byte(x[1])))
		if other, ok := seen[m]; ok {
			t.Errorf("%q and %q have one message", x, other)
		}
		seen[m] = fmt.Sprint(x)
	}
}

// TestSigners: a key counts once, hints decide nothing, and every change of type, payload or signature ends it.
func TestSigners(t *testing.T) {
	_, one, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	two := example(t)
	keys := []*Key{public(t, one.Public()), public(t, &two.PublicKey)}
	b, err := Sign(one, "a/b", []byte("text\n"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := Sign(one, "a/b", []byte("text\n"))
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("the same key and text give other bytes: %v", err)
	}
	u, err := Read(b, 100)
	if err != nil || string(u.Payload) != "text\n" || len(u.Signers(keys)) != 1 || len(u.Signers(keys[1:])) != 0 {
		t.Fatalf("%+v, %v", u, err)
	}
	both, err := u.Add(two)
	if err != nil {
		t.Fatal(err)
	}
	if u, err = Read(both, 100); err != nil || len(u.Signers(keys)) != 2 || len(u.KeyIDs()) != 2 {
		t.Fatalf("%+v, %v", u, err)
	}
	replaced, err := u.Add(one)
	if err != nil {
		t.Fatal(err)
	}
	if u, err = Read(replaced, 100); err != nil || len(u.KeyIDs()) != 2 || len(u.Signers(keys)) != 2 {
		t.Errorf("a second signature of a key does not replace the first: %v", err)
	}
	u.envelope.Signatures = append(u.envelope.Signatures, u.envelope.Signatures...)
	if got := u.Signers(keys[:1]); len(got) != 1 {
		t.Errorf("a key that signed twice counts %d times", len(got))
	}
	for i := range u.envelope.Signatures {
		u.envelope.Signatures[i].KeyID = keys[1].ID() // a lie
	}
	if len(u.Signers(keys)) != 2 {
		t.Error("a hint decided something")
	}
	u.envelope.Signatures = slices.Repeat([]signature{{Sig: "AA=="}}, MaxSignatures)
	if _, err := u.Add(one); err == nil || !strings.Contains(err.Error(), "32 signatures already") {
		t.Errorf("more signatures than are read: %v", err)
	}
	for name, change := range map[string]func(*Unverified){
		"type":    func(u *Unverified) { u.Type = "a/c" },
		"payload": func(u *Unverified) { u.Payload = []byte("text") },
		"signature": func(u *Unverified) {
			u.envelope.Signatures = []signature{{Sig: base64.StdEncoding.EncodeToString(make([]byte, 64))}}
		},
		"length of a signature": func(u *Unverified) {
			u.envelope.Signatures = []signature{{Sig: ""}, {Sig: "AA=="}, {Sig: base64.StdEncoding.EncodeToString(make([]byte, 63))}}
		},
		"end of a signature": func(u *Unverified) {
			for i, s := range u.envelope.Signatures {
				sig, _ := decode(s.Sig)
				u.envelope.Signatures[i].Sig = base64.StdEncoding.EncodeToString(append(sig, 0))
			}
		},
		"character after a signature": func(u *Unverified) {
			for i := range u.envelope.Signatures {
				u.envelope.Signatures[i].Sig += "!"
			}
		},
		"spelling of a signature": func(u *Unverified) {
			for i := range u.envelope.Signatures {
				u.envelope.Signatures[i].Sig += "\n"
			}
		},
	} {
		u, err := Read(both, 100)
		if err != nil {
			t.Fatal(err)
		}
		if change(u); len(u.Signers(keys)) != 0 {
			t.Errorf("another %s, and the signatures verify", name)
		}
	}
}

// TestRead: what is not an envelope, and what is too large, is refused.
func TestRead(t *testing.T) {
	one := `{"sig":"AA=="}`
	for _, c := range []struct{ text, want string }{
		{`{"payloadType":"a","payload":"AA==","signatures":[` + one + `],"more":{"x":null}}`, ""},
		{`{"payloadType":"a","payload":"AA==","signatures":[]}`, "0 signatures"},
		{`{"payloadType":"a","payload":"AA=="}`, "0 signatures"},
		{`{"payloadType":"","payload":"AA==","signatures":[` + one + `]}`, "payloadType"},
		{`{"payloadType":"a","payload":"AA","signatures":[` + one + `]}`, "payload"},
		{`{"payloadType":"a","payload":"A-/=","signatures":[` + one + `]}`, "payload"},
		{`{"payloadType":"a","payload":"AB==","signatures":[` + one + `]}`, "payload"},
		{`{"payloadType":"a","payload":"AA==","payload":"AA==","signatures":[` + one + `]}`, "payload"},
		{`{"payloadType":"a","payload":"AAAAAAAAAAAAAA==","signatures":[` + one + `]}`, "at most 8"},
		{`{"payloadType":"a","payload":"AA==","signatures":[` + strings.Repeat(one+",", MaxSignatures) + one + `]}`, "32"},
		{`{"payloadType":"a","payload":"AA==","signatures":[{"sig":"` + strings.Repeat("A", 2*maxSignature+4) + `"}]}`, "too long"},
		{`{"payloadType":"a","payload":"AA==","signatures":[{"keyid":"` + strings.Repeat("k", maxKeyID+1) + `","sig":"AA=="}]}`, "too long"},
		{`{"payloadType":"` + strings.Repeat("a", maxType+1) + `","payload":"AA==","signatures":[` + one + `]}`, "payloadType"},
		{`{"payloadType":"a","payload":"AA==","signatures":[` + one + `],"more":"` + strings.Repeat("x", Size(8)) + `"}`, "at most"},
		{`{"payloadType":"` + strings.Repeat("a", maxType) + `","payload":"AAAAAAAAAAA=","signatures":[` + strings.Repeat(one+",", MaxSignatures-1) + one + `]}`, ""},
		{`{"payloadType":"a","payload":"AA==","signatures":[{"keyid":"` + strings.Repeat("k", maxKeyID) + `","sig":"` + strings.Repeat("A", 2*maxSignature) + `"}]}`, ""},
		{`{"payloadType":"a","payload":"AA==","signatures":[` + one + `]}{}`, "after"},
		{"version = 1\n", "invalid"},
		{"", "ends early"},
		{`{"payloadType":"a","payload":"AA\n==","signatures":[` + one + `]}`, "payload"},
	} {
		u, err := Read([]byte(c.text), 8)
		good := c.want == ""
		if good != (err == nil) || good != (u != nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80s: %v, want %q", c.text, err, c.want)
		}
	}
}

// TestKeys: keys of other kinds, damaged files, and a key that is there twice are refused.
func TestKeys(t *testing.T) {
	encode := func(key any) string {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	one, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var many strings.Builder
	var most string
	for i := range MaxKeys + 1 {
		if i == MaxKeys {
			most = many.String()
		}
		key, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		many.WriteString(encode(key))
	}
	good, second := encode(one), encode(&example(t).PublicKey)
	for _, c := range []struct {
		text string
		n    int
		want string
	}{
		{good, 1, ""},
		{"# the release team\n" + good + "# and another\n" + second, 2, ""},
		{"", 0, "want public keys"},
		{"text", 0, "want public keys"},
		{good + good, 0, "twice"},
		{good + strings.Replace(second, "\n", "\n!", 1), 0, "want public keys"},
		{strings.Replace(good, "\n", "\n!", 1) + second, 0, "want public keys"},
		{encode(&large.PublicKey), 0, "P-384"},
		{encode(&other.PublicKey), 0, "want Ed25519"},
		{string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})), 0, "key 1: "},
		{strings.ReplaceAll(good, "PUBLIC", "PRIVATE"), 0, "want public keys"},
		{strings.Repeat(" ", MaxKeyFile) + good, 0, "at most"},
		{strings.Repeat("\n", MaxKeyFile-len(good)) + good, 1, ""},
		{many.String(), 0, "more than 32 keys"},
		{most, MaxKeys, ""},
	} {
		keys, err := ParseKeys([]byte(c.text))
		if len(keys) != c.n || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: %d keys, %v, want %d, %q", c.text, len(keys), err, c.n, c.want)
		}
	}
	if _, err := Sign(large, "a/b", nil); err == nil || !strings.Contains(err.Error(), "P-384") {
		t.Errorf("a key signs that no verifier takes: %v", err)
	}
}
