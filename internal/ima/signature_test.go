// SPDX-License-Identifier: Apache-2.0

package ima_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/internal/vectors"
	"github.com/cvm-agentd/agentd/pcr"
)

// fieldsOf returns what one entry says.
func fieldsOf(t *testing.T, entry []byte) *ima.Fields {
	t.Helper()
	for e, err := range ima.Entries(ima.Whole(entry)) {
		if err != nil {
			t.Fatal(err)
		}
		f, err := e.Fields()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	t.Fatal("no entry")
	return nil
}

// TestRecordedSignature: a signature of another tool verifies under its key, and not under
// another digest.
func TestRecordedSignature(t *testing.T) {
	keys, err := ima.ParseKeys(vectors.Read(t, "keylime_ima/rsa2048pub.pem"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(vectors.Read(t, "keylime_ima/signatures.ascii")), "\n")
	entry, ok := encoded(t, line)
	f := fieldsOf(t, entry)
	if !ok || f.Path != "/usr/bin/dd" || !f.Signed(keys) {
		t.Errorf("%s is not signed", f.Path)
	}
	f.Digest.Value = bytes.Clone(f.Digest.Value)
	f.Digest.Value[0] ^= 1
	if f.Signed(keys) || f.Signed(nil) {
		t.Error("another digest is signed, or by no key")
	}
}

// sign returns an extended attribute with a signature by a key.
func sign(t *testing.T, key crypto.Signer, id, digest []byte, hash crypto.Hash, kind, version, algorithm byte) []byte {
	t.Helper()
	s, err := key.Sign(rand.Reader, digest, hash)
	if err != nil {
		t.Fatal(err)
	}
	b := append([]byte{kind, version, algorithm}, id...)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// newKeys returns a key of each kind, with the end of its name.
func newKeys(t *testing.T) (keys []crypto.Signer, ids [][]byte) {
	t.Helper()
	one, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	two, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := two.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	a, b := sha1.Sum(x509.MarshalPKCS1PublicKey(&one.PublicKey)), sha1.Sum(point)
	return []crypto.Signer{one, two}, [][]byte{a[16:], b[16:]}
}

func pemOf(t *testing.T, keys ...crypto.Signer) (out []byte) {
	t.Helper()
	for _, k := range keys {
		der, err := x509.MarshalPKIXPublicKey(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	return out
}

// TestSignatures: RSA and ECDSA keys sign digests of files and of fs-verity, and nothing that
// only looks like that is signed.
func TestSignatures(t *testing.T) {
	signers, ids := newKeys(t)
	keys, err := ima.ParseKeys(pemOf(t, signers...))
	if err != nil || len(keys) != 2 {
		t.Fatal(len(keys), err)
	}
	name := evidencetest.IMAName("/usr/bin/true")
	for i, k := range signers {
		for _, c := range []struct {
			bank   pcr.Algorithm
			number byte
		}{{pcr.SHA256, 4}, {pcr.SHA384, 5}, {pcr.SHA512, 6}} {
			h, _ := c.bank.Hash()
			digest := c.bank.Sum([]byte("content"))
			verity := c.bank.Sum([]byte{6, c.number}, digest)
			file := sign(t, k, ids[i], digest, h, 3, 2, c.number)
			field := evidencetest.IMADigest(c.bank.String(), digest)
			entry := func(attribute []byte) *ima.Fields {
				return fieldsOf(t, evidencetest.IMAEntry("ima-sigv2", append([]byte("ima:"), field...), name, attribute))
			}
			if !entry(file).Signed(keys) {
				t.Errorf("%T with %s does not sign a file", k, c.bank)
			}
			of := fieldsOf(t, evidencetest.IMAEntry("ima-sigv2", append([]byte("verity:"), field...), name, sign(t, k, ids[i], verity, h, 6, 3, c.number)))
			if !of.Signed(keys) {
				t.Errorf("%T with %s does not sign fs-verity", k, c.bank)
			}
			change := func(at int, b byte) []byte {
				x := bytes.Clone(file)
				x[at] = b
				return x
			}
			for what, attribute := range map[string][]byte{
				"nothing": nil, "its head": file[:9], "cut": file[:len(file)-1], "more": append(bytes.Clone(file), 0), "type": change(0, 1), "portable": change(0, 5),
				"version": change(1, 1), "of fs-verity": change(1, 3), "algorithm": change(2, 2), "unknown algorithm": change(2, 99), "name": change(3, ^file[3]), "last byte": change(len(file)-1, ^file[len(file)-1]),
				"of fs-verity for a file": sign(t, k, ids[i], verity, h, 6, 3, c.number), "by the other key": sign(t, signers[1-i], ids[i], digest, h, 3, 2, c.number),
			} {
				if entry(attribute).Signed(keys) {
					t.Errorf("%T with %s: %s is a signature", k, c.bank, what)
				}
			}
			mixed := fieldsOf(t, evidencetest.IMAEntry("ima-sigv2", append([]byte("verity:"), field...), name, file))
			if mixed.Signed(keys) {
				t.Errorf("%T with %s: the signature of a file passes for fs-verity", k, c.bank)
			}
		}
	}
}

// TestSHA1IsNotSigned: collisions can be made, so a signature over such a digest says nothing.
func TestSHA1IsNotSigned(t *testing.T) {
	signers, ids := newKeys(t)
	keys, err := ima.ParseKeys(pemOf(t, signers...))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha1.Sum([]byte("content"))
	f := fieldsOf(t, evidencetest.IMAEntry("ima-sig", evidencetest.IMADigest("sha1", digest[:]), evidencetest.IMAName("/x"), sign(t, signers[0], ids[0], digest[:], crypto.SHA1, 3, 2, 2)))
	if f.Signed(keys) {
		t.Error("a signature over SHA-1 counts")
	}
}

// TestParseKeys: what is not a list of strong keys is refused.
func TestParseKeys(t *testing.T) {
	signers, _ := newKeys(t)
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := pemOf(t, signers[1])
	for name, c := range map[string]struct {
		text []byte
		says string
	}{
		"nothing":      {nil, "no key"},
		"text":         {[]byte("x"), "want PEM"},
		"text behind":  {append(bytes.Clone(good), 'x'), "want PEM"},
		"too many":     {bytes.Repeat(good, 17), "more than 16"},
		"a small one":  {pemOf(t, small), "224 bits"},
		"another type": {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}), "PRIVATE KEY"},
		"garbage":      {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{1}}), "key 0"},
		"certificate":  {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}), "key 0"},
	} {
		if k, err := ima.ParseKeys(c.text); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %d keys, %v, want %q", name, len(k), err, c.says)
		}
	}
	if k, err := ima.ParseKeys(bytes.Repeat(good, 16)); err != nil || len(k) != 16 {
		t.Errorf("%d keys, %v", len(k), err)
	}
}

