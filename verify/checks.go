// SPDX-License-Identifier: Apache-2.0

package verify

// CheckID names a check. Ids are stable: one is never reused for something else,
// and a check that is dropped leaves its id unused.
type CheckID string

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

	PolicyProduct          CheckID = "policy.product"
	PolicyReportVersion    CheckID = "policy.report-version"
	PolicySigner           CheckID = "policy.signer"
	PolicyChip             CheckID = "policy.chip"
	PolicyLaunch           CheckID = "policy.launch"
	PolicyDenied           CheckID = "policy.denied"
	PolicyVMPL             CheckID = "policy.vmpl"
	PolicyDebug            CheckID = "policy.debug"
	PolicyMigrationAgent   CheckID = "policy.migration-agent"
	PolicySMT              CheckID = "policy.smt"
	PolicySingleSocket     CheckID = "policy.single-socket"
	PolicyCXL              CheckID = "policy.cxl"
	PolicyGuestABI         CheckID = "policy.guest-abi"
	PolicyGuestFeatures    CheckID = "policy.guest-features"
	PolicyGuestReserved    CheckID = "policy.guest-reserved"
	PolicyPlatform         CheckID = "policy.platform"
	PolicyPlatformReserved CheckID = "policy.platform-reserved"
	PolicyTCBReported      CheckID = "policy.tcb-reported"
	PolicyTCBCommitted     CheckID = "policy.tcb-committed"
	PolicyTCBLaunch        CheckID = "policy.tcb-launch"
	PolicyProvisional      CheckID = "policy.provisional"
	PolicyMitigations      CheckID = "policy.mitigations"
	PolicyGuestSVN         CheckID = "policy.guest-svn"
	PolicyFamilyID         CheckID = "policy.family-id"
	PolicyImageID          CheckID = "policy.image-id"
	PolicyHostData         CheckID = "policy.host-data"
	PolicyIDKey            CheckID = "policy.id-key"
	PolicyAuthorKey        CheckID = "policy.author-key"
	PolicyBinding          CheckID = "policy.binding"
	PolicyAK               CheckID = "policy.ak"
	PolicyAKOrigin         CheckID = "policy.ak-origin"
	PolicyEKKey            CheckID = "policy.ek-key"
	PolicyEKUsage          CheckID = "policy.ek-usage"
	PolicyEKChain          CheckID = "policy.ek-chain"
	PolicyEKValidity       CheckID = "policy.ek-validity"
	PolicyFreshness        CheckID = "policy.freshness"
	PolicyAnchorAge        CheckID = "policy.anchor-age"
	PolicyPCR              CheckID = "policy.pcr"
	PolicyLog              CheckID = "policy.log"
	PolicyFirmwareLog      CheckID = "policy.firmware-log"
	PolicyLogGaps          CheckID = "policy.log-gaps"
	PolicyLogUnmeasured    CheckID = "policy.log-unmeasured"
	PolicyAgent            CheckID = "policy.agent"
	PolicyAppPresent       CheckID = "policy.app-present"
	PolicyAppDigest        CheckID = "policy.app-digest"
	PolicyAppUnit          CheckID = "policy.app-unit"
	PolicyAppUnlisted      CheckID = "policy.app-unlisted"
	PolicyCallerUnit       CheckID = "policy.caller-unit"
	PolicyCallerUser       CheckID = "policy.caller-user"
	PolicyCallerApp        CheckID = "policy.caller-app"
	PolicyCallerExecutable CheckID = "policy.caller-executable"
)

// Definition describes one check.
type Definition struct {
	ID     CheckID
	Class  Class  // what its failure means
	Checks string // what must hold
	Stops  string // the attack that it stops, or what would go unnoticed without it
}

// Definitions lists every check in the order of an appraisal. docs/checks.md holds the same.
func Definitions() []Definition {
	all := make([]Definition, len(definitions))
	copy(all, definitions)
	return all
}

