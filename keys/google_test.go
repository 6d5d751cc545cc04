// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/vectors"
	"github.com/cvm-agentd/agentd/keys"
)

// The built-in certificates are those that go-tpm-tools has, and one issues the other.
func TestGoogleRoot(t *testing.T) {
	root, issuer, err := keys.GoogleRoot()
	if err != nil {
		t.Fatal(err)
	}
	if err := issuer.CheckSignatureFrom(root); err != nil {
		t.Error(err)
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]*x509.Certificate{"gcp_ek_ak_ca_root.crt": root, "gcp_ek_ak_ca_intermediate_v3.crt": issuer} {
		b := vectors.Read(t, "google_go-tpm-tools/"+name)
		if p, _ := pem.Decode(b); p != nil {
			b = p.Bytes
		}
		if !bytes.Equal(b, c.Raw) {
			t.Errorf("%s is another certificate", name)
		}
	}
}

// googleCertificate is a certificate of key with this extension, signed by the key itself.
func googleCertificate(t testing.TB, value []byte, change func(*x509.Certificate)) (der []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 1, 21}, Value: value}}}
	if change != nil {
		change(template)
	}
	der, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

// tlv is one DER element.
func tlv(tag byte, parts ...[]byte) []byte {
	b := bytes.Join(parts, nil)
	if len(b) < 128 {
		return append([]byte{tag, byte(len(b))}, b...)
	}
	return append([]byte{tag, 0x82, byte(len(b) >> 8), byte(len(b))}, b...)
}

func utf8String(s string) []byte { return tlv(0x0c, []byte(s)) }

// production is the properties of a machine of production, with those that nothing looks at.
var production = tlv(0xa0, tlv(0x30, tlv(0xa0, []byte{2, 1, 0}), tlv(0xa1, []byte{1, 1, 0xff}), tlv(0xa2, []byte{1, 1, 0xff}), tlv(0xa3, []byte{1, 1, 0})))

// TestGoogleInstance reads extensions by hand, as Google's authority writes them.
func TestGoogleInstance(t *testing.T) {
	id := []byte{2, 9, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff} // 1<<64 - 1
	sequence := func(zone, number, project, id, name, properties []byte) []byte {
		return tlv(0x30, zone, number, project, id, name, properties)
	}
	zone, number, project, name := utf8String("europe-west4-a"), []byte{2, 2, 0x12, 0x67}, utf8String("my-project"), utf8String("web-1")
	good := sequence(zone, number, project, id, name, production)
	for what, c := range map[string]struct {
		value []byte
		want  string // in the error; empty: it is read
	}{
		"good":                  {good, ""},
		"bytes after it":        {append(bytes.Clone(good), 0), "bytes follow"},
		"nothing":               {[]byte{}, "cannot be read"},
		"cut":                   {good[:len(good)-1], "cannot be read"},
		"no properties":         {sequence(zone, number, project, id, name, nil), "production"},
		"test system":           {sequence(zone, number, project, id, name, tlv(0xa0, tlv(0x30, tlv(0xa0, []byte{2, 1, 0}), tlv(0xa1, []byte{1, 1, 0})))), "production"},
		"no word of production": {sequence(zone, number, project, id, name, tlv(0xa0, tlv(0x30, tlv(0xa0, []byte{2, 1, 0})))), "production"},
		"negative":              {sequence(zone, []byte{2, 1, 0xff}, project, id, name, production), "negative"},
		"too large":             {sequence(zone, number, project, append([]byte{2, 10, 1, 0}, id[3:]...), name, production), "too large"},
		"empty zone":            {sequence(utf8String(""), number, project, id, name, production), "zone"},
		"escape in project":     {sequence(zone, number, utf8String("a\x1b[2J"), id, name, production), "project"},
		"long name":             {sequence(zone, number, project, id, utf8String(strings.Repeat("a", 257)), production), "name"},
		"not UTF-8":             {sequence(utf8String("\xff"), number, project, id, name, production), "cannot be read"},
		"octets for a text":     {sequence(tlv(0x04, []byte("zone")), number, project, id, name, production), "cannot be read"},
		"numbers swapped":       {sequence(number, zone, project, id, name, production), "cannot be read"},
	} {
		der, _ := googleCertificate(t, c.value, nil)
		all := keys.GoogleAKCertificates([][]byte{{1, 2, 3}, der})
		if len(all) != 1 {
			if len(c.value) > 0 {
				t.Errorf("%s: %d certificates", what, len(all))
			}
			continue
		}
		got, err := all[0].Instance()
		switch {
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, %v, want an error with %q", what, got, err, c.want)
		case c.want == "" && (err != nil || *got != keys.GoogleInstance{Project: "my-project", ProjectNumber: "4711", Zone: "europe-west4-a", ID: "18446744073709551615", Name: "web-1"}):
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
}

// TestGoogleAKCertificate: which certificates are looked at, and for which key and use.
func TestGoogleAKCertificate(t *testing.T) {
	der, key := googleCertificate(t, tlv(0x30), nil)
	authority, _ := googleCertificate(t, tlv(0x30), func(c *x509.Certificate) { c.IsCA = true })
	critical, _ := googleCertificate(t, tlv(0x30), func(c *x509.Certificate) { c.ExtraExtensions[0].Critical = true })
	other, _ := googleCertificate(t, tlv(0x30), func(c *x509.Certificate) { c.ExtraExtensions = nil })
	large, _ := googleCertificate(t, make([]byte, 16<<10), nil)
	if all := keys.GoogleAKCertificates([][]byte{authority, other, large, nil}); len(all) != 0 {
		t.Errorf("%d certificates of no machine", len(all))
	}
	all := keys.GoogleAKCertificates([][]byte{der, authority, critical, other})
	if len(all) != 2 {
		t.Fatalf("%d certificates, want 2", len(all))
	}
	if err := all[0].CheckKey(key.Public()); err != nil {
		t.Error(err)
	}
	if all[1].CheckKey(key.Public()) == nil || all[0].CheckKey(nil) == nil {
		t.Error("it certifies any key")
	}
	for usage, ok := range map[x509.KeyUsage]bool{
		x509.KeyUsageDigitalSignature: true, 0: false, x509.KeyUsageKeyEncipherment: false,
		x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment: false, x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign: false,
	} {
		der, _ := googleCertificate(t, tlv(0x30), func(c *x509.Certificate) { c.KeyUsage = usage })
		if err := keys.GoogleAKCertificates([][]byte{der})[0].CheckUsage(); (err == nil) != ok {
			t.Errorf("key usage %v: %v", usage, err)
		}
	}
	if got := all[0].Encoded(); len(got) != 2 || !bytes.Equal(got[0], der) || !bytes.Equal(got[1], authority) {
		t.Errorf("%d certificates", len(got))
	}
}

// TestIssuersOfAnAttacker: issuers that certify each other, and that no root vouches for, are no
// ways that are tried. They are one key with different names beside the subject, so that each may
// come after each other one.
func TestIssuersOfAnAttacker(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var ders [][]byte
	for i := range 12 {
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: "issuer"}, DNSNames: []string{strings.Repeat("a", i+1)},
			NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true}
		if i == 0 {
			template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 1, 21}, Value: tlv(0x30)}}
		} else {
			template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
		}
		der, err := x509.CreateCertificate(rand.Reader, template, &x509.Certificate{Subject: template.Subject}, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		ders = append(ders, der)
	}
	root, _, err := keys.GoogleRoot()
	if err != nil {
		t.Fatal(err)
	}
	_, err = keys.GoogleAKCertificates(ders)[0].Chain([]*x509.Certificate{root}, now)
	if err == nil || strings.Contains(err.Error(), "signature check attempts") {
		t.Errorf("%v, want that no root is found, before the attempts run out", err)
	}
}

