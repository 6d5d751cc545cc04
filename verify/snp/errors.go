// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"errors"
	"fmt"
)

// Code names one reason to refuse. Codes are part of the interface: a code keeps
// its meaning for ever, and new reasons get new codes.
type Code string

// Reasons, by the question that was asked.
const (
	// ParseReport
	CodeReportLength   Code = "snp-report-length"   // not 1184 bytes
	CodeReportVersion  Code = "snp-report-version"  // not 2 to 5
	CodeReportReserved Code = "snp-report-reserved" // a reserved byte is not zero

	// Report.VerifySignature
	CodeSignatureAlgorithm Code = "snp-signature-algorithm" // not ECDSA P-384 with SHA-384
	CodeSignatureAbsent    Code = "snp-signature-absent"    // all zero
	CodeSignatureEncoding  Code = "snp-signature-encoding"  // r or s out of range, padding not zero
	CodeSignature          Code = "snp-signature"           // not made by this key over these bytes

	// ParseEndorsementKey, ParseAuthority
	CodeCertificate          Code = "snp-certificate"           // not a certificate of this kind
	CodeCertificateExtension Code = "snp-certificate-extension" // an AMD extension missing, twice, or malformed

	// VerifyChain, Chain.CheckValidity
	CodeChainIncomplete Code = "snp-chain-incomplete" // the certificate of the issuer is missing
	CodeChainSignature  Code = "snp-chain-signature"  // a certificate is not signed by its issuer
	CodeChainAuthority  Code = "snp-chain-authority"  // the issuer may not issue this
	CodeChainRoot       Code = "snp-chain-root"       // leads to no root that the caller trusts
	CodeNotYetValid     Code = "snp-not-yet-valid"    // before NotBefore of a certificate
	CodeExpired         Code = "snp-expired"          // after NotAfter of a certificate

	// CheckSigner, CheckProduct, CheckChipID, CheckTCB
	CodeSigner         Code = "snp-signer"          // another kind of key than the report names
	CodeUnsigned       Code = "snp-unsigned"        // the report names no key
	CodeChipKeyMasked  Code = "snp-chip-key-masked" // the host took the chip's keys out of use
	CodeProduct        Code = "snp-product"         // processor, key and chain disagree
	CodeProductUnknown Code = "snp-product-unknown" // a processor that this package does not know
	CodeChipID         Code = "snp-chip-id"         // the key is another chip's
	CodeChipIDMasked   Code = "snp-chip-id-masked"  // the report does not say which chip
	CodeChipIDUnbound  Code = "snp-chip-id-unbound" // a VLEK names no chip: nothing to compare
	CodeTCB            Code = "snp-tcb-certificate" // reported and certified TCB differ
	CodeTCBLayout      Code = "snp-tcb-layout"      // layout of the TCB not known for this processor
	CodeTCBFloor       Code = "snp-tcb-floor"       // a component below what is demanded

	// RevocationList.Check
	CodeCRL          Code = "snp-crl"           // not a list, or of another issuer
	CodeCRLSignature Code = "snp-crl-signature" // not signed by the root
	CodeCRLStale     Code = "snp-crl-stale"     // used outside its time
	CodeRevoked      Code = "snp-revoked"       // the list contains this certificate

	// ParseTable, DecodeCertificates
	CodeTable Code = "snp-certificate-table" // garbage instead of the host's table
)

// Error is a refusal: which question, what was wanted and what was found.
type Error struct {
	Code  Code
	What  string // thing that was checked, for people
	Found string // may be empty
	Want  string // may be empty
	Err   error  // cause, may be nil
}

func (e *Error) Error() string {
	s := e.What
	if e.Found != "" {
		s += ": found " + e.Found
	}
	if e.Want != "" {
		s += ", want " + e.Want
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the refusal in err, or "" if err contains none.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

func refuse(code Code, what string, a ...any) *Error {
	return &Error{Code: code, What: fmt.Sprintf(what, a...)}
}

func (e *Error) found(format string, a ...any) *Error {
	e.Found = fmt.Sprintf(format, a...)
	return e
}

func (e *Error) want(format string, a ...any) *Error {
	e.Want = fmt.Sprintf(format, a...)
	return e
}

func (e *Error) because(err error) *Error {
	e.Err = err
	return e
}

// Compared returns what was wanted and what was found.
func (e *Error) Compared() (expected, found string) { return e.Want, e.Found }
