// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/rule"
)

// The checks, in the order in which they run and are listed.
const (
	EvidenceDecode      CheckID = "evidence.decode"
	StatementDecode     CheckID = "statement.decode"
	StatementNonce      CheckID = "statement.nonce"
	StatementAudience   CheckID = "statement.audience"
	StatementPublicKey  CheckID = "statement.public-key"
	StatementUserData   CheckID = "statement.user-data"
	StatementFreshness  CheckID = "statement.freshness"
	BatchInclusion      CheckID = "batch.inclusion"
	BatchAgentSignature CheckID = "batch.agent-signature"

	AKDecode     CheckID = "ak.decode"
	AKAttributes CheckID = "ak.attributes"
	AKAlgorithm  CheckID = "ak.algorithm"

	QuoteMagic             CheckID = "quote.magic"
	QuoteType              CheckID = "quote.type"
	QuoteDecode            CheckID = "quote.decode"
	QuoteTrailing          CheckID = "quote.trailing"
	QuoteSignatureEncoding CheckID = "quote.signature-encoding"
	QuoteSignature         CheckID = "quote.signature"
	QuoteSelection         CheckID = "quote.selection"
	QuotePCRDigest         CheckID = "quote.pcr-digest"
	QuoteQualifyingData    CheckID = "quote.qualifying-data"

	AnchorMagic             CheckID = "anchor.magic"
	AnchorType              CheckID = "anchor.type"
	AnchorDecode            CheckID = "anchor.decode"
	AnchorTrailing          CheckID = "anchor.trailing"
	AnchorSignatureEncoding CheckID = "anchor.signature-encoding"
	AnchorSignature         CheckID = "anchor.signature"
	AnchorSelection         CheckID = "anchor.selection"
	AnchorPCRDigest         CheckID = "anchor.pcr-digest"
	AnchorQualifyingData    CheckID = "anchor.qualifying-data"
	AnchorSigner            CheckID = "anchor.signer"
	AnchorResetCount        CheckID = "anchor.reset-count"
	AnchorRestartCount      CheckID = "anchor.restart-count"
	AnchorClock             CheckID = "anchor.clock"

	ReportKind           CheckID = "report.kind"
	ReportDecode         CheckID = "report.decode"
	ReportSigner         CheckID = "report.signer"
	ReportProduct        CheckID = "report.product"
	ReportCertificate    CheckID = "report.certificate"
	ReportChain          CheckID = "report.chain"
	ReportValidity       CheckID = "report.validity"
	ReportRevocationList CheckID = "report.revocation-list"
	ReportRevocation     CheckID = "report.revocation"
	ReportSignature      CheckID = "report.signature"
	ReportChip           CheckID = "report.chip"
	ReportTCB            CheckID = "report.tcb"

	ReportTable        CheckID = "report.table"
	ReportExpectedData CheckID = "report.expected-data"

	ParavisorDecode   CheckID = "paravisor.decode"
	ParavisorKey      CheckID = "paravisor.key"
	ParavisorUserData CheckID = "paravisor.user-data"

	BindingReportData  CheckID = "binding.report-data"
	BindingRuntimeData CheckID = "binding.runtime-data"

	LogContinuation CheckID = "log.continuation"
	LogDecode       CheckID = "log.decode"
	LogDigests      CheckID = "log.digests"
	LogReplay       CheckID = "log.replay"
	LogHead         CheckID = "log.head"
	LogEvents       CheckID = "log.events"
	LogStartValue   CheckID = "log.start-value"
	LogAgentKey     CheckID = "log.agent-key"
	AnchorLogPrefix CheckID = "anchor.log-prefix"
	AnchorLogReplay CheckID = "anchor.log-replay"
	FirmwareDecode  CheckID = "firmware.decode"
)

// Definitions lists every check in the order of an appraisal. docs/checks.md holds the same.
func Definitions() []Definition {
	all := make([]Definition, len(definitions))
	copy(all, definitions)
	return all
}

// order indexes definitions.
var order = check.NewOrder(definitions)

