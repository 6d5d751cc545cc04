// SPDX-License-Identifier: Apache-2.0

// Package google puts into a software TPM what Google Cloud puts into its vTPMs, for development
// and tests: templates of attestation keys, and certificates of these keys, under a root of its
// own, which vouches for nothing.
package google

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/keys"
)

// Instance is the machine that certificates name if no other is asked for.
var Instance = keys.GoogleInstance{Project: "simulated-project", ProjectNumber: "4711", Zone: "simulated-zone-a", ID: "6524697943022743941", Name: "simulated-machine"}

// An Authority takes Google's place: a root, and an issuer below it.
type Authority struct {
	Root, Issuer *x509.Certificate

	key *ecdsa.PrivateKey // of Issuer
}

// New returns an authority that lives as long as the process.
func New() (*Authority, error) {
	root, err := newAuthority("EK/AK CA Root", nil)
	if err != nil {
		return nil, err
	}
	a, err := newAuthority("EK/AK CA Intermediate", root)
	if err != nil {
		return nil, err
	}
	a.Root = root.Issuer
	return a, nil
}

// newAuthority returns an authority whose Issuer has a new key, certified by above, or by itself.
func newAuthority(name string, above *Authority) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := template(name)
	t.IsCA, t.KeyUsage = true, x509.KeyUsageCertSign
	if above == nil {
		above = &Authority{Issuer: t, key: key}
	}
	der, err := above.sign(t, key.Public())
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	return &Authority{Issuer: c, key: key}, err
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{OrganizationalUnit: []string{"agentd simulated cloud, vouches for no hardware"}, CommonName: name},
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2045, 1, 1, 0, 0, 0, 0, time.UTC), BasicConstraintsValid: true,
	}
}

func (a *Authority) sign(t *x509.Certificate, key crypto.PublicKey) ([]byte, error) {
	return x509.CreateCertificate(rand.Reader, t, a.Issuer, key, a.key)
}

// files of an authority in a folder.
const (
	rootFile   = "google-root.pem"
	issuerFile = "google-issuer.pem"
	keyFile    = "google-issuer-key.pem"
)

// Open returns the authority kept in dir, made there if there is none.
func Open(dir string) (*Authority, error) {
	b, err := os.ReadFile(filepath.Join(dir, keyFile)) // written last
	if errors.Is(err, fs.ErrNotExist) {
		return keep(dir)
	}
	if err != nil {
		return nil, err
	}
	a := &Authority{}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM: remove it to make a new authority", filepath.Join(dir, keyFile))
	}
	if a.key, err = x509.ParseECPrivateKey(block.Bytes); err != nil {
		return nil, fmt.Errorf("%s: %w: remove it to make a new authority", filepath.Join(dir, keyFile), err)
	}
	for name, c := range map[string]**x509.Certificate{rootFile: &a.Root, issuerFile: &a.Issuer} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if block, _ = pem.Decode(b); block == nil {
			return nil, fmt.Errorf("%s is not PEM", filepath.Join(dir, name))
		}
		if *c, err = x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
		}
	}
	return a, nil
}

// keep makes an authority and writes it to dir.
func keep(dir string) (*Authority, error) {
	a, err := New()
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalECPrivateKey(a.key)
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name string
		b    []byte
	}{{rootFile, PEM(a.Root)}, {issuerFile, PEM(a.Issuer)}, {keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key})}} {
		if err := durable.WriteFile(filepath.Join(dir, f.name), f.b, 0o600); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// PEM returns a certificate as text.
func PEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// extension is what certificates say about a machine, as Google writes it.
type extension struct {
	Zone          string `asn1:"utf8"`
	ProjectNumber *big.Int
	Project       string `asn1:"utf8"`
	ID            *big.Int
	Name          string     `asn1:"utf8"`
	Properties    properties `asn1:"explicit,tag:0"`
}

type properties struct {
	SecurityVersion int  `asn1:"explicit,tag:0"`
	Production      bool `asn1:"explicit,tag:1"`
	Rest            bool `asn1:"explicit,tag:2"`
}

// Certify returns a certificate of an attestation key of the machine i, X.509 DER. Change, unless
// nil, changes it before it is signed.
func (a *Authority) Certify(key crypto.PublicKey, i keys.GoogleInstance, change func(*x509.Certificate)) ([]byte, error) {
	number, _ := new(big.Int).SetString(i.ProjectNumber, 10)
	id, ok := new(big.Int).SetString(i.ID, 10)
	if number == nil || !ok {
		return nil, fmt.Errorf("certify a machine: %q or %q is not a number", i.ProjectNumber, i.ID)
	}
	value, err := asn1.Marshal(extension{i.Zone, number, i.Project, id, i.Name, properties{Production: true, Rest: true}})
	if err != nil {
		return nil, err
	}
	t := template(i.ID)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 1, 21}, Value: value}}
	if change != nil {
		change(t)
	}
	return a.sign(t, key)
}

// Indices of a vTPM.
const (
	RSACertificate tpm2.TPMHandle = 0x01c10000 // its template is at the next index, as that of ECC
	ECCCertificate tpm2.TPMHandle = 0x01c10002
)

// Templates returns the templates of attestation keys, by the index of the certificate.
func Templates() map[tpm2.TPMHandle]tpm2.TPMTPublic {
	of := func(alg tpm2.TPMAlgID, parameters tpm2.TPMUPublicParms) tpm2.TPMTPublic {
		return tpm2.TPMTPublic{Type: alg, NameAlg: tpm2.TPMAlgSHA256, Parameters: parameters, ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true,
		}}
	}
	return map[tpm2.TPMHandle]tpm2.TPMTPublic{
		RSACertificate: of(tpm2.TPMAlgRSA, tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			KeyBits: 2048, Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})},
		})),
		ECCCertificate: of(tpm2.TPMAlgECC, tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256, Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
		})),
	}
}
