// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strconv"
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
	c, err := parseDER("endorsement key certificate", der)
	if err != nil {
		return nil, err
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

// Arc is AMD's object identifier 1.3.6.1.4.1.3704.1; below it (KDS, table "VCEK
// certificate extensions"):
//
//	.1    structVersion  INTEGER
//	.2    productName    IA5String
//	.3.N  patch level N  INTEGER 0 to 255, see layouts
//	.4    hwID           64 or 8 bytes, with or without an OCTET STRING around them; VCEK
//	.5    cspID          IA5String; VLEK
var arc = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}

const (
	hwidSize      = 64 // Milan, Genoa
	hwidSizeTurin = 8  // Turin
	maxText       = 256
)

func (e *EndorsementKey) readExtensions() error {
	x := extensionsOf(e.Certificate.Extensions)
	x.integer("1", "structVersion")
	e.ProductName = x.text("2", "productName")
	if x.err == nil {
		e.Product, x.err = parseProductName(e.ProductName)
	}
	for i, l := range layouts[e.Product] {
		e.TCB |= TCB(x.integer("3."+strconv.Itoa(l.oid), "patch level")) << (8 * i)
	}
	if e.Signer == SignerVCEK {
		e.HWID = x.hwid(e.Product)
	} else {
		e.CSPID = x.text("5", "cspID")
	}
	// What is left has a meaning that this package does not know: perhaps another
	// patch level, which would then go unchecked.
	for oid := range x.values {
		x.fail(refuse(CodeCertificateExtension, "extension %v.%s of a %v certificate for %v", arc, oid, e.Signer, e.Product).found("present").want("no extension that is not known"))
	}
	return x.err
}

// extensions are AMD's extensions of a certificate. What is read means something only if
// err stays nil.
type extensions struct {
	values map[string][]byte // by the rest of their identifier after arc; reading one takes it out
	err    error             // the first refusal
}

func (x *extensions) fail(err *Error) {
	if x.err == nil {
		x.err = err
	}
}

func extensionsOf(list []pkix.Extension) *extensions {
	x := &extensions{values: make(map[string][]byte)}
	for _, e := range list {
		if len(e.Id) <= len(arc) || !slices.Equal(e.Id[:len(arc)], arc) {
			continue
		}
		rest := e.Id[len(arc):].String()
		if _, twice := x.values[rest]; twice {
			x.fail(refuse(CodeCertificateExtension, "extension %v", e.Id).found("twice").want("once"))
		}
		x.values[rest] = e.Value
	}
	return x
}

func (x *extensions) take(oid, name string) []byte {
	v, ok := x.values[oid]
	if !ok {
		x.fail(refuse(CodeCertificateExtension, "extension %v.%s (%s)", arc, oid, name).found("none").want("one"))
	}
	delete(x.values, oid)
	return v
}

func (x *extensions) integer(oid, name string) uint8 {
	v := x.take(oid, name)
	var n int
	if rest, err := asn1.Unmarshal(v, &n); err != nil || len(rest) != 0 || n < 0 || n > 255 {
		x.fail(refuse(CodeCertificateExtension, "extension %v.%s (%s)", arc, oid, name).found("%x", short(v)).want("an INTEGER of 0 to 255"))
	}
	return uint8(n)
}

func (x *extensions) text(oid, name string) string {
	v := x.take(oid, name)
	var s string
	// Go's decoder takes any string type for this one: the tag is checked here.
	bad := len(v) == 0 || v[0] != asn1.TagIA5String
	if !bad {
		rest, err := asn1.UnmarshalWithParams(v, &s, "ia5")
		bad = err != nil || len(rest) != 0 || s == "" || len(s) > maxText
	}
	if bad {
		x.fail(refuse(CodeCertificateExtension, "extension %v.%s (%s)", arc, oid, name).found("%x", short(v)).want("an IA5String of 1 to %d bytes", maxText))
	}
	return s
}

func (x *extensions) hwid(p Product) []byte {
	v := x.take("4", "hwID")
	size := hwidSize
	if p == Turin {
		size = hwidSizeTurin
	}
	// The lengths tell both encodings apart, so no content can pass for the other.
	if len(v) == size+2 && v[0] == asn1.TagOctetString && v[1] == byte(size) {
		v = v[2:]
	}
	if len(v) != size {
		x.fail(refuse(CodeCertificateExtension, "extension %v.4 (hwID) of a certificate for %v", arc, p).found("%d bytes", len(v)).want("%d", size))
	}
	return slices.Clone(v)
}

func short(b []byte) []byte { return b[:min(len(b), 32)] }
