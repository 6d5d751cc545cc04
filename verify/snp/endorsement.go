// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
)

// MaxCertificate is the largest certificate in DER that is parsed, in bytes. Genuine ones
// take 1300 to 1700.
const MaxCertificate = 16 << 10

// EndorsementKey is a VCEK or VLEK certificate: the key that signs reports, and
// what its issuer says of it. It is unverified until [VerifyChain].
type EndorsementKey struct {
	Certificate *x509.Certificate
	Signer      Signer  // SignerVCEK or SignerVLEK
	Product     Product // from the productName extension
	ProductName string  // text of that extension, "Milan-B0" or "Genoa"
	TCB         TCB     // in the layout of Product
	HWID        []byte  // VCEK: 64 bytes, 8 on Turin; nil in a VLEK
	CSPID       string  // VLEK: the cloud it was loaded by; empty in a VCEK

	key *ecdsa.PublicKey
}

// ParseEndorsementKey parses a VCEK or VLEK certificate in DER: an ECDSA P-384 key
// with every extension that AMD defines for its processor, each once, and no other
// of AMD's (KDS, table "VCEK certificate extensions").
func ParseEndorsementKey(der []byte) (*EndorsementKey, error) {
	if len(der) > MaxCertificate {
		return nil, refuse(CodeCertificate, "endorsement key certificate").found("%d bytes", len(der)).want("at most %d", MaxCertificate)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, refuse(CodeCertificate, "endorsement key certificate").because(err)
	}
	return endorsementKey(c)
}

func endorsementKey(c *x509.Certificate) (*EndorsementKey, error) {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, refuse(CodeCertificate, "key of the endorsement key certificate").found("%s", keyKind(c)).want("ECDSA on P-384")
	}
	if c.Version != 3 {
		return nil, refuse(CodeCertificate, "endorsement key certificate").found("X.509 version %d", c.Version).want("3")
	}
	if c.IsCA {
		return nil, refuse(CodeCertificate, "endorsement key certificate").found("a certificate authority").want("a key that signs reports")
	}
	if len(c.UnhandledCriticalExtensions) != 0 {
		return nil, refuse(CodeCertificateExtension, "endorsement key certificate").found("critical extension %v", c.UnhandledCriticalExtensions[0]).want("none that is not understood")
	}
	leaf := &EndorsementKey{Certificate: c, key: key}
	switch name := c.Subject.CommonName; name {
	case "SEV-VCEK":
		leaf.Signer = SignerVCEK
	case "SEV-VLEK":
		leaf.Signer = SignerVLEK
	default:
		return nil, refuse(CodeCertificate, "subject of the endorsement key certificate").found("common name %q", name).want("SEV-VCEK or SEV-VLEK")
	}
	if err := leaf.readExtensions(); err != nil {
		return nil, err
	}
	return leaf, nil
}

func keyKind(c *x509.Certificate) string {
	if k, ok := c.PublicKey.(*ecdsa.PublicKey); ok {
		return "ECDSA on " + k.Curve.Params().Name
	}
	return fmt.Sprint(c.PublicKeyAlgorithm)
}
