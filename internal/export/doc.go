// SPDX-License-Identifier: Apache-2.0

// Package export writes the parts of evidence in the formats of other tools, so that a reader
// can check each part without this project: quotes for tpm2_checkquote of tpm2-tools, reports
// for any SEV-SNP verifier, and the whole as the attestation message of go-tpm-tools.
//
// It verifies nothing: its output is as trustworthy as its input.
package export
