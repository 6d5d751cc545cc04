// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/keys"
)

// certification is what a certification consists of, to be changed before it is signed.
type certification struct {
	magic       uint32
	typ         uint16
	extraData   []byte
	safe        byte
	name        []byte // nil: that of public
	trailing    []byte
	public, ak  tpm2.TPMTPublic
	publicBytes []byte // nil: those of public

	signer   crypto.Signer // private half of ak
	signOver []byte        // nil: the attestation
	wrap     func([]byte) []byte
}

// data are what a certification is asked for over.
var data = bytes.Repeat([]byte{7}, 32)

// newKey returns template with the public half of a new key on P-256.
func newKey(t *testing.T, template tpm2.TPMTPublic) (tpm2.TPMTPublic, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}})
	return template, key
}

// goodCertification returns one of a key of an application.
func goodCertification(t *testing.T) *certification {
	t.Helper()
	template := tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true},
	}
	curve(tpm2.TPMECCNistP256, tpm2.TPMAlgECDSA)(&template)
	c := &certification{magic: 0xff544347, typ: 0x8017, extraData: data, safe: 1}
	c.public, _ = newKey(t, template)
	template.ObjectAttributes.Restricted = true
	c.ak, c.signer = newKey(t, template)
	return c
}

// made returns the certification, and the TPMT_PUBLIC of the attestation key.
func (c *certification) made(t *testing.T) (keys.Certification, []byte) {
	t.Helper()
	out := keys.Certification{Public: c.publicBytes}
	if out.Public == nil {
		out.Public = tpm2.Marshal(c.public)
	}
	name := c.name
	if name == nil {
		sum := sha256.Sum256(tpm2.Marshal(c.public))
		name = append([]byte{0, 0x0b}, sum[:]...)
	}
	sized := func(b, x []byte) []byte { return append(binary.BigEndian.AppendUint16(b, uint16(len(x))), x...) }
	b := binary.BigEndian.AppendUint32(nil, c.magic)
	b = binary.BigEndian.AppendUint16(b, c.typ)
	b = sized(sized(b, []byte("signer")), c.extraData)
	b = append(append(b, make([]byte, 16)...), c.safe)
	b = append(b, make([]byte, 8)...)
	b = sized(sized(b, name), []byte("qualified name"))
	out.Attest = append(b, c.trailing...)
	over := c.signOver
	if over == nil {
		over = out.Attest
	}
	digest := sha256.Sum256(over)
	switch key := c.signer.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		out.Signature = sized(sized([]byte{0, 0x18, 0, 0x0b}, r.FillBytes(make([]byte, 32))), s.FillBytes(make([]byte, 32)))
	case *rsa.PrivateKey:
		sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		out.Signature = sized([]byte{0, 0x14, 0, 0x0b}, sig)
	}
	if c.wrap != nil {
		out.Signature = c.wrap(out.Signature)
	}
	return out, tpm2.Marshal(c.ak)
}

// TestCertification: what the TPM certifies is accepted, under attestation keys of ECC and RSA.
func TestCertification(t *testing.T) {
	for name, change := range map[string]func(*certification){
		"ECC": func(*certification) {},
		"RSA": func(c *certification) {
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			c.ak, c.signer = rsaAK(2048), key
			c.ak.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()})
		},
		"a clock that is not safe": func(c *certification) { c.safe = 0 },
	} {
		c := goodCertification(t)
		change(c)
		x, ak := c.made(t)
		p, err := x.Check(ak, data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(p.Bytes(), x.Public) {
			t.Errorf("%s: another key", name)
		}
	}
}