// definitions is the one list that appraisals, documentation and tests are held to.
var definitions = append([]Definition{
	{ID: EvidenceDecode, Class: ClassBinding, Checks: "the document has the type, members and sizes of the format, with no duplicate, unknown or differently-cased member, loose base64 or trailing data", Stops: "two readers that see two different documents in the same bytes"},
	{ID: StatementDecode, Class: ClassBinding, Checks: "the statement's exact bytes are a statement of the format", Stops: "a statement that this verifier reads differently from its user"},
	{ID: StatementNonce, Class: ClassBinding, Checks: "the statement holds the nonce that the verifier sent", Stops: "replay of old evidence"},
	{ID: StatementAudience, Class: ClassBinding, Checks: "the statement names this verifier, or neither side names anyone", Stops: "evidence that was made for another verifier, relayed"},
	{ID: StatementPublicKey, Class: ClassBinding, Checks: "the statement holds the public key that the verifier sees in use", Stops: "a man in the middle who shows genuine evidence beside a key of his own"},
	{ID: StatementUserData, Class: ClassBinding, Checks: "the statement holds the user data that the verifier expects", Stops: "genuine evidence passed off for another purpose"},
	{ID: StatementFreshness, Class: ClassBinding, Checks: "a caller who asked for a fresh report was not given an anchored one", Stops: "an older report served where a new one was asked for"},
	{ID: BatchInclusion, Class: ClassBinding, Checks: "the statement is a leaf of the tree that was quoted, at the place the proof states", Stops: "another caller's proof, an inner node passed as a leaf, a statement that nobody asked for"},
	{ID: BatchAgentSignature, Class: ClassBinding, Checks: "the agent key that the report vouches for signed this batch: root, size, anchor, quote and log head", Stops: "whoever runs the vTPM or can open the TPM device minting quotes with invented callers"},

	{ID: AKDecode, Class: ClassBinding, Checks: "the attestation key is exactly one TPMT_PUBLIC", Stops: "a key that two parsers read differently"},
	{ID: AKAttributes, Class: ClassBinding, Checks: "the attestation key is a restricted signing key that was made in its TPM and cannot leave it, and does nothing else", Stops: "a software key, or an unrestricted key that signs whatever looks like a quote"},
	{ID: AKAlgorithm, Class: ClassBinding, Checks: "the attestation key is ECDSA on P-256 or P-384, or RSA of 2048 bits or more, with SHA-256 or stronger", Stops: "forged signatures under SHA-1, RSA-1024 or a scheme that the signer chooses"},

	{ID: QuoteMagic, Class: ClassBinding, Checks: "the quote starts with TPM_GENERATED_VALUE", Stops: "data that a TPM signed for somebody else's purpose"},
	{ID: QuoteType, Class: ClassBinding, Checks: "the attestation is of type TPM_ST_ATTEST_QUOTE", Stops: "an NV certification or another attestation whose body reads like a quote"},
	{ID: QuoteDecode, Class: ClassBinding, Checks: "the quote is a TPMS_ATTEST over a TPMS_QUOTE_INFO", Stops: "a quote that two parsers read differently"},
	{ID: QuoteTrailing, Class: ClassBinding, Checks: "nothing follows the quote", Stops: "bytes that are signed but that nobody looked at"},
	{ID: QuoteSignatureEncoding, Class: ClassBinding, Checks: "the signature is exactly one TPMT_SIGNATURE of the AK's own scheme and hash, its numbers in range and without padding", Stops: "half signatures, zero signatures, a hash that the attacker chooses, a padded spelling of a signature"},
	{ID: QuoteSignature, Class: ClassBinding, Checks: "the signature over the quote verifies under the AK", Stops: "an invented or altered quote"},
	{ID: QuoteSelection, Class: ClassBinding, Checks: "the quote selects known banks once, in canonical form, with at least one of SHA-256 or stronger, and the evidence gives values for exactly the selected PCRs in that order", Stops: "use of a PCR value that nobody quoted"},
	{ID: QuotePCRDigest, Class: ClassBinding, Checks: "the PCR values hash to the quoted digest", Stops: "invented PCR values beside a genuine quote"},
	{ID: QuoteQualifyingData, Class: ClassBinding, Checks: "the quote's extraData is the commitment to tree and anchor", Stops: "an old quote, or one made for another batch"},

	{ID: AnchorMagic, Class: ClassBinding, Checks: "the anchor's quote starts with TPM_GENERATED_VALUE", Stops: "as quote.magic, for the quote that the report stands on"},
	{ID: AnchorType, Class: ClassBinding, Checks: "the anchor's attestation is of type TPM_ST_ATTEST_QUOTE", Stops: "as quote.type"},
	{ID: AnchorDecode, Class: ClassBinding, Checks: "the anchor's quote is a TPMS_ATTEST over a TPMS_QUOTE_INFO", Stops: "as quote.decode"},
	{ID: AnchorTrailing, Class: ClassBinding, Checks: "nothing follows the anchor's quote", Stops: "as quote.trailing"},
	{ID: AnchorSignatureEncoding, Class: ClassBinding, Checks: "the anchor's signature is exactly one TPMT_SIGNATURE of the AK's own scheme and hash", Stops: "as quote.signature-encoding"},
	{ID: AnchorSignature, Class: ClassBinding, Checks: "the signature over the anchor's quote verifies under the same AK", Stops: "an anchor that belongs to another TPM"},
	{ID: AnchorSelection, Class: ClassBinding, Checks: "the anchor's quote selects known banks in canonical form, and the evidence gives values for exactly those PCRs", Stops: "as quote.selection"},
	{ID: AnchorPCRDigest, Class: ClassBinding, Checks: "the anchor's PCR values hash to its quoted digest", Stops: "invented PCR values for the moment of the report"},
	{ID: AnchorQualifyingData, Class: ClassBinding, Checks: "the anchor's extraData commits to its own tree and to no further anchor", Stops: "a chain of anchors that hides how old the report is"},
	{ID: AnchorSigner, Class: ClassBinding, Checks: "both quotes name the same qualified signer", Stops: "clock and counters of two different hierarchies compared with each other"},
	{ID: AnchorResetCount, Class: ClassBinding, Checks: "the vTPM was not reset between anchor and batch", Stops: "a report of an earlier boot standing for this one"},
	{ID: AnchorRestartCount, Class: ClassBinding, Checks: "the vTPM was not suspended and resumed between anchor and batch", Stops: "a report from before a resume standing for the time after it"},
	{ID: AnchorClock, Class: ClassBinding, Checks: "the vTPM's clock did not run backwards from anchor to batch", Stops: "a batch that is older than its anchor, with a negative age"},

	{ID: ReportKind, Class: ClassBinding, Checks: "the report is of a kind that this verifier knows", Stops: "a report that is skipped because nobody can read it"},
	{ID: ReportDecode, Class: ClassBinding, Checks: "the report is an SNP attestation report of a known version and exactly 1184 bytes", Stops: "fields read from the wrong place"},
	{ID: ReportSigner, Class: ClassBinding, Checks: "the report says that VCEK or VLEK signed it, and the certificate is of that kind", Stops: "a report without a signature, or under a key of another kind"},
	{ID: ReportProduct, Class: ClassBinding, Checks: "processor, certificate and root belong to the same product", Stops: "a report of one generation under a chain of another"},
	{ID: ReportCertificate, Class: ClassCollateral, Checks: "the evidence holds a certificate for the key that signed the report, and its issuer is known", Stops: "a report that nobody can check"},
	{ID: ReportChain, Class: ClassBinding, Checks: "the certificate leads to a root that the verifier trusts", Stops: "a report signed by a key that the attacker made"},
	{ID: ReportValidity, Class: ClassCollateral, Checks: "every certificate of the chain is valid at the time of appraisal", Stops: "use of keys beyond their time"},
	{ID: ReportRevocationList, Class: ClassCollateral, Checks: "a revocation list of the root, signed by it and within its time, is at hand where the policy asks for one", Stops: "a newer list withheld, so that a revoked key stays in use"},
	{ID: ReportRevocation, Class: ClassRevoked, Checks: "no list of the root, be it past its time, names a certificate of the chain", Stops: "use of an intermediate key that AMD withdrew"},
	{ID: ReportSignature, Class: ClassBinding, Checks: "the signature over the report verifies under the certificate", Stops: "an invented or altered report"},
	{ID: ReportChip, Class: ClassBinding, Checks: "the report's chip id is the one in the certificate", Stops: "a report of one chip under the certificate of another"},
	{ID: ReportTCB, Class: ClassBinding, Checks: "the report's TCB version is, component by component, the one in the certificate", Stops: "old firmware that reports a new TCB version"},
	{ID: ReportTable, Class: ClassBinding, Checks: "what follows a bare report is the certificate table of its host", Stops: "bytes beside a report that nobody looked at"},
	{ID: ReportExpectedData, Class: ClassBinding, Checks: "a bare report's REPORT_DATA is what the verifier expects", Stops: "an old report, or one that was made for another purpose"},

	{ID: ParavisorDecode, Class: ClassBinding, Checks: "the paravisor's blob has consistent sizes, a known hash, and runtime data without duplicate members", Stops: "a report, or a key, read from the wrong place"},
	{ID: ParavisorKey, Class: ClassBinding, Checks: "the runtime data holds exactly one HCLAkPub, an RSA key of 2048 to 4096 bits", Stops: "a second key that another reader would take"},
	{ID: ParavisorUserData, Class: ClassBinding, Checks: "the runtime data holds the user data that the verifier expects", Stops: "an older report standing beside a quote of now"},

	{ID: BindingReportData, Class: ClassBinding, Checks: "the report's REPORT_DATA is the commitment to tree, agent key, AK, quote and log head", Stops: "a genuine quote of one TPM beside a genuine report of another machine"},
	{ID: BindingRuntimeData, Class: ClassBinding, Checks: "the report's REPORT_DATA is the hash of the paravisor's runtime data, and nothing else", Stops: "the attestation key of one machine beside the report of another"},

	{ID: LogContinuation, Class: ClassBinding, Checks: "a log that starts at an index, or that is of the same boot, continues the log that the verifier knows from before", Stops: "a log whose inconvenient beginning was left out, or another history in its place"},
	{ID: LogDecode, Class: ClassBinding, Checks: "the log is a sequence of CEL-TLV records, numbered without a gap", Stops: "records dropped, swapped, duplicated or inserted"},
	{ID: LogDigests, Class: ClassBinding, Checks: "every record is of one PCR, has one digest for each active bank, and each digest is that of the record's content", Stops: "content edited while its digest is kept"},
	{ID: LogReplay, Class: ClassBinding, Checks: "replaying the log gives the quoted PCR value in every quoted bank", Stops: "a log edited after the fact, or cut off at its end"},
	{ID: LogHead, Class: ClassBinding, Checks: "the log's head is the one that report and agent committed to", Stops: "a log other than the one that was there when the quote was made"},
	{ID: LogEvents, Class: ClassBinding, Checks: "the log begins with its start event, every content is an event of the format, and each start of the agent names the log head it found", Stops: "content that verifier and agent read differently"},
	{ID: LogStartValue, Class: ClassBinding, Checks: "the PCR was zero when the log began, or had a value that the policy lists", Stops: "a log deleted and begun anew during the same boot"},
	{ID: LogAgentKey, Class: ClassBinding, Checks: "the evidence's agent key is the one that the last start of the agent logged", Stops: "an agent key that never was in the measured log"},
	{ID: AnchorLogPrefix, Class: ClassBinding, Checks: "the anchor's log head is a state that the log passed through", Stops: "an anchor of another log"},
	{ID: AnchorLogReplay, Class: ClassBinding, Checks: "replaying the log up to the anchor gives the PCR value that the anchor quoted", Stops: "an anchor whose PCR was in a state that the log does not explain"},
	{ID: FirmwareDecode, Class: ClassBinding, Checks: "the firmware's log is a crypto-agile event log with known counts, sizes and PCRs", Stops: "a log that two parsers read differently, or that makes its reader run out of memory"},
}, rule.Definitions()...)
