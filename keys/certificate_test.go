// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/keys"
)

var (
	now          = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	ekUsage      = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	subjectAlt   = asn1.ObjectIdentifier{2, 5, 29, 17}
	maker        = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	subjectTitle = "CN=Test TPM Root,O=agentd tests"
)

// authority signs certificates of endorsement keys.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test TPM Root", Organization: []string{"agentd tests"}},
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key, cert}
}

func (a *authority) pool() []*x509.Certificate { return []*x509.Certificate{a.cert} }

// issue certifies a key the way makers do: no subject, a critical alternative name
// that is a directory name, and the usage of endorsement keys.
func (a *authority) issue(t *testing.T, key crypto.PublicKey, change func(*x509.Certificate)) []byte {
	t.Helper()
	name, err := asn1.Marshal(pkix.RDNSequence{{{Type: maker, Value: "id:00001014"}}})
	if err != nil {
		t.Fatal(err)
	}
	alt, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: name}})
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(0, 1, 0),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageKeyEncipherment,
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{ekUsage},
		ExtraExtensions:    []pkix.Extension{{Id: subjectAlt, Critical: true, Value: alt}},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestVerifyEKCertificate(t *testing.T) {
	ek, key := madeEK(t, keys.EKECC256)
	rsa, rsaKey := madeEK(t, keys.EKRSA2048)
	a, stranger := newAuthority(t), newAuthority(t)
	good := a.issue(t, key, nil)
	for name, c := range map[string]struct {
		der   []byte
		roots []*x509.Certificate
		now   time.Time
		want  string // "" if no error
	}{
		"good":          {good, a.pool(), now, ""},
		"without usage": {a.issue(t, key, func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }), a.pool(), now, ""},
		"web server": {a.issue(t, key, func(c *x509.Certificate) {
			c.UnknownExtKeyUsage, c.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), a.pool(), now, "extended key usage"},
		"another key":    {a.issue(t, rsaKey, nil), a.pool(), now, "certifies another key"},
		"another root":   {good, stranger.pool(), now, "unknown authority"},
		"forged":         {stranger.issue(t, key, nil), a.pool(), now, "unknown authority"},
		"system's roots": {good, nil, now, "no roots"},
		"no root":        {good, []*x509.Certificate{}, now, "no roots"},
		"no time":        {good, a.pool(), time.Time{}, "no time"},
		"too early":      {good, a.pool(), now.AddDate(0, -2, 0), "expired or is not yet valid"},
		"too late":       {good, a.pool(), now.AddDate(0, 2, 0), "expired or is not yet valid"},
		"an authority":   {a.issue(t, key, func(c *x509.Certificate) { c.IsCA = true }), a.pool(), now, "a certificate of an authority"},
		"unknown critical": {a.issue(t, key, func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
		}), a.pool(), now, "unhandled critical extension"},
		"empty":    {nil, a.pool(), now, "0 bytes"},
		"large":    {make([]byte, 20000), a.pool(), now, "20000 bytes"},
		"trailing": {append(good[:len(good):len(good)], 0), a.pool(), now, "trailing data"},
		"garbage":  {[]byte("certificate"), a.pool(), now, "x509"},
	} {
		issuer, err := keys.VerifyEKCertificate([][]byte{c.der}, ek, c.roots, c.now)
		if c.want == "" && (err != nil || issuer != subjectTitle) || c.want != "" && (err == nil || issuer != "" || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %q, %v, want %q", name, issuer, err, c.want)
		}
	}
	t.Run("RSA key marked for OAEP", func(t *testing.T) {
		der := oaep(t, a, a.issue(t, rsaKey, nil))
		if issuer, err := keys.VerifyEKCertificate([][]byte{der}, rsa, a.pool(), now); err != nil || issuer != subjectTitle {
			t.Errorf("got %q, %v", issuer, err)
		}
		if _, err := keys.VerifyEKCertificate([][]byte{der}, ek, a.pool(), now); err == nil {
			t.Error("it is taken for another key's")
		}
	})
}

// oaep changes the algorithm of the certified key from rsaEncryption to id-RSAES-OAEP,
// without parameters, and signs the certificate again.
func oaep(t *testing.T, a *authority, der []byte) []byte {
	t.Helper()
	var c struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		t.Fatal(err)
	}
	plain := []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01}
	marked := []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07}
	c.TBS.FullBytes = bytes.Replace(c.TBS.FullBytes, plain, marked, 1)
	h := crypto.SHA256.New()
	h.Write(c.TBS.FullBytes)
	sig, err := a.key.Sign(rand.Reader, h.Sum(nil), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	c.Signature = asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}
	out, err := asn1.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
