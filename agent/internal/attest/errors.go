// SPDX-License-Identifier: Apache-2.0

package attest

import "errors"

// Errors of Attest, told apart with errors.Is, besides those of package platform
// and [ledger.ErrDesynchronised]. A batch that fails answers every caller in it
// with the same error; the next batch starts anew.
var (
	// ErrRequest: the request itself cannot be attested; it says which member.
	ErrRequest = errors.New("request cannot be attested")
	// ErrOverloaded: too many callers are waiting already.
	ErrOverloaded = errors.New("too many requests are waiting for evidence")
	// ErrTPM: the TPM did not quote.
	ErrTPM = errors.New("the TPM gave no quote")
	// ErrBadQuote: the TPM answered, and not with the quote it was asked for: it is no
	// quote, is one over something else, or is not signed by the AK. Nothing is signed
	// over it, and no report is asked for.
	ErrBadQuote = errors.New("the TPM's quote does not hold")
	// ErrPCRMismatch: the quote contradicts the measurement log, or itself. Either
	// something else extended the PCR, or the vTPM lies. No report is asked for.
	ErrPCRMismatch = errors.New("the quote contradicts the measurement log")
	// ErrLogStart: the log has no such record yet.
	ErrLogStart = errors.New("log start lies behind the end of the log")
	// ErrStopping: the daemon is shutting down.
	ErrStopping = errors.New("the agent is stopping")
)
