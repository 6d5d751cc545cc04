package keys

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
)

// What stands in EK certificates (TCG EK Credential Profile, section 3.2).
var (
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17} // names the TPM's maker, model and version
	oidRSAESOAEP      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
	oidEKCertificate  = asn1.ObjectIdentifier{2, 23, 133, 8, 1} // tcg-kp-EKCertificate
	errNoEKUsage      = errors.New("its extended key usage is not that of an endorsement key")
	errOtherKey       = errors.New("it certifies another key")
)

// VerifyEKCertificate checks that der certifies the endorsement key ek under one of
// roots at the time now, and returns the subject of that root. Intermediates may be
// nil. Revocation is the caller's to check: makers publish their lists in different
// places.
func VerifyEKCertificate(der []byte, ek *Public, roots, intermediates *x509.CertPool, now time.Time) (issuer string, err error) {
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("verify the certificate of endorsement key %s: %w", ek.name, err)
	}
	if len(der) == 0 || len(der) > evidence.MaxCertificate {
		return fail(fmt.Errorf("%d bytes, want 1 to %d", len(der), evidence.MaxCertificate))
	}
	if roots == nil { // nil would mean the roots of the system, which certify web sites
		return fail(errors.New("no roots were given"))
	}
	if now.IsZero() { // zero would mean the clock of this machine
		return fail(errors.New("no time was given"))
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return fail(err)
	}
	want, err := ek.Key()
	if err != nil {
		return fail(err)
	}
	got, err := subjectKey(c)
	if err != nil {
		return fail(err)
	}
	if k, ok := got.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(want) {
		return fail(errOtherKey)
	}
	if c.IsCA {
		return fail(errors.New("it is that of an authority"))
	}
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 && !slices.ContainsFunc(c.UnknownExtKeyUsage, oidEKCertificate.Equal) {
		return fail(errNoEKUsage)
	}
	// The alternative name is a directory name, critical where the subject is empty,
	// which package x509 does not handle. It says nothing that is relied on here.
	c.UnhandledCriticalExtensions = slices.DeleteFunc(c.UnhandledCriticalExtensions, oidSubjectAltName.Equal)
	chains, err := c.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fail(err)
	}
	chain := chains[0]
	return chain[len(chain)-1].Subject.String(), nil
}

// subjectKey is the key that c certifies. Some makers mark RSA keys as keys for OAEP
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
