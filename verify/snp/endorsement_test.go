// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// Certificates that no one but a careless verifier would take.
func TestEndorsementKeyRefusals(t *testing.T) {
	p := launch(t, soft.Options{})
	_, leaf := reported(t, p)
	key := leaf.Certificate.PublicKey
	amd := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}
	drop := func(oid ...int) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = slices.DeleteFunc(c.ExtraExtensions, func(e pkix.Extension) bool {
				return e.Id.Equal(append(slices.Clone(amd), oid...))
			})
		}
	}
	put := func(value []byte, oid ...int) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			drop(oid...)(c)
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: append(slices.Clone(amd), oid...), Value: value})
		}
	}
	octets := func(n int) []byte { return append([]byte{4, byte(n)}, make([]byte, n)...) }
	for _, c := range []struct {
		name  string
		e     soft.Endorsement
		alter func(*x509.Certificate)
		want  snp.Code
	}{
		{"as it should be", soft.Endorsement{}, func(*x509.Certificate) {}, ""},
		{"hwid in an OCTET STRING", soft.Endorsement{}, put(octets(64), 4), ""},
		{"hwid of 63", soft.Endorsement{}, put(make([]byte, 63), 4), snp.CodeCertificateExtension},
		{"hwid of Turin", soft.Endorsement{}, put(make([]byte, 8), 4), snp.CodeCertificateExtension},
		{"no hwid", soft.Endorsement{}, drop(4), snp.CodeCertificateExtension},
		{"no product", soft.Endorsement{}, drop(2), snp.CodeCertificateExtension},
		{"no struct version", soft.Endorsement{}, drop(1), snp.CodeCertificateExtension},
		{"no microcode level", soft.Endorsement{}, drop(3, 8), snp.CodeCertificateExtension},
		{"no reserved level", soft.Endorsement{}, drop(3, 7), snp.CodeCertificateExtension},
		{"Turin's level on Milan", soft.Endorsement{}, put([]byte{2, 1, 0}, 3, 9), snp.CodeCertificateExtension},
		{"unknown level", soft.Endorsement{}, put([]byte{2, 1, 0}, 3, 10), snp.CodeCertificateExtension},
		{"cspid in a VCEK", soft.Endorsement{}, put([]byte{22, 1, 'x'}, 5), snp.CodeCertificateExtension},
		{"level 256", soft.Endorsement{}, put([]byte{2, 2, 1, 0}, 3, 1), snp.CodeCertificateExtension},
		{"negative level", soft.Endorsement{}, put([]byte{2, 1, 0xFF}, 3, 1), snp.CodeCertificateExtension},
		{"level with a tail", soft.Endorsement{}, put([]byte{2, 1, 1, 0}, 3, 1), snp.CodeCertificateExtension},
		{"level in two bytes instead of one", soft.Endorsement{}, put([]byte{2, 2, 0, 1}, 3, 1), snp.CodeCertificateExtension},
		{"product as UTF8String", soft.Endorsement{}, put([]byte{12, 5, 'M', 'i', 'l', 'a', 'n'}, 2), snp.CodeCertificateExtension},
		{"unknown product", soft.Endorsement{ProductName: "Rome"}, func(*x509.Certificate) {}, snp.CodeProductUnknown},
		{"odd stepping", soft.Endorsement{ProductName: "Milan-B0x"}, func(*x509.Certificate) {}, snp.CodeProductUnknown},
		{"product twice", soft.Endorsement{}, func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, c.ExtraExtensions[1]) }, "parser"},
		{"other name", soft.Endorsement{}, func(c *x509.Certificate) { c.Subject.CommonName = "SEV-Milan" }, snp.CodeCertificate},
		{"an authority", soft.Endorsement{}, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, snp.CodeCertificate},
		{"unknown critical extension", soft.Endorsement{}, func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
		}, snp.CodeCertificateExtension},
		{"VLEK", soft.Endorsement{Signer: snp.SignerVLEK, CSPID: "cloud"}, func(*x509.Certificate) {}, ""},
		{"VLEK with hwid", soft.Endorsement{Signer: snp.SignerVLEK, CSPID: "cloud"}, put(make([]byte, 64), 4), snp.CodeCertificateExtension},
		{"VLEK without cspid", soft.Endorsement{Signer: snp.SignerVLEK, CSPID: "cloud"}, drop(5), snp.CodeCertificateExtension},
		{"VLEK with empty cspid", soft.Endorsement{Signer: snp.SignerVLEK}, func(*x509.Certificate) {}, snp.CodeCertificateExtension},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := c.e
			e.Product, e.HWID, e.Alter = snp.Milan, make([]byte, 64), c.alter
			e.NotBefore, e.NotAfter = time.Now(), time.Now().Add(time.Hour)
			der, err := p.Options().Authority.Endorse(e, key)
			if err == nil {
				_, err = snp.ParseEndorsementKey(der)
			}
			if c.want == "parser" { // crypto/x509 refuses it already
				if err == nil {
					t.Error("accepted")
				}
				return
			}
			if snp.CodeOf(err) != c.want || (err == nil) != (c.want == "") {
				t.Errorf("%v, want code %q", err, c.want)
			}
		})
	}
}