// TestCertificationRefused: case 152. Each fault is found by the check that is for it.
func TestCertificationRefused(t *testing.T) {
	attributes := func(change func(*tpm2.TPMAObject)) func(*certification) {
		return func(c *certification) { change(&c.public.ObjectAttributes) }
	}
	akAttributes := func(change func(*tpm2.TPMAObject)) func(*certification) {
		return func(c *certification) { change(&c.ak.ObjectAttributes) }
	}
	for name, x := range map[string]struct {
		change func(*certification)
		says   string
	}{
		"a magic that no TPM writes":              {func(c *certification) { c.magic++ }, "TPM_GENERATED_VALUE"},
		"a quote":                                 {func(c *certification) { c.typ = 0x8018 }, "want a certification"},
		"a certification of creation":             {func(c *certification) { c.typ = 0x801a }, "want a certification"},
		"a certification of NV":                   {func(c *certification) { c.typ = 0x8014 }, "want a certification"},
		"other data":                              {func(c *certification) { c.extraData = append(bytes.Clone(data[1:]), 8) }, "its data are others"},
		"the beginning of the data":               {func(c *certification) { c.extraData = data[:31] }, "its data are others"},
		"more than the data":                      {func(c *certification) { c.extraData = append(bytes.Clone(data), 0) }, "its data are others"},
		"no data":                                 {func(c *certification) { c.extraData = nil }, "its data are others"},
		"a flag that is neither":                  {func(c *certification) { c.safe = 2 }, "clockInfo.safe"},
		"bytes after it":                          {func(c *certification) { c.trailing = []byte{0} }, "follow the TPMS_ATTEST"},
		"another object":                          {func(c *certification) { c.name = append([]byte{0, 0x0b}, make([]byte, 32)...) }, "it is about the object"},
		"no object":                               {func(c *certification) { c.name = []byte{} }, "it is about the object"},
		"a name under another hash":               {func(c *certification) { c.name = append([]byte{0, 0x0c}, make([]byte, 48)...) }, "it is about the object"},
		"another public area":                     {func(c *certification) { p, _ := newKey(t, c.public); c.publicBytes = tpm2.Marshal(p) }, "it is about the object"},
		"bytes after the public area":             {func(c *certification) { c.publicBytes = append(tpm2.Marshal(c.public), 0) }, "TPMT_PUBLIC"},
		"no public area":                          {func(c *certification) { c.publicBytes = []byte{} }, "TPMT_PUBLIC"},
		"a signature by another key":              {func(c *certification) { _, c.signer = newKey(t, c.ak) }, "did not sign it"},
		"a signature over other bytes":            {func(c *certification) { c.signOver = []byte("other") }, "did not sign it"},
		"bytes after the signature":               {func(c *certification) { c.wrap = func(b []byte) []byte { return append(b, 0) } }, "follow the signature"},
		"half a signature":                        {func(c *certification) { c.wrap = func(b []byte) []byte { return b[:20] } }, "signature"},
		"a long signature":                        {func(c *certification) { c.wrap = func([]byte) []byte { return make([]byte, 2<<10+1) } }, "at most"},
		"a long attestation":                      {func(c *certification) { c.trailing = make([]byte, 2<<10) }, "at most"},
		"a key that leaves the TPM":               {attributes(func(a *tpm2.TPMAObject) { a.FixedTPM = false }), "not fixedTPM"},
		"a key that leaves its parent":            {attributes(func(a *tpm2.TPMAObject) { a.FixedParent = false }), "not fixedParent"},
		"a key from outside":                      {attributes(func(a *tpm2.TPMAObject) { a.SensitiveDataOrigin = false }), "not sensitiveDataOrigin"},
		"a key that is duplicated":                {attributes(func(a *tpm2.TPMAObject) { a.EncryptedDuplication = true }), "encryptedDuplication"},
		"another attestation key":                 {attributes(func(a *tpm2.TPMAObject) { a.Restricted = true }), "restricted: it signs what the TPM says"},
		"a key that does not sign":                {attributes(func(a *tpm2.TPMAObject) { a.SignEncrypt = false }), "want a key that signs"},
		"a key that decrypts too":                 {attributes(func(a *tpm2.TPMAObject) { a.Decrypt = true }), "want a key that signs"},
		"a key that signs over SHA-1":             {func(c *certification) { hashWith(&c.public, tpm2.TPMAlgSHA1) }, "want SHA-256, SHA-384 or SHA-512"},
		"signed by a key that is unrestricted":    {akAttributes(func(a *tpm2.TPMAObject) { a.Restricted = false }), "not restricted"},
		"signed by a key that leaves the TPM":     {akAttributes(func(a *tpm2.TPMAObject) { a.FixedTPM = false }), "not fixedTPM"},
		"signed by a key that signs certificates": {akAttributes(func(a *tpm2.TPMAObject) { a.X509Sign = true }), "x509sign"},
	} {
		c := goodCertification(t)
		x.change(c)
		made, ak := c.made(t)
		p, err := made.Check(ak, data)
		if !errors.Is(err, keys.ErrCertification) || !strings.Contains(err.Error(), x.says) || p != nil {
			t.Errorf("%s: %v, want %q", name, err, x.says)
		}
	}
}

// hashWith changes the hash that a key signs with.
func hashWith(p *tpm2.TPMTPublic, hash tpm2.TPMIAlgHash) {
	p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}, CurveID: tpm2.TPMECCNistP256, KDF: tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull},
		Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: hash})},
	})
}

// TestCertificationData: data have bounds, so that a certification over nothing is never one over
// something, and no part of one is read beyond its end.
func TestCertificationData(t *testing.T) {
	for n, want := range map[int]bool{0: false, 1: true, keys.MaxCertificationData: true, keys.MaxCertificationData + 1: false} {
		c := goodCertification(t)
		c.extraData = make([]byte, n)
		made, ak := c.made(t)
		if _, err := made.Check(ak, c.extraData); (err == nil) != want {
			t.Errorf("%d bytes of data: %v", n, err)
		}
	}
	c := goodCertification(t)
	whole, ak := c.made(t)
	for n := range whole.Attest {
		cut := goodCertification(t)
		cut.ak, cut.signer, cut.signOver = c.ak, c.signer, whole.Attest[:n]
		signed, _ := cut.made(t)
		if p, err := (keys.Certification{Public: whole.Public, Attest: whole.Attest[:n], Signature: signed.Signature}).Check(ak, data); err == nil {
			t.Errorf("%d bytes of %d certify %s", n, len(whole.Attest), p.Name())
		}
	}
	if p, err := (keys.Certification{}).Check(nil, data); err == nil {
		t.Errorf("nothing certifies %s", p.Name())
	}
}

// FuzzCertification: whatever the parts are, an answer is a key or an error, and only what the
// attestation key signed is accepted.
func FuzzCertification(f *testing.F) {
	f.Add([]byte{0xff, 'T', 'C', 'G', 0x80, 0x17}, []byte{0, 0x18, 0, 0x0b}, []byte{0, 0x23}, []byte{1})
	ak := madeAK(f)
	f.Fuzz(func(t *testing.T, attest, signature, public, data []byte) {
		if p, err := (keys.Certification{Public: public, Attest: attest, Signature: signature}).Check(ak.Bytes(), data); err == nil || p != nil {
			t.Fatalf("%v, %v: no key signed this", p, err)
		}
	})
}
