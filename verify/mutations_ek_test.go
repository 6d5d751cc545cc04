// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/keys"
)

// maker is an authority that certifies TPMs. Keys are made of letters and signatures
// are deterministic (RFC 6979), so that the corpus is the same each time it is written.
type maker struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func letterKey(letter byte) *ecdsa.PrivateKey {
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{letter}, 32))
	if err != nil {
		panic(err) // a letter is a number in range
	}
	return k
}

// issue certifies key; nil for by means the maker itself.
func issue(template *x509.Certificate, by *maker, key *ecdsa.PrivateKey) *x509.Certificate {
	if by == nil {
		by = &maker{key: key, cert: template}
	}
	der, err := x509.CreateCertificate(nil, template, by.cert, key.Public(), by.key)
	if err != nil {
		panic(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return c
}

// years is a period around the time of all tests.
func years(c *x509.Certificate) *x509.Certificate {
	c.NotBefore, c.NotAfter = evidencetest.Time.AddDate(-1, 0, 0), evidencetest.Time.AddDate(1, 0, 0)
	return c
}

func expired(c *x509.Certificate) { c.NotAfter = evidencetest.Time.Add(-time.Second) }

// newMaker is an authority with a key of this letter, below another or a root of its own.
func newMaker(letter byte, name string, below *maker, change func(*x509.Certificate)) *maker {
	t := years(&x509.Certificate{SerialNumber: big.NewInt(int64(letter)), Subject: pkix.Name{CommonName: name},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	if change != nil {
		change(t)
	}
	m := &maker{key: letterKey(letter)}
	m.cert = issue(t, below, m.key)
	return m
}

// certify is a certificate of the endorsement key of that letter as makers issue it: no
// subject, a critical alternative name that is a directory name, and the usage.
func (m *maker) certify(letter byte, change func(*x509.Certificate)) *x509.Certificate {
	name, err := asn1.Marshal(pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{2, 23, 133, 2, 1}, Value: "id:00001014"}}})
	if err != nil {
		panic(err)
	}
	alternative, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: name}})
	if err != nil {
		panic(err)
	}
	t := years(&x509.Certificate{SerialNumber: big.NewInt(int64(letter)), KeyUsage: x509.KeyUsageKeyAgreement, BasicConstraintsValid: true,
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}},
		ExtraExtensions:    []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: alternative}}})
	if change != nil {
		change(t)
	}
	return issue(t, m, letterKey(letter))
}

// ekName is the name of the endorsement key of that letter, of template L-2.
func ekName(letter byte) string {
	sum := sha256.Sum256(evidencetest.EK(letter))
	return "000b" + hex.EncodeToString(sum[:])
}

func pemText(certificates ...*x509.Certificate) string {
	var b keys.Bundle
	for _, c := range certificates {
		b = append(b, c.Raw)
	}
	text, err := b.MarshalText()
	if err != nil {
		panic(err)
	}
	return `"""` + "\n" + string(text) + `"""`
}

// certified is the [[enrolment]] of the recipe's AK with the endorsement key 'e' and
// these certificates.
func certified(certificates ...*x509.Certificate) string {
	return fmt.Sprintf("[[enrolment]]\ntype = \"agentd/enrolment/2\"\nek = %q\nak = \"000b%s\"\nek_issuer = \"CN=TPM root\"\nenrolled = \"2026-01-31T12:00:00Z\"\nek_certificates = %s\n",
		ekName('e'), recipeAK(), pemText(certificates...))
}

func trusting(m *maker) string {
	return "ak_origin = \"certified\"\nek_roots = " + pemText(m.cert)
}

// makers are the authorities of all tests.
var tpmRoot, otherRoot = newMaker('r', "TPM root", nil, nil), newMaker('s', "TPM root", nil, nil)

func ekMutations() []mutation {
	between := newMaker('i', "TPM issuer", tpmRoot, nil)
	late := newMaker('i', "TPM issuer", tpmRoot, expired)
	noAuthority := newMaker('i', "TPM issuer", tpmRoot, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })
	oldRoot := newMaker('r', "TPM root", nil, expired)
	good := tpmRoot.certify('e', nil)
	web := func(c *x509.Certificate) {
		c.UnknownExtKeyUsage, c.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	authority := func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }
	self := maker{key: letterKey('e'), cert: newMaker('e', "TPM root", nil, nil).cert}
	root := trusting(tpmRoot)
	return []mutation{
		{id: PolicyEKKey, name: "case 65 certificate of another TPM", root: root, tables: certified(tpmRoot.certify('f', nil))},
		{id: PolicyEKKey, name: "case 65 certificate of another TPM, through an issuer", root: root, tables: certified(between.certify('f', nil), between.cert)},
		{id: PolicyEKUsage, name: "a web server's", root: root, tables: certified(tpmRoot.certify('e', web))},
		{id: PolicyEKUsage, name: "an authority's", root: root, tables: certified(tpmRoot.certify('e', authority))},
		{id: PolicyEKChain, name: "another root of the same name", root: root, tables: certified(otherRoot.certify('e', nil))},
		{id: PolicyEKChain, name: "another root, which comes along", root: root, tables: certified(otherRoot.certify('e', nil), otherRoot.cert)},
		{id: PolicyEKChain, name: "signed by itself", root: root, tables: certified(self.certify('e', nil))},
		{id: PolicyEKChain, name: "issuer missing", root: root, tables: certified(between.certify('e', nil))},
		{id: PolicyEKChain, name: "issuer is not an authority", root: root, tables: certified(noAuthority.certify('e', nil), noAuthority.cert)},
		{id: PolicyEKChain, name: "issued by another TPM's key", root: root, tables: certified((&maker{key: letterKey('f'), cert: tpmRoot.certify('f', nil)}).certify('e', nil), tpmRoot.certify('f', nil))},
		{id: PolicyEKChain, name: "critical extension that is not known", root: root, tables: certified(tpmRoot.certify('e', func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
		}))},
		{id: PolicyEKChain, name: "not asked for, and there", root: "ek_roots = " + pemText(tpmRoot.cert), tables: certified(otherRoot.certify('e', nil))},
		{id: PolicyEKValidity, name: "expired", root: root, tables: certified(tpmRoot.certify('e', expired))},
		{id: PolicyEKValidity, name: "not yet valid", root: root, tables: certified(tpmRoot.certify('e', func(c *x509.Certificate) { c.NotBefore = evidencetest.Time.Add(time.Second) }))},
		{id: PolicyEKValidity, name: "issuer expired", root: root, tables: certified(late.certify('e', nil), late.cert)},
		{id: PolicyEKValidity, name: "root expired", root: trusting(oldRoot), tables: certified(oldRoot.certify('e', nil))},
		{id: PolicyAKOrigin, name: "enrolled without a certificate", root: root, tables: enrolment(recipeAK(), "none") + elsewhere(good)},
		{id: PolicyAKOrigin, name: "record of the first version", root: root, tables: enrolment(recipeAK(), "CN=TPM root") + elsewhere(good)},
		{id: PolicyAKOrigin, name: "known by name alone", root: root + "\nak_names = [\"000b" + recipeAK() + "\"]", tables: elsewhere(good)},
	}
}

// elsewhere is an enrolment of another AK, with these certificates.
func elsewhere(certificates ...*x509.Certificate) string {
	return string(bytes.Replace([]byte(certified(certificates...)), []byte(recipeAK()), []byte(repeated(1, 32)), 1))
}
