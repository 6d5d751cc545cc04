// SPDX-License-Identifier: Apache-2.0

// Package export writes the parts of evidence in the formats of other people's
// tools, so that each part can be checked without anything of ours: quotes for
// tpm2_checkquote of tpm2-tools, reports for any SEV-SNP verifier, and the whole
// as the attestation message of go-tpm-tools.
//
// Nothing here verifies. What is exported is as trustworthy as what came in.
package export
