// SPDX-License-Identifier: Apache-2.0

package relying

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify"
)

// Lifetimes of certificates of attestation keys. Such a certificate is shown to a certification authority
// once, seconds after it was made. Until it ends, root of the machine can show it again.
const (
	DefaultCertificateLifetime = 10 * time.Minute // if nothing else is said
	MaxCertificateLifetime     = 24 * time.Hour
	minCertificateLifetime     = time.Minute // what ends sooner is not issued: it would end on its way
	certificateBackdate        = time.Minute // for clocks that are late
)

// MaxIdentifier is how many bytes a permanent identifier has at most: a common name has no more (RFC 5280,
// appendix A).
const MaxIdentifier = 64

// maxIssuers is how many certificates the chain of an authority has at most.
const maxIssuers = 8

// Authority certifies attestation keys of accepted evidence, for a certification authority that takes an
// attestation of a TPM (ACME, challenge device-attest-01). docs/acme.md has the profile of the
// certificates, and what they do not say.
type Authority struct {
	// Chain is the certificate of the authority, then those of its issuers. A root may be left out.
	Chain []*x509.Certificate
	// Key is the private key of the first certificate.
	Key crypto.Signer
	// Lifetime of a certificate. It also ends with the authority's chain, and with what the appraisal
	// rests on ([verify.Appraisal.SupportedUntil]). 0: DefaultCertificateLifetime.
	Lifetime time.Duration
	// Identify returns the permanent identifier of the machine of accepted evidence: 1 to
	// MaxIdentifier letters, digits, '-' and '.'. If it returns none, nothing is certified. nil: the
	// hexadecimal digest in the name of the attestation key, which is [keys.Name] without "000b".
	Identify func(ctx context.Context, ak keys.Name, a *verify.Appraisal) (string, error)
}

// AKCertificate is a certificate of the attestation key of accepted evidence.
type AKCertificate struct {
	Chain               []evidence.Bytes `json:"chain"`               // X.509 DER: the certificate, then those of its issuers
	PermanentIdentifier string           `json:"permanentIdentifier"` // name of the machine in it
	NotAfter            time.Time        `json:"notAfter"`            // end of its validity
}

// check reports why an authority cannot certify.
func (a *Authority) check() error {
	if a.Key == nil || len(a.Chain) == 0 || len(a.Chain) > maxIssuers {
		return fmt.Errorf("relying: an authority needs a key, and 1 to %d certificates", maxIssuers)
	}
	if a.Lifetime < 0 || a.Lifetime > MaxCertificateLifetime {
		return fmt.Errorf("relying: certificates of attestation keys last %v at most", MaxCertificateLifetime)
	}
	own, err := x509.MarshalPKIXPublicKey(a.Key.Public())
	if err != nil {
		return fmt.Errorf("relying: key of the authority: %w", err)
	}
	if !bytes.Equal(own, a.Chain[0].RawSubjectPublicKeyInfo) {
		return errors.New("relying: the first certificate of the authority is of another key: put it first, then its issuers")
	}
	for i, c := range a.Chain {
		if !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
			return fmt.Errorf("relying: certificate %d of the authority, %q, may not issue certificates (basic constraints, key usage)", i+1, c.Subject)
		}
		if i > 0 {
			if err := a.Chain[i-1].CheckSignatureFrom(c); err != nil {
				return fmt.Errorf("relying: certificate %d of the authority was not issued by the next one: %w", i, err)
			}
		}
	}
	return nil
}

// errNotCertified says why accepted evidence gets no certificate. The client learns of it.
type errNotCertified string

func (e errNotCertified) Error() string { return string(e) }

// certify returns a certificate of the attestation key of accepted evidence.
func (a *Authority) certify(ctx context.Context, ak *keys.Public, x *verify.Appraisal, now time.Time) (*AKCertificate, error) {
	// A report that does not commit to the attestation key would leave it to the client which key that
	// is.
	if ak == nil || x.Verdict != verify.Pass || x.Binding.Rank() < verify.BindingGuestAsserted.Rank() {
		return nil, errNotCertified("nothing ties the attestation key to the report")
	}
	name := ak.Name()
	identifier := name.String()[len(digestPrefix):]
	if a.Identify != nil {
		var err error
		if identifier, err = a.Identify(ctx, name, x); err != nil {
			return nil, fmt.Errorf("permanent identifier: %w", err)
		}
	}
	if identifier == "" {
		return nil, errNotCertified("the machine has no name here: have it enrolled, and the enrolment approved")
	}
	if !isIdentifier(identifier) {
		return nil, fmt.Errorf("permanent identifier %q: want 1 to %d letters, digits, '-' and '.'", identifier, MaxIdentifier)
	}
	from, until := a.validity(x, now)
	if until.Sub(now) < minCertificateLifetime {
		return nil, errNotCertified(fmt.Sprintf("a certificate would end at %s: what the appraisal rests on, or the authority, ends then", until.UTC().Format(time.RFC3339)))
	}
	der, err := a.sign(ak, identifier, x, from, until)
	if err != nil {
		return nil, fmt.Errorf("certify an attestation key: %w", err)
	}
	out := &AKCertificate{Chain: []evidence.Bytes{der}, PermanentIdentifier: identifier, NotAfter: until.UTC()}
	for _, c := range a.Chain {
		out.Chain = append(out.Chain, c.Raw)
	}
	return out, nil
}

// digestPrefix is what names of TPM objects begin with here: SHA-256.
const digestPrefix = "000b"

// isIdentifier reports whether a text may be a permanent identifier. It is compared, shown to people, and
// part of names.
func isIdentifier(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' {
			return false
		}
	}
	return s != "" && len(s) <= MaxIdentifier
}

// validity returns the first and the last moment of a certificate, whole seconds.
func (a *Authority) validity(x *verify.Appraisal, now time.Time) (from, until time.Time) {
	lifetime := a.Lifetime
	or(&lifetime, DefaultCertificateLifetime)
	from, until = now.Add(-certificateBackdate), now.Add(lifetime)
	ends := []time.Time{x.SupportedUntil}
	for _, c := range a.Chain {
		ends = append(ends, c.NotAfter)
		if from.Before(c.NotBefore) {
			from = c.NotBefore
		}
	}
	for _, e := range ends {
		if !e.IsZero() && e.Before(until) {
			until = e
		}
	}
	return from.Truncate(time.Second), until.Truncate(time.Second)
}

// sign makes the certificate. Its profile is that of TCG's Credential Profile for EK certificates (TPM 2.0,
// section 3.2) as W3C's Web Authentication asks for it in section 8.3.1: version 3, no subject, the name
// of the TPM in the subject alternative name, tcg-kp-AIKCertificate, not an authority.
func (a *Authority) sign(ak *keys.Public, identifier string, x *verify.Appraisal, from, until time.Time) ([]byte, error) {
	key, err := ak.Key()
	if err != nil {
		return nil, err
	}
	names, err := alternativeName(identifier, fmt.Sprintf("%s %s", x.Binding, x.AKOrigin))
	if err != nil {
		return nil, err
	}
	serial := make([]byte, 16)
	rand.Read(serial)                 // it never fails: the process ends otherwise
	serial[0] = serial[0]&0x7f | 0x40 // positive, and of one length
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{oidAIKCertificate},
		ExtraExtensions:    names,
	}
	return x509.CreateCertificate(rand.Reader, template, a.Chain[0], key, a.Key)
}
