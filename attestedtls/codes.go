// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"errors"
	"fmt"
)

// Code says why a connection was refused. Codes are stable. A Code is an error, so that
// errors.Is(err, CodePolicy) reports whether err has that code.
type Code string

// Error returns the code itself.
func (c Code) Error() string { return string(c) }

// Codes of a refusal. docs/attested-tls.md, section 8, says what each means.
const (
	CodeTLS             Code = "tls"
	CodeALPN            Code = "alpn"
	CodeResumed         Code = "resumed"
	CodeCertificate     Code = "certificate"
	CodeFrame           Code = "frame"
	CodeMessage         Code = "message"
	CodeUnexpected      Code = "unexpected"
	CodeApplication     Code = "application"
	CodeNothingVerified Code = "nothing-verified"
	CodeNotAttested     Code = "not-attested"
	CodeRole            Code = "role"
	CodeNonce           Code = "nonce"
	CodeAudience        Code = "audience"
	CodeFreshness       Code = "freshness"
	CodeKey             Code = "key"
	CodeUserData        Code = "user-data"
	CodeExporter        Code = "exporter"
	CodeContinued       Code = "continued"
	CodeForged          Code = "forged"
	CodeCollateral      Code = "collateral"
	CodeRevoked         Code = "revoked"
	CodePolicy          Code = "policy"
	CodeBlocked         Code = "blocked"
	CodeEarlyData       Code = "early-data"
	CodeTruncated       Code = "truncated"
	CodeTimeout         Code = "timeout"
	CodeBusy            Code = "busy"
	CodeAgent           Code = "agent"
)

// CodeInfo describes one code.
type CodeInfo struct {
	Code  Code
	Means string
	Sent  bool // to the other end, in a message
}

// Codes returns the table of codes, in the order of docs/attested-tls.md.
func Codes() []CodeInfo {
	return []CodeInfo{
		{CodeTLS, "the handshake failed, or the connection is not TLS 1.3", false},
		{CodeALPN, "the other end does not speak this protocol", false},
		{CodeResumed, "the connection resumed an earlier one", true},
		{CodeCertificate, "the end that is to attest showed no certificate", true},
		{CodeFrame, "a frame is empty or too long", true},
		{CodeMessage, "a message is not one of section 4", true},
		{CodeUnexpected, "a message is not the one that is due", true},
		{CodeApplication, "the ends name different protocols for the application data", true},
		{CodeNothingVerified, "neither end verifies", true},
		{CodeNotAttested, "evidence was asked of an end that does not attest", true},
		{CodeRole, "a hello, or evidence, is for another role", true},
		{CodeNonce, "a nonce is this end's own, or evidence has another one", true},
		{CodeAudience, "evidence is for another audience, or the end that attests does not know the one that was named", true},
		{CodeFreshness, "the report is not as fresh as asked, or the end that attests gives none of its own", true},
		{CodeKey, "evidence names another key than that of the certificate in use", true},
		{CodeUserData, "evidence was made for another protocol, or another version of this one", true},
		{CodeExporter, "evidence was made for another connection", true},
		{CodeContinued, "a proof in place of evidence was not asked for, is wrong, or rests on evidence that is too old", true},
		{CodeForged, "a signature, a format or a binding of the evidence is broken", true},
		{CodeCollateral, "a certificate or revocation list is missing or out of date", true},
		{CodeRevoked, "a key was revoked", true},
		{CodePolicy, "the evidence is genuine, and not what the policy asks for", true},
		{CodeBlocked, "the application refused after the verdict", true},
		{CodeEarlyData, "an end did not wait for the other: a verdict or start does not contain what it answers", true},
		{CodeTruncated, "the connection ended before the exchange did", false},
		{CodeTimeout, "the time for the exchange is over", true},
		{CodeBusy, "too many exchanges, or requests to the agent, at once", true},
		{CodeAgent, "the end that attests got no evidence from its agent", true},
	}
}

// ErrMisuse is wrapped by errors of a configuration that makes no sense. Nothing was sent.
var ErrMisuse = errors.New("attestedtls: misuse")

func misuse(format string, a ...any) error {
	return fmt.Errorf("%w: %w", ErrMisuse, fmt.Errorf(format, a...))
}

// Error is a connection that was refused.
type Error struct {
	Code    Code
	Remote  bool     // the other end refused, and says no more than the code
	Verdict *Verdict // on the evidence that was refused; nil if it did not come to that
	Err     error    // what was found; nil if the other end refused
}

// Error says which end refused, the code, and what was found.
func (e *Error) Error() string {
	if e.Remote {
		return fmt.Sprintf("attested TLS: the other end refused (%s)", e.Code)
	}
	return fmt.Sprintf("attested TLS: %s: %v", e.Code, e.Err)
}

// Unwrap returns what was found.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the code of e.
func (e *Error) Is(target error) bool { return target == e.Code }

// refuse returns the refusal by this end.
func refuse(code Code, format string, a ...any) *Error {
	return &Error{Code: code, Err: fmt.Errorf(format, a...)}
}

// sent reports whether a code travels.
func (c Code) sent() bool {
	for _, i := range Codes() {
		if i.Code == c {
			return i.Sent
		}
	}
	return false
}