// definitions is the one list that appraisals, documentation and tests are held to.
var definitions = []Definition{
	{EvidenceDecode, ClassBinding, "the document has the type, members and sizes of the format, with no duplicate, unknown or differently-cased member, loose base64 or trailing data", "two readers that see two different documents in the same bytes"},
	{StatementDecode, ClassBinding, "the statement's exact bytes are a statement of the format", "a statement that this verifier reads differently from its user"},
	{StatementNonce, ClassBinding, "the statement holds the nonce that the verifier sent", "replay of old evidence"},
	{StatementAudience, ClassBinding, "the statement names this verifier, or neither side names anyone", "evidence that was made for another verifier, relayed"},
	{StatementPublicKey, ClassBinding, "the statement holds the public key that the verifier sees in use", "a man in the middle who shows genuine evidence beside a key of his own"},
	{StatementUserData, ClassBinding, "the statement holds the user data that the verifier expects", "genuine evidence passed off for another purpose"},
	{StatementFreshness, ClassBinding, "a caller who asked for a fresh report was not given an anchored one", "an older report served where a new one was asked for"},
	{BatchInclusion, ClassBinding, "the statement is a leaf of the tree that was quoted, at the place the proof states", "another caller's proof, an inner node passed as a leaf, a statement that nobody asked for"},
	{BatchAgentSignature, ClassBinding, "the agent key that the report vouches for signed this batch: root, size, anchor, quote and log head", "whoever runs the vTPM or can open the TPM device minting quotes with invented callers"},

	{AKDecode, ClassBinding, "the attestation key is exactly one TPMT_PUBLIC", "a key that two parsers read differently"},
	{AKAttributes, ClassBinding, "the attestation key is a restricted signing key that was made in its TPM and cannot leave it, and does nothing else", "a software key, or an unrestricted key that signs whatever looks like a quote"},
	{AKAlgorithm, ClassBinding, "the attestation key is ECDSA on P-256 or P-384, or RSA of 2048 bits or more, with SHA-256 or stronger", "forged signatures under SHA-1, RSA-1024 or a scheme that the signer chooses"},

	{QuoteMagic, ClassBinding, "the quote starts with TPM_GENERATED_VALUE", "data that a TPM signed for somebody else's purpose"},
	{QuoteType, ClassBinding, "the attestation is of type TPM_ST_ATTEST_QUOTE", "an NV certification or another attestation whose body reads like a quote"},
	{QuoteDecode, ClassBinding, "the quote is a TPMS_ATTEST over a TPMS_QUOTE_INFO", "a quote that two parsers read differently"},
	{QuoteTrailing, ClassBinding, "nothing follows the quote", "bytes that are signed but that nobody looked at"},
	{QuoteSignatureEncoding, ClassBinding, "the signature is exactly one TPMT_SIGNATURE of the AK's own scheme and hash, its numbers in range and without padding", "half signatures, zero signatures, a hash that the attacker chooses, a padded spelling of a signature"},
	{QuoteSignature, ClassBinding, "the signature over the quote verifies under the AK", "an invented or altered quote"},
	{QuoteSelection, ClassBinding, "the quote selects known banks once, in canonical form, with at least one of SHA-256 or stronger, and the evidence gives values for exactly the selected PCRs in that order", "use of a PCR value that nobody quoted"},
	{QuotePCRDigest, ClassBinding, "the PCR values hash to the quoted digest", "invented PCR values beside a genuine quote"},
	{QuoteQualifyingData, ClassBinding, "the quote's extraData is the commitment to tree and anchor", "an old quote, or one made for another batch"},

	{AnchorMagic, ClassBinding, "the anchor's quote starts with TPM_GENERATED_VALUE", "as quote.magic, for the quote that the report stands on"},
	{AnchorType, ClassBinding, "the anchor's attestation is of type TPM_ST_ATTEST_QUOTE", "as quote.type"},
	{AnchorDecode, ClassBinding, "the anchor's quote is a TPMS_ATTEST over a TPMS_QUOTE_INFO", "as quote.decode"},
	{AnchorTrailing, ClassBinding, "nothing follows the anchor's quote", "as quote.trailing"},
	{AnchorSignatureEncoding, ClassBinding, "the anchor's signature is exactly one TPMT_SIGNATURE of the AK's own scheme and hash", "as quote.signature-encoding"},
	{AnchorSignature, ClassBinding, "the signature over the anchor's quote verifies under the same AK", "an anchor that belongs to another TPM"},
	{AnchorSelection, ClassBinding, "the anchor's quote selects known banks in canonical form, and the evidence gives values for exactly those PCRs", "as quote.selection"},
	{AnchorPCRDigest, ClassBinding, "the anchor's PCR values hash to its quoted digest", "invented PCR values for the moment of the report"},
	{AnchorQualifyingData, ClassBinding, "the anchor's extraData commits to its own tree and to no further anchor", "a chain of anchors that hides how old the report is"},
	{AnchorSigner, ClassBinding, "both quotes name the same qualified signer", "clock and counters of two different hierarchies compared with each other"},
	{AnchorResetCount, ClassBinding, "the vTPM was not reset between anchor and batch", "a report of an earlier boot standing for this one"},
	{AnchorRestartCount, ClassBinding, "the vTPM was not suspended and resumed between anchor and batch", "a report from before a resume standing for the time after it"},
	{AnchorClock, ClassBinding, "the vTPM's clock did not run backwards from anchor to batch", "a batch that is older than its anchor, with a negative age"},

	{ReportKind, ClassBinding, "the report is of a kind that this verifier knows", "a report that is skipped because nobody can read it"},
	{ReportDecode, ClassBinding, "the report is an SNP attestation report of a known version and exactly 1184 bytes", "fields read from the wrong place"},
	{ReportSigner, ClassBinding, "the report says that VCEK or VLEK signed it, and the certificate is of that kind", "a report without a signature, or under a key of another kind"},
	{ReportProduct, ClassBinding, "processor, certificate and root belong to the same product", "a report of one generation under a chain of another"},
	{ReportCertificate, ClassCollateral, "the evidence holds a certificate for the key that signed the report, and its issuer is known", "a report that nobody can check"},
	{ReportChain, ClassBinding, "the certificate leads to a root that the verifier trusts", "a report signed by a key that the attacker made"},
	{ReportValidity, ClassCollateral, "every certificate of the chain is valid at the time of appraisal", "use of keys beyond their time"},
	{ReportRevocationList, ClassCollateral, "a revocation list of the root, signed by it and within its time, is at hand where the policy asks for one", "a newer list withheld, so that a revoked key stays in use"},
	{ReportRevocation, ClassRevoked, "no list of the root, be it past its time, names a certificate of the chain", "use of an intermediate key that AMD withdrew"},
	{ReportSignature, ClassBinding, "the signature over the report verifies under the certificate", "an invented or altered report"},
	{ReportChip, ClassBinding, "the report's chip id is the one in the certificate", "a report of one chip under the certificate of another"},
	{ReportTCB, ClassBinding, "the report's TCB version is, component by component, the one in the certificate", "old firmware that reports a new TCB version"},
	{ReportTable, ClassBinding, "what follows a bare report is the certificate table of its host", "bytes beside a report that nobody looked at"},
	{ReportExpectedData, ClassBinding, "a bare report's REPORT_DATA is what the verifier expects", "an old report, or one that was made for another purpose"},

	{ParavisorDecode, ClassBinding, "the paravisor's blob has consistent sizes, a known hash, and runtime data without duplicate members", "a report, or a key, read from the wrong place"},
	{ParavisorKey, ClassBinding, "the runtime data holds exactly one HCLAkPub, an RSA key of 2048 to 4096 bits", "a second key that another reader would take"},
	{ParavisorUserData, ClassBinding, "the runtime data holds the user data that the verifier expects", "an older report standing beside a quote of now"},

	{BindingReportData, ClassBinding, "the report's REPORT_DATA is the commitment to tree, agent key, AK, quote and log head", "a genuine quote of one TPM beside a genuine report of another machine"},
	{BindingRuntimeData, ClassBinding, "the report's REPORT_DATA is the hash of the paravisor's runtime data, and nothing else", "the attestation key of one machine beside the report of another"},

	{LogContinuation, ClassBinding, "a log that starts at an index, or that is of the same boot, continues the log that the verifier knows from before", "a log whose inconvenient beginning was left out, or another history in its place"},
	{LogDecode, ClassBinding, "the log is a sequence of CEL-TLV records, numbered without a gap", "records dropped, swapped, duplicated or inserted"},
	{LogDigests, ClassBinding, "every record is of one PCR, has one digest for each active bank, and each digest is that of the record's content", "content edited while its digest is kept"},
	{LogReplay, ClassBinding, "replaying the log gives the quoted PCR value in every quoted bank", "a log edited after the fact, or cut off at its end"},
	{LogHead, ClassBinding, "the log's head is the one that report and agent committed to", "a log other than the one that was there when the quote was made"},
	{LogEvents, ClassBinding, "the log begins with its start event, every content is an event of the format, and each start of the agent names the log head it found", "content that verifier and agent read differently"},
	{LogStartValue, ClassBinding, "the PCR was zero when the log began, or had a value that the policy lists", "a log deleted and begun anew during the same boot"},
	{LogAgentKey, ClassBinding, "the evidence's agent key is the one that the last start of the agent logged", "an agent key that never was in the measured log"},
	{AnchorLogPrefix, ClassBinding, "the anchor's log head is a state that the log passed through", "an anchor of another log"},
	{AnchorLogReplay, ClassBinding, "replaying the log up to the anchor gives the PCR value that the anchor quoted", "an anchor whose PCR was in a state that the log does not explain"},
	{FirmwareDecode, ClassBinding, "the firmware's log is a crypto-agile event log with known counts, sizes and PCRs", "a log that two parsers read differently, or that makes its reader run out of memory"},

	{PolicyProduct, ClassPolicy, "the processor generation is one that the policy lists", "an older generation with known physical attacks, offered instead of the expected one"},
	{PolicyReportVersion, ClassPolicy, "the report has at least the version that the policy asks for", "older firmware whose reports leave fields out"},
	{PolicySigner, ClassPolicy, "the signing key is of a kind that the policy lists", "a VLEK, which belongs to a cloud, where a chip's own VCEK is wanted"},
	{PolicyChip, ClassPolicy, "the chip id is shown, and listed where the policy lists chips", "a machine that does not belong to the fleet, or hides which one it is"},
	{PolicyLaunch, ClassPolicy, "the launch measurement is one that the policy lists", "other firmware or another kernel"},
	{PolicyDenied, ClassPolicy, "neither launch measurement nor chip is on the policy's deny list", "a version that is known to be bad"},
	{PolicyVMPL, ClassPolicy, "the report was asked for at a VM privilege level that the policy lists", "less privileged software speaking for the guest"},
	{PolicyDebug, ClassPolicy, "the host may not debug the guest", "the host reading and writing all guest memory, under an unchanged measurement"},
	{PolicyMigrationAgent, ClassPolicy, "the guest has no migration agent", "the guest's state handed to another machine"},
	{PolicySMT, ClassPolicy, "SMT is allowed by the guest only where the policy says so", "side channels from a sibling thread"},
	{PolicySingleSocket, ClassPolicy, "the guest is held to one socket where the policy asks for it", "traffic between sockets"},
	{PolicyCXL, ClassPolicy, "CXL memory is allowed by the guest only where the policy says so", "guest memory on devices outside the processor"},
	{PolicyGuestABI, ClassPolicy, "the guest asked for at least the ABI version that the policy names", "older firmware interfaces"},
	{PolicyGuestFeatures, ClassPolicy, "the guest asked for the memory protections that the policy names", "weaker memory encryption, power side channels, ciphertext visible to the host"},
	{PolicyGuestReserved, ClassPolicy, "no guest policy bit is set that this version cannot name, and the bit that must be one is", "a permission that nobody looked at"},
	{PolicyPlatform, ClassPolicy, "the platform has the properties that the policy names, and none that it refuses", "aliased memory (BadRAM), SMT, power measurement, visible ciphertext"},
	{PolicyPlatformReserved, ClassPolicy, "no platform bit is set that this version cannot name, where the policy refuses those", "a platform property that nobody looked at"},
	{PolicyTCBReported, ClassPolicy, "every component of the reported TCB is at or above its floor", "firmware with published holes"},
	{PolicyTCBCommitted, ClassPolicy, "every component of the committed TCB is at or above its floor", "firmware that the host can still roll back"},
	{PolicyTCBLaunch, ClassPolicy, "every component of the TCB at launch is at or above its floor", "a guest that was launched under firmware with published holes"},
	{PolicyProvisional, ClassPolicy, "the current firmware is the committed one", "firmware that is on trial and can be rolled back"},
	{PolicyMitigations, ClassPolicy, "the mitigations that the policy names were in place at launch and now", "a machine without the mitigation of a published hole"},
	{PolicyGuestSVN, ClassPolicy, "the guest's security version is at or above its floor", "an old, signed guest image"},
	{PolicyFamilyID, ClassPolicy, "the family id of the ID block is the one that the policy names", "another family of images by the same signer"},
	{PolicyImageID, ClassPolicy, "the image id of the ID block is the one that the policy names", "another image by the same signer"},
	{PolicyHostData, ClassPolicy, "the host data is one that the policy lists", "a guest launched with another configuration"},
	{PolicyIDKey, ClassPolicy, "the launch was signed by an ID key that the policy lists", "a launch that nobody signed"},
	{PolicyAuthorKey, ClassPolicy, "the ID key was signed by an author key that the policy lists", "an ID key that nobody vouches for"},
	{PolicyBinding, ClassPolicy, "vTPM and report hang together at least as strongly as the policy asks", "PCR values that rest on less than the verifier thinks"},
	{PolicyAK, ClassPolicy, "the AK is one that the policy names", "a vTPM that was not enrolled"},
	{PolicyAKOrigin, ClassPolicy, "the policy knows the AK by a record of the origin that it asks for", "a vTPM that was enrolled on trust where a certified TPM is wanted"},
	{PolicyEKKey, ClassPolicy, "the certificate in the AK's enrolment is of the endorsement key that the enrolment names, where the policy names roots of such certificates", "the certificate of a genuine TPM beside the endorsement key of one in software"},
	{PolicyEKUsage, ClassPolicy, "that certificate is one for an endorsement key", "a certificate that a maker's authority issued for something else"},
	{PolicyEKChain, ClassPolicy, "that certificate leads to a root that the policy names", "a TPM that its owner certified himself"},
	{PolicyEKValidity, ClassPolicy, "every certificate on that way is valid at the time of appraisal", "use of a maker's keys beyond their time"},
	{PolicyFreshness, ClassPolicy, "the report is fresh where the policy asks for it", "an earlier report where a new one is wanted"},
	{PolicyAnchorAge, ClassPolicy, "the anchor is not older, by the clock of the vTPM, than the policy allows", "a report of long ago"},
	{PolicyPCR, ClassPolicy, "every PCR that the policy pins was quoted and has one of the listed values", "another boot loader, kernel or command line"},
	{PolicyLog, ClassPolicy, "the evidence holds a log where the policy needs one", "applications hidden by leaving the log out"},
	{PolicyFirmwareLog, ClassPolicy, "the firmware's log is there and leads to the quoted values of PCRs 0 to 7, but for those that the policy pins, where the policy asks for it", "a boot that nobody can follow"},
	{PolicyLogGaps, ClassPolicy, "the log records no gap, or the policy tolerates gaps", "a change that happened while nobody could watch"},
	{PolicyLogUnmeasured, ClassPolicy, "the log records no declared application that could not be measured, or the policy tolerates it", "an application that runs unmeasured"},
	{PolicyAgent, ClassPolicy, "every agent that wrote to this log has a version and digest that the policy lists", "an old or foreign agent"},
	{PolicyAppPresent, ClassPolicy, "every application that the policy requires was measured", "a required application that is not there"},
	{PolicyAppDigest, ClassPolicy, "every digest that an application had since boot is one that the policy lists", "a tampered application that was put back before the evidence was asked for"},
	{PolicyAppUnit, ClassPolicy, "every event of an application names the unit and user that the policy names", "a genuine program run by another unit"},
	{PolicyAppUnlisted, ClassPolicy, "no application was measured that the policy does not list, where the policy refuses those", "a further application beside the expected ones"},
	{PolicyCallerUnit, ClassPolicy, "the statement was asked for by the unit that the policy names", "another service on the machine asking for evidence over its own key"},
	{PolicyCallerUser, ClassPolicy, "the statement was asked for by the uid that the policy names", "another user's process inside the unit"},
	{PolicyCallerApp, ClassPolicy, "the statement was asked for by the application that the policy names", "a caller that is not the declared application"},
	{PolicyCallerExecutable, ClassPolicy, "the caller's executable was observed with a digest that the policy lists, and covered by its application where asked", "an unexpected program in the right unit; an observation only, see docs/policy.md"},
}
