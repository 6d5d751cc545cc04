// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
)

// Object identifiers in EK certificates (TCG EK Credential Profile, section 3.2).
var (
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17} // maker, model and version of the TPM
	oidRSAESOAEP      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
	oidEKCertificate  = asn1.ObjectIdentifier{2, 23, 133, 8, 1} // tcg-kp-EKCertificate
)

// MaxEKCertificates is the most certificates of an endorsement key: its own and those of
// its issuers.
const MaxEKCertificates = 8

// RSA moduli of issuers, in bits. An attacker can put a longer one into a certificate, and
// then one signature keeps a processor busy for seconds.
const (
	minIssuerRSA = 2048
	maxIssuerRSA = 8192
)

// An EKCertificate is the certificate of an endorsement key with those of issuers,
// unverified. Each method is one check, in the order in which a verifier makes them.
// [VerifyEKCertificate] makes them all.
type EKCertificate struct{ way }

// ParseEKCertificate parses 1 to [MaxEKCertificates] certificates, X.509 DER of at
// most evidence.MaxCertificate bytes each: first the endorsement key's, then issuers in
// any order.
func ParseEKCertificate(ders [][]byte) (*EKCertificate, error) {
	if len(ders) == 0 || len(ders) > MaxEKCertificates {
		return nil, fmt.Errorf("%d certificates of an endorsement key and its issuers, want 1 to %d", len(ders), MaxEKCertificates)
	}
	all := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		if len(der) == 0 || len(der) > evidence.MaxCertificate {
			return nil, fmt.Errorf("certificate %d of an endorsement key: %d bytes, want 1 to %d", i, len(der), evidence.MaxCertificate)
		}
		var err error
		if all[i], err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("certificate %d of an endorsement key: %w", i, err)
		}
		if k, ok := all[i].PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxIssuerRSA {
			return nil, fmt.Errorf("certificate %d of an endorsement key: RSA key of %d bits, want at most %d", i, k.N.BitLen(), maxIssuerRSA)
		}
	}
	// The alternative name is a directory name, critical if the subject is empty. Package
	// x509 does not handle that. Nothing here relies on the name.
	all[0].UnhandledCriticalExtensions = slices.DeleteFunc(all[0].UnhandledCriticalExtensions, oidSubjectAltName.Equal)
	return &EKCertificate{way{leaf: all[0], issuers: all[1:]}}, nil
}

// CheckKey checks that the certificate is that of the endorsement key with this name.
// Without this check the certificate of any TPM of the same maker would pass.
func (c *EKCertificate) CheckKey(ek Name) error {
	key, err := subjectKey(c.leaf)
	if err != nil {
		return err
	}
	names, err := ekNames(key)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(names, ek.Equal) {
		return fmt.Errorf("it certifies another key: endorsement key %s, want %s", names[0], ek)
	}
	return nil
}

// CheckUsage checks that the certificate is one for an endorsement key. An authority that
// certifies TPMs may certify other things too.
func (c *EKCertificate) CheckUsage() error {
	if c.leaf.IsCA {
		return errors.New("it is a certificate of an authority, want one of an endorsement key")
	}
	if usages := len(c.leaf.ExtKeyUsage) + len(c.leaf.UnknownExtKeyUsage); usages > 0 && !slices.ContainsFunc(c.leaf.UnknownExtKeyUsage, oidEKCertificate.Equal) {
		return fmt.Errorf("its extended key usage is not that of an endorsement key (%v)", oidEKCertificate)
	}
	return nil
}

// VerifyEKCertificate checks that the first of ders (X.509 DER, 1 to [MaxEKCertificates])
// certifies the endorsement key ek under one of roots at the time now. It returns the
// subject of that root (RFC 2253). The other ders may be intermediate issuers.
func VerifyEKCertificate(ders [][]byte, ek *Public, roots []*x509.Certificate, now time.Time) (issuer string, err error) {
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("verify the certificate of endorsement key %s: %w", ek.name, err)
	}
	if now.IsZero() { // a caller that forgot the time
		return fail(errors.New("no time was given"))
	}
	c, err := ParseEKCertificate(ders)
	if err != nil {
		return fail(err)
	}
	if err := errors.Join(c.CheckKey(ek.name), c.CheckUsage()); err != nil {
		return fail(err)
	}
	chain, err := c.Chain(roots, now)
	if err != nil {
		return fail(err)
	}
	if err := c.CheckValidity(chain, now); err != nil {
		return fail(err)
	}
	return chain[len(chain)-1].Subject.String(), nil
}

// subjectKey returns the key that c certifies. Some makers mark RSA keys as keys for OAEP
// (RFC 4055, section 1.2: id-RSAES-OAEP), which package x509 does not parse.
func subjectKey(c *x509.Certificate) (crypto.PublicKey, error) {
	if c.PublicKey != nil {
		return c.PublicKey, nil
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	rest, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &info)
	if err != nil || len(rest) > 0 || !info.Algorithm.Algorithm.Equal(oidRSAESOAEP) {
		return nil, errors.New("it certifies a key of an unknown kind")
	}
	k, err := x509.ParsePKCS1PublicKey(info.Key.RightAlign())
	if err != nil {
		return nil, fmt.Errorf("it certifies an RSA key for OAEP: %w", err)
	}
	return k, nil
}

// A Bundle is a list of certificates, X.509 DER. As text it is PEM (RFC 7468, section 5):
// the blocks of the certificates and nothing else, so that other tools can read it in a
// record or a policy.
type Bundle [][]byte

const pemCertificate = "CERTIFICATE"

// MarshalText encodes b as PEM.
func (b Bundle) MarshalText() ([]byte, error) {
	var out []byte
	for _, der := range b {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})...)
	}
	return out, nil
}

// UnmarshalText decodes PEM of 1 to [MaxEKCertificates] certificates, each of which
// must parse. Any spelling other than that of [Bundle.MarshalText] is an error, except for
// white space before and after it.
func (b *Bundle) UnmarshalText(text []byte) error {
	text = bytes.TrimSpace(text)
	if len(text) > MaxEKCertificates*2*evidence.MaxCertificate {
		return fmt.Errorf("certificates in %d bytes of PEM, want at most %d", len(text), MaxEKCertificates*2*evidence.MaxCertificate)
	}
	var out Bundle
	for rest := text; len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != pemCertificate {
			return fmt.Errorf("PEM of certificates: block %d is not a certificate", len(out))
		}
		if len(out) == MaxEKCertificates || len(block.Bytes) > evidence.MaxCertificate {
			return fmt.Errorf("PEM of certificates: want at most %d, of at most %d bytes each", MaxEKCertificates, evidence.MaxCertificate)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("PEM of certificates: block %d: %w", len(out), err)
		}
		out = append(out, block.Bytes)
	}
	if len(out) == 0 {
		return errors.New("PEM of certificates: it contains no certificate")
	}
	again, err := out.MarshalText()
	if err != nil {
		return err
	}
	// pem.Decode skips text between the blocks.
	if !bytes.Equal(bytes.TrimSpace(again), text) {
		return errors.New("PEM of certificates: want only certificates, with lines of 64 characters, as openssl x509 writes them")
	}
	*b = out
	return nil
}
