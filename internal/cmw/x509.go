// SPDX-License-Identifier: Apache-2.0

package cmw

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
)

// Extension is id-pe-cmw, 1.3.6.1.5.5.7.1.35 (draft-ietf-rats-msg-wrap, section "Transporting CMW in PKIX
// Formats").
var Extension = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 35}

// MaxCertificate is the largest certificate with evidence, in bytes of DER. Few programs take as much:
// TLS in Go accepts 256 KiB.
const MaxCertificate = 1 << 20

// NewExtension returns the extension of a certificate that contains the document. It is not critical:
// a reader that does not know it sees an ordinary certificate.
func NewExtension(form Form, document []byte) (pkix.Extension, error) {
	record, err := Wrap(form, document)
	if err != nil {
		return pkix.Extension{}, err
	}
	v := asn1.RawValue{Tag: asn1.TagOctetString, Bytes: record} // CMW ::= CHOICE { json UTF8String, cbor OCTET STRING }
	if form == JSON {
		v.Tag = asn1.TagUTF8String
	}
	value, err := asn1.Marshal(v)
	return pkix.Extension{Id: Extension, Value: value}, err
}

// IsCertificate reports whether b looks like a certificate, in PEM or DER.
func IsCertificate(b []byte) bool {
	return len(b) > 1 && b[0] == 0x30 && b[1] >= 0x80 || bytes.HasPrefix(bytes.TrimLeft(b[:min(len(b), maxFrame)], " \t\r\n"), []byte("-----BEGIN "))
}

// FromCertificate returns the document in the extension of the one certificate in b, PEM or DER, and the
// certificate's key as SubjectPublicKeyInfo in DER. It does not look at names, times and signature of the
// certificate: a self-signed one proves nothing by them.
func FromCertificate(b []byte) (document, publicKey []byte, err error) {
	const pemMost = MaxCertificate/3*4 + MaxCertificate/16
	if len(b) > pemMost {
		return nil, nil, fmt.Errorf("a certificate of %d bytes, at most %d are read", len(b), pemMost)
	}
	der := b
	if p, rest := pem.Decode(b); p != nil {
		if p.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
			return nil, nil, fmt.Errorf("want one PEM block \"CERTIFICATE\", found %q and %d bytes after it", p.Type, len(bytes.TrimSpace(rest)))
		}
		der = p.Bytes
	}
	if len(der) > MaxCertificate {
		return nil, nil, fmt.Errorf("a certificate of %d bytes, at most %d are read", len(der), MaxCertificate)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("read a certificate: %w", err)
	}
	for _, x := range c.Extensions { // each once: the parser refuses two of a kind
		if x.Id.Equal(Extension) {
			if document, err = fromExtension(x.Value); err != nil {
				return nil, nil, err
			}
			return document, c.RawSubjectPublicKeyInfo, nil
		}
	}
	return nil, nil, errors.New("the certificate has no extension id-pe-cmw (1.3.6.1.5.5.7.1.35): it contains no evidence")
}

// fromExtension reads the value of the extension: the DER of CMW.
func fromExtension(value []byte) ([]byte, error) {
	var v asn1.RawValue
	rest, err := asn1.Unmarshal(value, &v)
	if err != nil || len(rest) > 0 || v.Class != asn1.ClassUniversal || v.IsCompound {
		return nil, errors.New("id-pe-cmw: want one UTF8String or OCTET STRING")
	}
	forms := map[int]Form{asn1.TagUTF8String: JSON, asn1.TagOctetString: CBOR}
	form, known := forms[v.Tag]
	if !known {
		return nil, fmt.Errorf("id-pe-cmw: want a UTF8String or an OCTET STRING, found tag %d", v.Tag)
	}
	document, err := Unwrap(form, v.Bytes)
	if err != nil {
		return nil, fmt.Errorf("id-pe-cmw: %w", err)
	}
	return document, nil
}
