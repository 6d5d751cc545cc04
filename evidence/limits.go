// SPDX-License-Identifier: Apache-2.0

package evidence

// Caps on everything that a document may make a reader keep in memory. They bind the agent
// as well as the verifier, so that the verifier accepts what the agent produces. Sizes are
// those of the decoded bytes, not of their base64.
const (
	MaxEvidence     = 36 << 20 // bytes of a whole document
	MaxStatement    = 64 << 10 // bytes of a statement
	MinNonce        = 16       // bytes
	MaxNonce        = 64       // bytes
	MaxAudience     = 256      // bytes of UTF-8
	MaxUserData     = 4 << 10  // bytes
	MaxPublicKey    = 8 << 10  // bytes
	MaxKeyProof     = 1 << 10  // bytes
	InvocationSize  = 16       // bytes, exactly
	MinSalt         = 16       // bytes
	MaxSalt         = 64       // bytes
	MaxBatch        = 4096     // statements under one quote
	MaxProof        = 12       // hashes of an inclusion proof: log2 of MaxBatch
	MaxQuote        = 2 << 10  // bytes of TPMS_ATTEST, and of TPMT_SIGNATURE
	MaxPublicArea   = 1 << 10  // bytes of a TPMT_PUBLIC
	MaxReport       = 4 << 10  // bytes of a platform report
	MaxLog          = 16 << 20 // bytes of the measurement log
	MaxFirmwareLog  = 1 << 20  // bytes of the firmware's event log
	MaxIMA          = 8 << 20  // bytes of the kernel's list of IMA
	MaxCertificates = 16       // certificates
	MaxCertificate  = 16 << 10 // bytes of one certificate, DER
	MaxBanks        = 4        // PCR banks of one quote
	MaxPCRs         = 24       // PCRs of one bank
	MaxName         = 256      // bytes of a unit, app or path base name
	MaxPath         = 4096     // bytes of a path, as in the kernel's PATH_MAX
)
