// SPDX-License-Identifier: Apache-2.0

package verify

// The checks of the rooms, as tests name them.
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
	LogAgentKey     CheckID = "log.agent-key"
	AnchorLogPrefix CheckID = "anchor.log-prefix"
	AnchorLogReplay CheckID = "anchor.log-replay"
	FirmwareDecode  CheckID = "firmware.decode"
)
