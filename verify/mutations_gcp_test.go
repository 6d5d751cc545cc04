// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// googleInstance is the extension of Google Cloud's certificates.
type googleInstance struct {
	Zone          string `asn1:"utf8"`
	ProjectNumber int64
	Project       string `asn1:"utf8"`
	ID            int64
	Name          string           `asn1:"utf8"`
	Properties    googleProperties `asn1:"explicit,tag:0"`
}

type googleProperties struct {
	SecurityVersion int  `asn1:"explicit,tag:0"`
	Production      bool `asn1:"explicit,tag:1"`
	Others          bool `asn1:"explicit,tag:2"`
}

var goodInstance = googleInstance{"europe-west4-a", 4711, "my-project", 1 << 62, "web-1", googleProperties{0, true, true}}

var oidGoogleInstance = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 1, 21}

// certifyAK is a certificate of the attestation key of that letter, as Google Cloud makes them.
func (m *maker) certifyAK(letter byte, instance any, change func(*x509.Certificate)) *x509.Certificate {
	value, ok := instance.([]byte)
	if !ok {
		var err error
		if value, err = asn1.Marshal(instance); err != nil {
			panic(err)
		}
	}
	t := years(&x509.Certificate{SerialNumber: big.NewInt(int64(letter)), Subject: pkix.Name{CommonName: "4611686018427387904"},
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtraExtensions: []pkix.Extension{{Id: oidGoogleInstance, Value: value}}})
	if change != nil {
		change(t)
	}
	return issue(t, m, letterKey(letter))
}

// googleRoot and googleIssuer are an authority as Google's.
var (
	googleRoot   = newMaker('g', "EK/AK CA Root", nil, nil)
	googleIssuer = newMaker('h', "EK/AK CA Intermediate", googleRoot, nil)
	otherGoogle  = newMaker('j', "EK/AK CA Root", nil, nil)
)

// onGoogle is a [gcp] with a root for tests, and with more keys.
func onGoogle(more string) string {
	return "[gcp]\nprojects = [\"my-project\"]\nroots = " + pemText(googleRoot.cert) + "\n" + more
}

// with adds certificates to the evidence.
func with(certificates ...*x509.Certificate) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) { r.Certificates = certificates }
}

func gcpMutations() []mutation {
	issuer := googleIssuer.cert
	instance := func(change func(*googleInstance)) *x509.Certificate {
		i := goodInstance
		change(&i)
		return googleIssuer.certifyAK('k', i, nil)
	}
	changed := func(change func(*x509.Certificate)) *x509.Certificate {
		return googleIssuer.certifyAK('k', goodInstance, change)
	}
	late := newMaker('h', "EK/AK CA Intermediate", googleRoot, expired)
	encoded, err := asn1.Marshal(goodInstance)
	if err != nil {
		panic(err)
	}
	self := maker{key: letterKey('k'), cert: newMaker('k', "EK/AK CA Root", nil, nil).cert}
	good := onGoogle("")
	m := func(id CheckID, name, tables string, certificates ...*x509.Certificate) mutation {
		return mutation{id: id, name: name, tables: tables, recipe: with(certificates...)}
	}
	return []mutation{
		blind(m(PolicyGCPCertificate, "none", good)),
		blind(m(PolicyGCPCertificate, "one that names no machine", good, googleIssuer.certify('k', nil), issuer)),
		blind(m(PolicyGCPCertificate, "an authority's", good, changed(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }), issuer)),
		m(PolicyGCPKey, "case 118 another machine's key", good, googleIssuer.certifyAK('f', goodInstance, nil), issuer),
		m(PolicyGCPUsage, "that of an endorsement key", good, changed(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), issuer),
		m(PolicyGCPUsage, "signs and agrees on keys", good, changed(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyAgreement }), issuer),
		m(PolicyGCPUsage, "no usage", good, changed(func(c *x509.Certificate) { c.KeyUsage = 0 }), issuer),
		m(PolicyGCPChain, "case 118 another root of the same name", good, otherGoogle.certifyAK('k', goodInstance, nil)),
		m(PolicyGCPChain, "another root, which comes along", good, otherGoogle.certifyAK('k', goodInstance, nil), otherGoogle.cert),
		m(PolicyGCPChain, "signed by itself", good, self.certifyAK('k', goodInstance, nil), self.cert),
		m(PolicyGCPChain, "issuer missing", good, changed(nil)),
		m(PolicyGCPChain, "a root for tests under Google's", "[gcp]\nprojects = [\"my-project\"]", changed(nil), issuer, googleRoot.cert),
		m(PolicyGCPValidity, "expired", good, changed(expired), issuer),
		m(PolicyGCPValidity, "issuer expired", good, late.certifyAK('k', goodInstance, nil), late.cert),
		blind(m(PolicyGCPInstance, "not for production", good, instance(func(i *googleInstance) { i.Properties.Production = false }), issuer)),
		blind(m(PolicyGCPInstance, "garbage", good, googleIssuer.certifyAK('k', []byte{0x30, 0x03, 0x0c, 0x01}, nil), issuer)),
		blind(m(PolicyGCPInstance, "bytes follow", good, googleIssuer.certifyAK('k', append(encoded, 0), nil), issuer)),
		blind(m(PolicyGCPInstance, "negative number", good, instance(func(i *googleInstance) { i.ID = -1 }), issuer)),
		blind(m(PolicyGCPInstance, "name with an escape", good, instance(func(i *googleInstance) { i.Name = "web\x1b[2J" }), issuer)),
		m(PolicyGCPProject, "case 118 another project", good, instance(func(i *googleInstance) { i.Project = "your-project" }), issuer),
		m(PolicyGCPProject, "another project's number", onGoogleNumber, changed(nil), issuer),
		m(PolicyGCPZone, "another", onGoogle("zones = [\"us-central1-a\"]"), changed(nil), issuer),
		m(PolicyGCPMachine, "another id", onGoogle("instances = [\"12\"]"), changed(nil), issuer),
		m(PolicyGCPMachine, "another name", onGoogle("names = [\"web-2\"]"), changed(nil), issuer),
		m(PolicyGCPMachine, "listed name, other id", onGoogle("names = [\"web-1\"]\ninstances = [\"12\"]"), changed(nil), issuer),
	}
}

// blind marks a mutation that leaves no machine to compare.
func blind(m mutation) mutation {
	m.blind = true
	return m
}

var onGoogleNumber = "[gcp]\nprojects = [\"4712\"]\nroots = " + pemText(googleRoot.cert)
