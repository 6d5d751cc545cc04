// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A way is the certificate of a key with those of issuers, through which it may lead to a root.
type way struct {
	leaf    *x509.Certificate
	issuers []*x509.Certificate
}

// forever is a time at which each certificate is valid after its period was replaced.
var forever = time.Unix(1, 0)

// Chain returns the certificates from the key's to one of roots, both included.
// It ignores periods of validity: see CheckValidity. If there are several
// chains, it prefers one that is valid at now. The caller checks revocation: makers publish
// their lists in different places.
func (c *way) Chain(roots []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	if len(roots) == 0 { // package x509 would use the roots of the system, which certify web sites
		return nil, errors.New("no roots were given")
	}
	original := make(map[string]*x509.Certificate)
	timeless := func(x *x509.Certificate) *x509.Certificate {
		original[string(x.Raw)] = x
		y := *x
		y.NotBefore, y.NotAfter = forever, forever
		return &y
	}
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: forever, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, x := range roots {
		o.Roots.AddCert(timeless(x))
	}
	for _, x := range c.leading(roots) {
		o.Intermediates.AddCert(timeless(x))
	}
	found, err := timeless(c.leaf).Verify(o)
	if err != nil {
		if missing := c.missing(roots); missing != nil {
			return nil, missing
		}
		return nil, err
	}
	var out []*x509.Certificate
	for _, chain := range found {
		for i, x := range chain {
			chain[i] = original[string(x.Raw)]
		}
		if err = strongIssuers(chain); err == nil && (out == nil || c.CheckValidity(out, now) != nil) {
			out = chain
		}
	}
	if out == nil {
		return nil, err
	}
	return out, nil
}

// leading returns the issuers from which a way leads to one of roots. It checks signatures from
// the roots down, so under keys that a root vouches for, and each issuer once under each of them.
// Package x509 goes up. It would try the ways through issuers that an attacker made and added: a
// hundred signatures for each certificate, under keys of the attacker's choice.
func (c *way) leading(roots []*x509.Certificate) (out []*x509.Certificate) {
	left := c.issuers
	for above := roots; len(above) > 0; {
		var found, others []*x509.Certificate
		for _, x := range left {
			if slices.ContainsFunc(above, func(y *x509.Certificate) bool {
				return bytes.Equal(x.RawIssuer, y.RawSubject) && x.CheckSignatureFrom(y) == nil
			}) {
				found = append(found, x)
			} else {
				others = append(others, x)
			}
		}
		out, above, left = append(out, found...), found, others
	}
	return out
}

// A MissingIssuerError says which certificate lacks between a key's and a root.
// Its texts are from certificates that nothing vouches for.
type MissingIssuerError struct {
	Subject string   // of the certificate whose issuer is missing (RFC 2253)
	Issuer  string   // subject of the missing certificate
	URLs    []string // addresses at which Subject says that it is, at most one
}

func (e *MissingIssuerError) Error() string {
	out := fmt.Sprintf("the certificate of the issuer %q of %q is missing", e.Issuer, e.Subject)
	for _, u := range e.URLs {
		out += fmt.Sprintf(": its certificate names %q for it", u)
	}
	return out
}

// missing returns which issuer ends the way from the certificate to roots, nil if another
// reason does.
func (c *way) missing(roots []*x509.Certificate) *MissingIssuerError {
	known := slices.Concat(c.issuers, roots)
	for at, steps := c.leaf, 0; steps <= len(known); steps++ {
		i := slices.IndexFunc(known, func(x *x509.Certificate) bool { return bytes.Equal(x.RawSubject, at.RawIssuer) })
		if i < 0 {
			out := &MissingIssuerError{Subject: at.Subject.String(), Issuer: at.Issuer.String()}
			if len(at.IssuingCertificateURL) > 0 {
				out.URLs = at.IssuingCertificateURL[:1]
			}
			return out
		}
		if at = known[i]; i >= len(c.issuers) || bytes.Equal(at.RawSubject, at.RawIssuer) {
			return nil // a root, or its imitation
		}
	}
	return nil
}

// strongIssuers checks that no issuer has a key that can be broken.
func strongIssuers(chain []*x509.Certificate) error {
	for _, x := range chain[1:] {
		if k, ok := x.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() < minIssuerRSA {
			return fmt.Errorf("issuer %q has an RSA key of %d bits, want at least %d", x.Subject, k.N.BitLen(), minIssuerRSA)
		}
	}
	return nil
}

// CheckValidity checks that each certificate of the chain is valid at now. If chain is nil,
// because none was found, it checks the certificate and the issuers that came with it.
func (c *way) CheckValidity(chain []*x509.Certificate, now time.Time) error {
	if chain == nil {
		chain = append([]*x509.Certificate{c.leaf}, c.issuers...)
	}
	for _, x := range chain {
		if now.Before(x.NotBefore) || now.After(x.NotAfter) {
			return fmt.Errorf("certificate of %q expired or is not yet valid: %s to %s", x.Subject, x.NotBefore.UTC().Format(time.RFC3339), x.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	return nil
}
