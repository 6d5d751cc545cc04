// SPDX-License-Identifier: Apache-2.0

package deviceattest

import (
	"encoding/binary"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
)

// Major types of CBOR (RFC 8949, section 3.1).
const (
	negative = 1
	octets   = 2
	words    = 3
	array    = 4
	pairs    = 5
)

// Algorithms of COSE (RFC 9053), as the numbers that CBOR has for -7 and -257.
const (
	es256 = 6
	rs256 = 256
)

// object is an attestation object of Web Authentication with a statement of the format "tpm" (section
// 8.3), as draft-acme-device-attest asks for it:
//
//	{ "fmt": "tpm", "attStmt": { "alg", "sig", "ver": "2.0", "x5c": [ AK certificate, issuers ], "pubArea", "certInfo" } }
//
// The keys are in the order of CTAP2. authData is left out, as the draft says.
type object struct {
	chain                        []evidence.Bytes // X.509 DER
	public, certified, signature []byte           // TPMT_PUBLIC, TPMS_ATTEST, TPMT_SIGNATURE
}

// encode returns the object in CBOR.
func (o *object) encode() ([]byte, error) {
	alg, err := algorithm(o.signature)
	if err != nil {
		return nil, err
	}
	var b []byte
	b = label(head(b, pairs, 2), "fmt")
	b = label(label(b, "tpm"), "attStmt")
	b = label(head(b, pairs, 6), "alg")
	b = label(head(b, negative, alg), "sig")
	b = label(value(b, o.signature), "ver")
	b = label(label(b, "2.0"), "x5c")
	b = head(b, array, len(o.chain))
	for _, c := range o.chain {
		b = value(b, c)
	}
	b = label(b, "pubArea")
	b = label(value(b, o.public), "certInfo")
	return value(b, o.certified), nil
}

// head appends the head of a data item of up to 65,535, in its shortest form. All that is encoded is far
// smaller: limits of the agent's answers and of chains see to it.
func head(b []byte, major byte, n int) []byte {
	if n < 24 {
		return append(b, major<<5|byte(n))
	}
	if n < 256 {
		return append(b, major<<5|24, byte(n))
	}
	return binary.BigEndian.AppendUint16(append(b, major<<5|25), uint16(n))
}

func label(b []byte, s string) []byte { return append(head(b, words, len(s)), s...) }

func value(b, v []byte) []byte { return append(head(b, octets, len(v)), v...) }

// Schemes and the hash of a TPMT_SIGNATURE (TPM 2.0 Part 2, section 6.3).
const (
	schemeRSASSA = 0x0014
	schemeECDSA  = 0x0018
	hashSHA256   = 0x000b
)

// algorithm returns the COSE algorithm of a TPMT_SIGNATURE.
func algorithm(signature []byte) (int, error) {
	if len(signature) < 4 {
		return 0, fmt.Errorf("a TPMT_SIGNATURE of %d bytes", len(signature))
	}
	scheme, hash := binary.BigEndian.Uint16(signature), binary.BigEndian.Uint16(signature[2:])
	switch {
	case hash != hashSHA256:
	case scheme == schemeECDSA:
		return es256, nil
	case scheme == schemeRSASSA:
		return rs256, nil
	}
	return 0, fmt.Errorf("the attestation key signs with scheme 0x%04x over hash 0x%04x: this format has ECDSA and RSASSA over SHA-256", scheme, hash)
}
