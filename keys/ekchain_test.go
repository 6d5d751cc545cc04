// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/pelletier/go-toml/v2"

	"github.com/cvm-agentd/agentd/keys"
)

// name is the Name of a P-256 endorsement key whose coordinates are written like this.
func name(x, y []byte) keys.Name {
	area := tpm2.ECCEKTemplate
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: x}, Y: tpm2.TPM2BECCParameter{Buffer: y}})
	sum := sha256.Sum256(tpm2.Marshal(area))
	return append(keys.Name{0, 0x0b}, sum[:]...)
}

// TestEKNameOfShortCoordinates: TPMs may leave out leading zeros of a coordinate, and
// then name the same key otherwise.
func TestEKNameOfShortCoordinates(t *testing.T) {
	a := newAuthority(t)
	for i := int64(1); ; i++ {
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), big.NewInt(i).FillBytes(make([]byte, 32)))
		if err != nil {
			t.Fatal(err)
		}
		point, err := key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		x, y := point[1:33], point[33:]
		if x[0] != 0 && y[0] != 0 {
			continue
		}
		c, err := keys.ParseEKCertificate([][]byte{a.issue(t, key.Public(), nil)})
		if err != nil {
			t.Fatal(err)
		}
		for what, n := range map[string]keys.Name{"padded": name(x, y), "trimmed": name(bytes.TrimLeft(x, "\x00"), bytes.TrimLeft(y, "\x00"))} {
			if err := c.CheckKey(n); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		if c.CheckKey(name(y, x)) == nil {
			t.Error("it certifies any key")
		}
		return
	}
}

// TestEKCertificateOfOtherKinds: keys that no template makes are not endorsement keys.
func TestEKCertificateOfOtherKinds(t *testing.T) {
	a := newAuthority(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	for what, key := range map[string]any{"P-384": p384.Public(), "RSA 3072": large.Public()} {
		c, err := keys.ParseEKCertificate([][]byte{a.issue(t, key, nil)})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.CheckKey(name(nil, nil)); err == nil || !strings.Contains(err.Error(), "template") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestEKChain: ways to a root, whatever the time, and which is taken.
func TestEKChain(t *testing.T) {
	a := newAuthority(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skipf("no RSA key of 1024 bits can be made here: %v", err)
	}
	issuer := func(signer any, change func(*x509.Certificate)) *x509.Certificate {
		template := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "issuer"}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0)}
		if change != nil {
			change(template)
		}
		public := a.key.Public()
		if k, ok := signer.(*rsa.PrivateKey); ok {
			public = k.Public()
		}
		der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	between, old := issuer(a.key, nil), issuer(a.key, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) })
	leaf := (&authority{a.key, between}).issue(t, key.Public(), nil)
	parse := func(ders ...[]byte) *keys.EKCertificate {
		c, err := keys.ParseEKCertificate(ders)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, order := range [][][]byte{{leaf, old.Raw, between.Raw}, {leaf, between.Raw, old.Raw}} {
		c := parse(order...)
		chain, err := c.Chain(a.pool(), now)
		if err != nil || len(chain) != 3 || !chain[1].Equal(between) || c.CheckValidity(chain, now) != nil {
			t.Errorf("the issuer that is out of date was taken, or none: %v", err)
		}
	}
	c := parse(leaf, old.Raw)
	chain, err := c.Chain(a.pool(), now)
	if err != nil || !chain[1].Equal(old) || !chain[1].NotAfter.Equal(old.NotAfter) {
		t.Errorf("a chain that is out of date is not found: %v", err)
	}
	if err := c.CheckValidity(chain, now); err == nil || !strings.Contains(err.Error(), "issuer") {
		t.Errorf("out of date: %v", err)
	}
	for name, ders := range map[string][][]byte{"alone": {leaf}, "with one that does not belong": {leaf, a.cert.Raw}} {
		_, err := parse(ders...).Chain(a.pool(), now)
		if missing, ok := errors.AsType[*keys.MissingIssuerError](err); !ok || missing.Issuer != "CN=issuer" || !strings.Contains(err.Error(), "CN=issuer") {
			t.Errorf("%s: %v, want that the certificate of CN=issuer is missing", name, err)
		}
	}
	small := issuer(weak, nil)
	template := &x509.Certificate{SerialNumber: big.NewInt(4), NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, small, key.Public(), weak)
	if err != nil {
		t.Skipf("nothing can be signed with it: %v", err)
	}
	if _, err := parse(der, small.Raw).Chain(a.pool(), now); err == nil || !strings.Contains(err.Error(), "1024 bits") {
		t.Errorf("an issuer with a key of 1024 bits: %v", err)
	}
	many := make([][]byte, keys.MaxEKCertificates+1)
	for i := range many {
		many[i] = leaf
	}
	for what, ders := range map[string][][]byte{"none": nil, "too many": many} {
		if _, err := keys.ParseEKCertificate(ders); err == nil {
			t.Errorf("%s: parsed", what)
		}
	}
}