// TestReference: every digest that was put in is found, and no other. What is not in order is
// refused, so that a reference has one spelling.
func TestReference(t *testing.T) {
	var digests [][]byte
	for i := range 1000 {
		digests = append(digests, pcr.SHA256.Sum(fmt.Append(nil, i)))
	}
	b := ima.EncodeReference(pcr.SHA256, append(digests, digests[7]))
	r, err := ima.ParseReference(b)
	if err != nil || r.Len() != 1000 {
		t.Fatal(err)
	}
	has := func(algorithm string, verity bool, value []byte) bool {
		return r.Has(ima.Digest{Algorithm: algorithm, Verity: verity, Value: value})
	}
	for _, d := range digests {
		if !has("sha256", false, d) || has("sha256", true, d) || has("sha384", false, d) || has("sha256", false, d[1:]) {
			t.Fatalf("%x", d)
		}
	}
	for i := range 1000 {
		if has("sha256", false, pcr.SHA256.Sum(fmt.Append(nil, "other", i))) {
			t.Fatal("another digest is found")
		}
	}
	const head = 23 + 6
	swapped := slices.Concat(b[:head], b[head+32:head+64], b[head:head+32], b[head+64:])
	twice := slices.Concat(b[:head], b[head:head+32], b[head:head+32], b[head+64:])
	change := func(at int, v ...byte) []byte {
		c := bytes.Clone(b)
		copy(c[at:], v)
		return c
	}
	for name, c := range map[string][]byte{
		"nothing": nil, "its head": b[:head], "cut": b[:len(b)-1], "more": append(bytes.Clone(b), 0), "swapped": swapped, "twice": twice, "magic": change(0, 'x'),
		"SHA-1": change(23, 4, 0), "unknown": change(23, 0xff, 0xff), "SHA-384": change(23, 0x0c, 0), "count": change(25, 0xff, 0xff, 0xff, 0xff), "no digest": change(25, 0, 0, 0, 0)[:head],
	} {
		if _, err := ima.ParseReference(c); err == nil {
			t.Errorf("%s is a reference", name)
		}
	}
}

// FuzzReference: a reference of any bytes is refused, or has one spelling.
func FuzzReference(f *testing.F) {
	f.Add(ima.EncodeReference(pcr.SHA384, [][]byte{pcr.SHA384.Sum(nil), pcr.SHA384.Sum([]byte{1})}))
	f.Add([]byte("agentd/ima-reference/1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ima.ParseReference(b); err == nil && (r.Len() == 0 || r.Len() > len(b)) {
			t.Errorf("%d digests in %d bytes", r.Len(), len(b))
		}
	})
}