// TestWayOfTwoIssuers: a way may lead through several issuers, which may come in any order. An
// issuer that may not certify others, or not that deep, is none.
func TestWayOfTwoIssuers(t *testing.T) {
	root := newAuthority(t)
	below := func(a *authority, name string, change func(*x509.Certificate)) *authority {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0)}
		if change != nil {
			change(template)
		}
		der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return &authority{key, c}
	}
	instance := []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 1, 21}, Value: tlv(0x30)}}
	for name, c := range map[string]struct {
		first, second func(*x509.Certificate)
		ok            bool
	}{
		"two issuers":                  {nil, nil, true},
		"path too long":                {func(c *x509.Certificate) { c.MaxPathLenZero = true }, nil, false},
		"path as long as allowed":      {func(c *x509.Certificate) { c.MaxPathLen = 1 }, func(c *x509.Certificate) { c.MaxPathLenZero = true }, true},
		"first signs no certificates":  {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, nil, false},
		"second signs no certificates": {nil, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, false},
		"second is not an authority":   {nil, func(c *x509.Certificate) { c.IsCA = false }, false},
		"a rule that is not known": {func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}, nil, false},
	} {
		first := below(root, "first", c.first)
		second := below(first, "second", c.second)
		leaf := below(second, "leaf", func(c *x509.Certificate) {
			c.IsCA, c.KeyUsage, c.ExtraExtensions = false, x509.KeyUsageDigitalSignature, instance
		})
		for _, ders := range [][][]byte{{leaf.cert.Raw, first.cert.Raw, second.cert.Raw}, {second.cert.Raw, first.cert.Raw, leaf.cert.Raw}, {second.cert.Raw, root.cert.Raw, leaf.cert.Raw, first.cert.Raw}} {
			all := keys.GoogleAKCertificates(ders)
			if len(all) != 1 {
				t.Fatalf("%s: %d certificates", name, len(all))
			}
			chain, err := all[0].Chain(root.pool(), now)
			if (err == nil) != c.ok || err == nil && (len(chain) != 4 || all[0].CheckValidity(chain, now) != nil) {
				t.Errorf("%s: a chain of %d, %v", name, len(chain), err)
			}
		}
	}
}

// FuzzGoogleInstance: whatever stands in the extension, it is read or refused.
func FuzzGoogleInstance(f *testing.F) {
	f.Add(tlv(0x30, utf8String("z"), []byte{2, 1, 1}, utf8String("p"), []byte{2, 1, 1}, utf8String("n"), production))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, value []byte) {
		if len(value) > 8<<10 {
			return
		}
		der, _ := googleCertificate(t, value, nil)
		for _, c := range keys.GoogleAKCertificates([][]byte{der}) {
			m, err := c.Instance()
			if (m == nil) == (err == nil) {
				t.Errorf("%v, %v", m, err)
			}
			if m != nil && (m.Project == "" || m.Zone == "" || m.Name == "") {
				t.Errorf("%+v", m)
			}
		}
	})
}