// TestBundle: one spelling, nothing but certificates, and caps.
func TestBundle(t *testing.T) {
	a := newAuthority(t)
	bundle := keys.Bundle{a.cert.Raw, a.cert.Raw}
	text, err := bundle.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var back keys.Bundle
	if err := back.UnmarshalText(append([]byte("\n "), text...)); err != nil || len(back) != 2 || !bytes.Equal(back[1], a.cert.Raw) {
		t.Errorf("%d certificates, %v", len(back), err)
	}
	for what, bad := range map[string]string{
		"nothing":         "",
		"text":            "certificate",
		"text in front":   "x\n" + string(text),
		"text between":    strings.Replace(string(text), "-----END CERTIFICATE-----\n", "-----END CERTIFICATE-----\nx\n", 1),
		"text after":      string(text) + "x",
		"another block":   strings.ReplaceAll(string(text), "CERTIFICATE", "PUBLIC KEY"),
		"headers":         strings.Replace(string(text), "-----BEGIN CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\na: b\n\n", 1),
		"other lines":     strings.ReplaceAll(string(text), "\n", "\r\n"),
		"no certificate":  "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"nine":            strings.Repeat(string(text), 5),
		"a very long one": strings.Repeat(" ", 1<<20) + "x" + strings.Repeat("x", 1<<20),
	} {
		var b keys.Bundle
		if err := b.UnmarshalText([]byte(bad)); err == nil || b != nil {
			t.Errorf("%s: %d certificates", what, len(b))
		}
	}
}

// TestEnrolmentVersions: both are read, and none with what it never had.
func TestEnrolmentVersions(t *testing.T) {
	a := newAuthority(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	n := name(bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32))
	good := keys.Enrolment{Type: keys.EnrolmentType, EK: n, AK: n, EKIssuer: "CN=x", Enrolled: now, EKCertificates: keys.Bundle{a.issue(t, key.Public(), nil), a.cert.Raw}}
	for what, c := range map[string]struct {
		change func(*keys.Enrolment)
		ok     bool
	}{
		"as it is":                        {func(*keys.Enrolment) {}, true},
		"without certificates":            {func(e *keys.Enrolment) { e.EKCertificates = nil }, true},
		"first version":                   {func(e *keys.Enrolment) { e.Type, e.EKCertificates = keys.FirstEnrolmentType, nil }, true},
		"first version with certificates": {func(e *keys.Enrolment) { e.Type = keys.FirstEnrolmentType }, false},
		"a version to come":               {func(e *keys.Enrolment) { e.Type = "agentd/enrolment/3" }, false},
		"not a certificate":               {func(e *keys.Enrolment) { e.EKCertificates = keys.Bundle{{1, 2, 3}} }, false},
	} {
		e := good
		c.change(&e)
		if err := e.Check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", what, err)
		}
	}
	asJSON, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	asTOML, err := toml.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	var fromJSON, fromTOML keys.Enrolment
	if err := json.Unmarshal(asJSON, &fromJSON); err != nil {
		t.Fatal(err)
	}
	if err := toml.Unmarshal(asTOML, &fromTOML); err != nil {
		t.Fatal(err)
	}
	for _, e := range []keys.Enrolment{fromJSON, fromTOML} {
		if len(e.EKCertificates) != 2 || !bytes.Equal(e.EKCertificates[0], good.EKCertificates[0]) || e.Check() != nil {
			t.Errorf("%d certificates came back", len(e.EKCertificates))
		}
	}
	if !strings.Contains(string(asJSON), "-----BEGIN CERTIFICATE-----") {
		t.Error("the certificates are not PEM")
	}
}

// A signature with a key of a hundred thousand bits takes seconds, and an attacker can put
// such an issuer next to a certificate.
func TestEKCertificateWithLongKeys(t *testing.T) {
	a := newAuthority(t)
	n := new(big.Int).Lsh(big.NewInt(1), 8191)
	for _, bits := range []int{8192, 8200} {
		long := a.issue(t, &rsa.PublicKey{N: n.SetBit(n.Lsh(big.NewInt(1), uint(bits-1)), 0, 1), E: 65537}, nil)
		_, err := keys.ParseEKCertificate([][]byte{a.cert.Raw, long})
		if (err == nil) != (bits == 8192) {
			t.Errorf("key of %d bits: %v", bits, err)
		}
	}
}
