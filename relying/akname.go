// SPDX-License-Identifier: Apache-2.0

package relying

import (
	"crypto/x509/pkix"
	"encoding/asn1"
)

// Object identifiers of a certificate of an attestation key.
var (
	oidAIKCertificate      = asn1.ObjectIdentifier{2, 23, 133, 8, 3}          // tcg-kp-AIKCertificate, of TCG
	oidTPMManufacturer     = asn1.ObjectIdentifier{2, 23, 133, 2, 1}          // of TCG
	oidTPMModel            = asn1.ObjectIdentifier{2, 23, 133, 2, 2}          // of TCG
	oidTPMVersion          = asn1.ObjectIdentifier{2, 23, 133, 2, 3}          // of TCG
	oidPermanentIdentifier = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 3} // RFC 4043
	oidAlternativeName     = asn1.ObjectIdentifier{2, 5, 29, 17}              // RFC 5280, section 4.2.1.6
)

// unknownVendor is in place of vendor and version of a TPM, which evidence does not show. It is not
// assigned to a vendor (TCG Vendor ID Registry).
const unknownVendor = "id:00000000"

// alternativeName returns the subject alternative name of a certificate of an attestation key, critical
// since the subject is empty. It is a GeneralNames of RFC 5280 with two names:
//
//	directoryName [4]  manufacturer, model and version of the TPM (TCG EK Credential Profile, 3.2.9)
//	otherName     [0]  PermanentIdentifier ::= SEQUENCE { identifierValue UTF8String } (RFC 4043)
func alternativeName(identifier, model string) ([]pkix.Extension, error) {
	var tpm pkix.RDNSequence
	for _, x := range []struct {
		id    asn1.ObjectIdentifier
		value string
	}{{oidTPMManufacturer, unknownVendor}, {oidTPMModel, model}, {oidTPMVersion, unknownVendor}} {
		tpm = append(tpm, pkix.RelativeDistinguishedNameSET{{Type: x.id, Value: utf8(x.value)}})
	}
	directory, err := asn1.Marshal(tpm)
	if err != nil {
		return nil, err
	}
	value, err := asn1.Marshal([]asn1.RawValue{utf8(identifier)})
	if err != nil {
		return nil, err
	}
	other, err := asn1.Marshal(oidPermanentIdentifier)
	if err != nil {
		return nil, err
	}
	inner, err := asn1.Marshal(tagged(0, value))
	if err != nil {
		return nil, err
	}
	names, err := asn1.Marshal([]asn1.RawValue{tagged(4, directory), tagged(0, append(other, inner...))})
	if err != nil {
		return nil, err
	}
	return []pkix.Extension{{Id: oidAlternativeName, Critical: true, Value: names}}, nil
}

func utf8(s string) asn1.RawValue { return asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(s)} }

func tagged(tag int, content []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: content}
}
