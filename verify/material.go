// SPDX-License-Identifier: Apache-2.0

package verify

import "github.com/cvm-agentd/agentd/evidence"

// Material says what was appraised. Only evidence of this project binds a statement, a
// quote and a report to each other. Everything else proves less, and the checks that it
// has nothing for are listed as not asserted.
type Material string

const (
	MaterialEvidence  Material = "evidence"            // [Verifier.Appraise]
	MaterialReport    Material = "snp-report"          // [Verifier.AppraiseReport]: no vTPM, no log, no statement
	MaterialParavisor Material = "azure-paravisor-set" // [Verifier.AppraiseParavisor]: no log, no statement
	MaterialQuote     Material = "tpm-quote"           // [Verifier.AppraiseQuote]: no report, so that nothing is known of the machine
)

// RawReport is a bare report, as another system recorded it.
type RawReport struct {
	Kind         evidence.ReportKind // required, for instance evidence.ReportSNP
	Report       []byte              // the report; of SEV-SNP, its host's certificate table may follow
	Certificates [][]byte            // X.509 DER, any order, unverified
}

// AzureSet is what a guest on Azure reads from its vTPM.
type AzureSet struct {
	HCL          []byte   // NV index 0x01400001: report, sizes and runtime data of the paravisor
	Quote        []byte   // TPMS_ATTEST
	Signature    []byte   // TPMT_SIGNATURE, or the bare RSASSA signature with SHA-256
	PCRs         []byte   // PCRs 0 to 23 of bank SHA-256, 24 times 32 bytes
	FirmwareLog  []byte   // the firmware's event log as the kernel gives it; may be absent
	Certificates [][]byte // X.509 DER, any order, unverified
}

// QuoteSet is a quote with the key that made it. Nothing says where that key is.
type QuoteSet struct {
	Key       []byte          // TPMT_PUBLIC, or an RSA key as SubjectPublicKeyInfo in DER
	Quote     []byte          // TPMS_ATTEST
	Signature []byte          // TPMT_SIGNATURE, or the bare RSASSA signature with SHA-256
	PCRs      []evidence.Bank // quoted values, in the order of the quote's selection
}
