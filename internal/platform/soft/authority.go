// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/verify/snp"
)

// Authority takes AMD's place: a root key (ARK), and under it the keys that
// issue VCEKs (ASK) and VLEKs (ASVK), RSA-4096 as the genuine ones. One authority
// serves all products, with certificates for each. Its methods may be called by many
// goroutines.
type Authority struct {
	dir string // folder of keys and certificates; "" keeps none

	mu    sync.Mutex // guards the two below
	keys  map[role]*rsa.PrivateKey
	certs map[string]*x509.Certificate // by role and product
}

// role is one of the keys of an authority; it names files too.
type role string

const (
	ark  role = "ark"
	ask  role = "ask"
	asvk role = "asvk"
)

const keyBits = 4096

// NewAuthority returns an authority that lives as long as the process.
func NewAuthority() *Authority {
	return &Authority{keys: map[role]*rsa.PrivateKey{}, certs: map[string]*x509.Certificate{}}
}

// OpenAuthority returns the authority kept in dir, made there if there is none.
func OpenAuthority(dir string) (*Authority, error) {
	a := NewAuthority()
	a.dir = dir
	return a, makeFolder(dir)
}

// SharedAuthority returns one authority for the whole process: tests that make many
// platforms make its keys, which takes seconds, only once.
var SharedAuthority = sync.OnceValue(NewAuthority)

// Root returns the root certificate for p, which a verifier must be handed by name.
func (a *Authority) Root(p snp.Product) (*x509.Certificate, error) { return a.certificate(ark, p) }

// Intermediate returns the certificate of the key that issues for signer on p.
func (a *Authority) Intermediate(p snp.Product, s snp.Signer) (*x509.Certificate, error) {
	if s == snp.SignerVLEK {
		return a.certificate(asvk, p)
	}
	return a.certificate(ask, p)
}

// ChainPEM returns intermediate and root, in the order in which AMD's key distribution
// service serves them.
func (a *Authority) ChainPEM(p snp.Product, s snp.Signer) ([]byte, error) {
	i, err := a.Intermediate(p, s)
	if err != nil {
		return nil, err
	}
	r, err := a.Root(p)
	if err != nil {
		return nil, err
	}
	return append(encodePEM(i.Raw), encodePEM(r.Raw)...), nil
}

func encodePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func (a *Authority) certificate(r role, p snp.Product) (*x509.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, err := snp.ParseProduct(p.String()); err != nil {
		return nil, fmt.Errorf("test root: %w", err)
	}
	id := string(r) + "-" + p.String()
	if c := a.certs[id]; c != nil {
		return c, nil
	}
	if c, err := a.load(id); c != nil || err != nil {
		a.certs[id] = c
		return c, err
	}
	rootKey, err := a.key(ark)
	if err != nil {
		return nil, err
	}
	key, err := a.key(r)
	if err != nil {
		return nil, err
	}
	template, parent := authorityTemplate(r, p), authorityTemplate(ark, p)
	if r == ark {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), rootKey)
	if err != nil {
		return nil, fmt.Errorf("make %s certificate of the test root: %w", id, err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a.certs[id] = c
	return c, a.store(id+".pem", encodePEM(der))
}

// authorityTemplate follows AMD's certificates but for the root's subject, which
// says what it is, and the serial number in the intermediates' subjects: the rest
// of their names has to be AMD's, or other verifiers would not read on.
func authorityTemplate(r role, p snp.Product) *x509.Certificate {
	t := &x509.Certificate{
		SignatureAlgorithm:    x509.SHA384WithRSAPSS,
		NotBefore:             time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(2045, 1, 1, 0, 0, 0, 0, time.UTC),
		BasicConstraintsValid: true,
		IsCA:                  true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	switch r {
	case ark:
		t.SerialNumber = big.NewInt(0x10000)
		t.KeyUsage |= x509.KeyUsageCRLSign
		t.Subject = pkix.Name{
			Organization:       []string{"agentd software platform"},
			OrganizationalUnit: []string{"vouches for no hardware"},
			CommonName:         "TEST ROOT ARK-" + p.String(),
		}
	case ask:
		t.SerialNumber = big.NewInt(0x10001)
		t.MaxPathLenZero = true
		t.Subject = amdName("SEV-" + p.String())
	case asvk:
		t.SerialNumber = big.NewInt(0x10101)
		t.MaxPathLenZero = true
		t.Subject = amdName("SEV-VLEK-" + p.String())
	}
	return t
}

// testMark is in every subject below the root.
const testMark = "TEST, NOT AMD"

func amdName(commonName string) pkix.Name {
	return pkix.Name{
		OrganizationalUnit: []string{"Engineering"},
		Country:            []string{"US"},
		Locality:           []string{"Santa Clara"},
		Province:           []string{"CA"},
		Organization:       []string{"Advanced Micro Devices"},
		SerialNumber:       testMark,
		CommonName:         commonName,
	}
}

// RevocationList returns a list by the root for p that names the serial numbers, DER.
func (a *Authority) RevocationList(p snp.Product, thisUpdate, nextUpdate time.Time, serials ...*big.Int) ([]byte, error) {
	root, err := a.Root(p)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	key, err := a.key(ark)
	if err != nil {
		return nil, err
	}
	l := &x509.RevocationList{SignatureAlgorithm: x509.SHA384WithRSAPSS, Number: big.NewInt(1), ThisUpdate: thisUpdate, NextUpdate: nextUpdate}
	for _, s := range serials {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: thisUpdate})
	}
	return x509.CreateRevocationList(rand.Reader, l, root, key)
}
