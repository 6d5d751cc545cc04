// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"crypto/x509"
	"time"
)

// MaxRevocationList is the largest revocation list that is parsed, in bytes.
const MaxRevocationList = 1 << 20

// RevocationList is a list by a root key. VCEKs and VLEKs have serial number 0,
// so a list can name only the intermediate and the root itself.
type RevocationList struct {
	list *x509.RevocationList
}

// ParseRevocationList parses a list in DER, as AMD's key distribution service gives it.
func ParseRevocationList(der []byte) (*RevocationList, error) {
	if len(der) > MaxRevocationList {
		return nil, refuse(CodeCRL, "revocation list").found("%d bytes", len(der)).want("at most %d", MaxRevocationList)
	}
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		if what := Recognise(der); what != "" {
			return nil, refuse(CodeCRL, "revocation list").found("%s", what).want("a list in DER")
		}
		return nil, refuse(CodeCRL, "revocation list").because(err)
	}
	// A critical extension changes what the list means: which certificates it is about,
	// or that it contains only what changed since another (RFC 5280, section 5.2).
	for _, x := range l.Extensions {
		if x.Critical {
			return nil, refuse(CodeCRL, "revocation list").found("critical extension %v", x.Id).want("none, as AMD's lists have")
		}
	}
	for _, entry := range l.RevokedCertificateEntries {
		for _, x := range entry.Extensions {
			if x.Critical {
				return nil, refuse(CodeCRL, "entry of the revocation list").found("critical extension %v", x.Id).want("none, as AMD's lists have")
			}
		}
	}
	return &RevocationList{l}, nil
}

// Bytes returns a copy of the list in DER, as it was parsed.
func (l *RevocationList) Bytes() []byte { return bytes.Clone(l.list.Raw) }

// For reports whether the list is by the root of chain, going by its name.
func (l *RevocationList) For(c *Chain) bool {
	return string(l.list.RawIssuer) == string(c.Root.RawSubject)
}

// ThisUpdate returns the start of the time in which the list may be used.
func (l *RevocationList) ThisUpdate() time.Time { return l.list.ThisUpdate }

// NextUpdate returns the end of that time; zero if the list does not say.
func (l *RevocationList) NextUpdate() time.Time { return l.list.NextUpdate }

// Check makes the checks of [RevocationList.CheckIssuer], then of [RevocationList.CheckAt].
func (l *RevocationList) Check(c *Chain, at time.Time) error {
	if err := l.CheckIssuer(c); err != nil {
		return err
	}
	return l.CheckAt(c, at)
}

// CheckIssuer checks that the root of chain signed the list. It says nothing that
// changes with time.
func (l *RevocationList) CheckIssuer(c *Chain) error {
	if !l.For(c) {
		return refuse(CodeCRL, "issuer of the revocation list").found("%q", l.list.Issuer.CommonName).want("%q", c.Root.Subject.CommonName)
	}
	if l.list.SignatureAlgorithm != x509.SHA384WithRSAPSS {
		return refuse(CodeCRLSignature, "signature of the revocation list").found("%v", l.list.SignatureAlgorithm).want("%v", x509.SHA384WithRSAPSS)
	}
	if err := l.list.CheckSignatureFrom(c.Root); err != nil {
		return refuse(CodeCRLSignature, "signature of the revocation list").found("not by %q", c.Root.Subject.CommonName).because(err)
	}
	return nil
}

// CheckAt checks that a list by the root of chain, see [RevocationList.CheckIssuer], may
// be used at that time and contains neither intermediate nor root. A list without an end,
// or after it, is refused: an attacker who withholds a newer one would otherwise keep a
// revoked key alive. What such a list revokes stays revoked.
func (l *RevocationList) CheckAt(c *Chain, at time.Time) error {
	stale := refuse(CodeCRLStale, "revocation list").found("%s", day(at)).want("%s to %s", day(l.list.ThisUpdate), day(l.list.NextUpdate))
	if at.Before(l.list.ThisUpdate) {
		return stale
	}
	for _, entry := range l.list.RevokedCertificateEntries {
		for _, cert := range []*x509.Certificate{c.Intermediate, c.Root} {
			if entry.SerialNumber.Cmp(cert.SerialNumber) == 0 {
				return refuse(CodeRevoked, "certificate %q", cert.Subject.CommonName).found("revoked at %s", day(entry.RevocationTime)).want("not revoked")
			}
		}
	}
	// No NextUpdate reads as the zero time, which is past.
	if at.After(l.list.NextUpdate) {
		return stale
	}
	return nil
}
