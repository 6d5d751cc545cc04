// SPDX-License-Identifier: Apache-2.0

package attest

import "errors"

// Errors of Attest, for errors.Is, besides those of package platform
// and [ledger.ErrDesynchronised]. A batch that fails answers every caller in it
// with the same error; the next batch starts anew.
var (
	// ErrRequest is returned if the request itself cannot be attested; it names the member.
	ErrRequest = errors.New("request cannot be attested")
	// ErrOverloaded is returned if too many callers are waiting already.
	ErrOverloaded = errors.New("too many requests are waiting for evidence")
	// ErrTPM is returned if the TPM did not quote.
	ErrTPM = errors.New("the TPM gave no quote")
	// ErrBadQuote is returned if the TPM answered, but not with the quote that it was asked
	// for: the answer is not a quote, is over something else, or is not signed by the AK.
	// Nothing is signed over it, and no report is asked for.
	ErrBadQuote = errors.New("the TPM's quote is not what it was asked for")
	// ErrPCRMismatch is returned if the quote contradicts the measurement log, or itself. Either
	// something else extended the PCR, or the vTPM lies. No report is asked for.
	ErrPCRMismatch = errors.New("the quote contradicts the measurement log")
	// ErrLogStart is returned if the log has no such record yet.
	ErrLogStart = errors.New("log start is after the end of the log")
	// ErrStopping is returned while the agent ends.
	ErrStopping = errors.New("the agent is stopping")
)
