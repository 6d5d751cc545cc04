// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
)

// Google's authority for the keys of vTPMs: a root, and the issuer of certificates of
// attestation keys. The issuer's certificate names
// http://privateca-content-62d71773-0000-21da-852e-f4f5e80d7778.storage.googleapis.com/032bf9d39db4fa06aade/ca.crt
// as the place of the root. A test compares both with those of go-tpm-tools.
var (
	//go:embed google/root.pem
	googleRoot []byte
	//go:embed google/intermediate.pem
	googleIssuer []byte
)

// googlePin is the SHA-256 of the root's certificate in DER, hexadecimal.
const googlePin = "594759594b9b61524f6c8ef668f7177f7b9066bc0674f2f49fe9e052be78beb2"

// GoogleRoot returns the root of the certificates that Google Cloud makes for attestation keys
// of its vTPMs, and the issuer below it that is known. They are part of the program.
func GoogleRoot() (root, issuer *x509.Certificate, err error) {
	if root, err = builtIn(googleRoot); err != nil {
		return nil, nil, err
	}
	if got := sha256.Sum256(root.Raw); hex.EncodeToString(got[:]) != googlePin {
		return nil, nil, fmt.Errorf("built-in root of Google Cloud: fingerprint %x, want %s", got, googlePin)
	}
	issuer, err = builtIn(googleIssuer)
	return root, issuer, err
}

func builtIn(text []byte) (*x509.Certificate, error) {
	b, _ := pem.Decode(text)
	if b == nil {
		return nil, errors.New("built-in certificate of Google Cloud: it is not PEM")
	}
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("built-in certificate of Google Cloud: %w", err)
	}
	return c, nil
}

// oidGoogleInstance names the extension with the machine that a vTPM belongs to, in
// certificates of Google Cloud.
var oidGoogleInstance = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 1, 21}

// A GoogleInstance is the machine that a certificate of Google Cloud names.
type GoogleInstance struct {
	Project       string `json:"project"`       // id, such as "my-project"
	ProjectNumber string `json:"projectNumber"` // of the same project, decimal
	Zone          string `json:"zone"`          // such as "europe-west4-a"
	ID            string `json:"id"`            // of the machine, chosen by Google, decimal: it has 64 bits, which JSON readers round
	Name          string `json:"name"`          // of the machine, chosen by its owner
}

// instance is the extension. All of a machine's certificates have it, also that of the
// endorsement key. The properties have an explicit tag each; those after the second are not
// looked at.
type instance struct {
	Zone          string `asn1:"utf8"`
	ProjectNumber *big.Int
	Project       string `asn1:"utf8"`
	ID            *big.Int
	Name          string     `asn1:"utf8"`
	Properties    properties `asn1:"explicit,optional,tag:0"`
}

type properties struct {
	SecurityVersion *big.Int `asn1:"explicit,optional,tag:0"`
	Production      bool     `asn1:"explicit,optional,tag:1"`
}

// An AKCertificate is a certificate that a cloud made for the attestation key of a vTPM, with
// those of issuers, unverified. Each method is one check, in the order in which a verifier makes
// them.
type AKCertificate struct{ way }

// GoogleAKCertificates returns those of ders (X.509 DER, of any kind and in any order) that name
// a machine of Google Cloud, each with all others as issuers. It skips what does not parse.
func GoogleAKCertificates(ders [][]byte) (all []*AKCertificate) {
	mark, err := asn1.Marshal(oidGoogleInstance)
	if err != nil || !slices.ContainsFunc(ders, func(der []byte) bool { return bytes.Contains(der, mark) }) {
		return nil // most evidence
	}
	var issuers []*x509.Certificate
	for _, der := range ders {
		if len(der) > evidence.MaxCertificate {
			continue
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			continue
		}
		if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxIssuerRSA {
			continue
		}
		if c.IsCA {
			issuers = append(issuers, c)
		} else if extension(c) != nil {
			c.UnhandledCriticalExtensions = slices.DeleteFunc(c.UnhandledCriticalExtensions, oidGoogleInstance.Equal)
			all = append(all, &AKCertificate{way{leaf: c}})
		}
	}
	for _, c := range all {
		c.issuers = issuers
	}
	return all
}

func extension(c *x509.Certificate) []byte {
	for _, e := range c.Extensions { // package x509 refuses one that is there twice
		if e.Id.Equal(oidGoogleInstance) {
			return e.Value
		}
	}
	return nil
}

// Encoded returns the certificate and those of issuers, X.509 DER.
func (c *AKCertificate) Encoded() [][]byte {
	out := [][]byte{c.leaf.Raw}
	for _, x := range c.issuers {
		out = append(out, x.Raw)
	}
	return out
}

// CheckKey checks that the certificate is that of this attestation key. Without this check the
// certificate of any other machine would pass.
func (c *AKCertificate) CheckKey(ak crypto.PublicKey) error {
	k, ok := ak.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !k.Equal(c.leaf.PublicKey) {
		return fmt.Errorf("it certifies another key, of the subject %q", c.leaf.Subject)
	}
	return nil
}

// CheckUsage checks that the certificate is one for a key that signs, and for that alone. Google
// certifies endorsement keys under the same issuers, with another usage.
func (c *AKCertificate) CheckUsage() error {
	if c.leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		return errors.New("its key usage is not digitalSignature alone")
	}
	return nil
}

// Instance returns the machine that the certificate names. It refuses a certificate that was not
// issued for production.
func (c *AKCertificate) Instance() (*GoogleInstance, error) {
	var x instance
	rest, err := asn1.Unmarshal(extension(c.leaf), &x)
	switch {
	case err != nil:
		return nil, fmt.Errorf("its extension %v cannot be read: %w", oidGoogleInstance, err)
	case len(rest) > 0:
		return nil, fmt.Errorf("bytes follow in its extension %v", oidGoogleInstance)
	case !x.ProjectNumber.IsUint64() || !x.ID.IsUint64():
		return nil, fmt.Errorf("its extension %v has a number that is negative or too large", oidGoogleInstance)
	case !x.Properties.Production:
		return nil, errors.New("it was not issued for production")
	}
	for _, part := range []struct{ name, value string }{{"zone", x.Zone}, {"project", x.Project}, {"name of the machine", x.Name}} {
		if err := text.Check("the "+part.name, part.value, 1, evidence.MaxName); err != nil {
			return nil, fmt.Errorf("its extension %v: %w", oidGoogleInstance, err)
		}
	}
	return &GoogleInstance{Project: x.Project, ProjectNumber: x.ProjectNumber.String(), Zone: x.Zone, ID: x.ID.String(), Name: x.Name}, nil
}
