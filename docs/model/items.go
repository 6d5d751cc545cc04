// SPDX-License-Identifier: Apache-2.0

package main

import "math/bits"

// An item is something that a run can remove: a part of a commitment, or a check.
type item uint8

// Parts of the labelled hashes of docs/evidence.md, section 5, in the order there, the
// members of statement, key proof and log record that a claim rests on, then checks.
const (
	leafNonce item = iota
	leafAudience
	leafCaller
	leafKey
	quoteRoot
	quoteAnchor
	batchRoot
	batchAnchor
	batchTime
	batchAttest
	batchHead
	reportRoot
	reportTime
	reportKey
	reportAK
	reportAttest
	reportHead
	anchorRoot
	anchorTime
	anchorKey
	anchorAK
	anchorAttest
	anchorHead
	anchorReport
	logPrevious
	proofLabel
	proofNonce
	proofAudience
	proofKey
	proofUID
	proofPID
	proofStarted

	checkNonce
	checkAudience
	checkFreshness
	checkProof
	checkInclusion
	checkSignature
	checkAttributes
	checkType
	checkQuote
	checkData
	checkAnchorQuote
	checkAnchorData
	checkReset
	checkAnchorClock
	checkAnchorTime
	checkReport
	checkBinding
	checkLaunch
	checkAK
	checkHead
	checkReplay
	checkStart
	checkPCR
	checkAgentKey
	checkAgentStop
	checkPrefix
	checkAnchorReplay
	checkContinuation
	checkSameBoot
	agentProof
	agentReplay

	itemCount
)

// itemNames are the names in tables. A part is written as label: part, with the label of
// docs/evidence.md; a check has the name that docs/checks.md gives.
var itemNames = [itemCount]string{
	leafNonce: "statement: nonce", leafAudience: "statement: audience", leafCaller: "statement: caller", leafKey: "statement: publicKey",
	quoteRoot: "quote: root", quoteAnchor: "quote: anchor digest",
	batchRoot: "batch: root", batchAnchor: "batch: anchor digest", batchTime: "batch: time", batchAttest: "batch: attest", batchHead: "batch: log head",
	reportRoot: "report: root", reportTime: "report: time", reportKey: "report: agentKey", reportAK: "report: ak", reportAttest: "report: attest", reportHead: "report: log head",
	anchorRoot: "anchor: root", anchorTime: "anchor: time", anchorKey: "anchor: agentKey", anchorAK: "anchor: ak", anchorAttest: "anchor: attest", anchorHead: "anchor: log head", anchorReport: "anchor: report.bytes",
	logPrevious: "log: previous digest",
	proofLabel:  "key-proof: label", proofNonce: "key-proof: nonce", proofAudience: "key-proof: audience", proofKey: "key-proof: agentKey",
	proofUID: "key-proof: uid", proofPID: "key-proof: pid", proofStarted: "key-proof: started",

	checkNonce: "statement.nonce", checkAudience: "statement.audience", checkFreshness: "policy.freshness", checkProof: "statement.key-proof",
	checkInclusion: "batch.inclusion", checkSignature: "batch.agent-signature",
	checkAttributes: "ak.attributes", checkType: "quote.type", checkQuote: "quote.signature", checkData: "quote.qualifying-data",
	checkAnchorQuote: "anchor.signature", checkAnchorData: "anchor.qualifying-data", checkReset: "anchor.reset-count",
	checkAnchorClock: "policy.anchor-age (clock of the vTPM)", checkAnchorTime: "policy.anchor-age (clock of the guest)",
	checkReport: "report.signature", checkBinding: "binding.report-data", checkLaunch: "policy.launch", checkAK: "policy.ak",
	checkHead: "log.head", checkReplay: "log.replay", checkStart: "policy.start-value", checkPCR: "policy.log-pcr", checkAgentKey: "log.agent-key", checkAgentStop: "log.agent-key (after agent-stop)",
	checkPrefix: "anchor.log-prefix", checkAnchorReplay: "anchor.log-replay",
	checkContinuation: "log.continuation", checkSameBoot: "log.continuation (same AK and resetCount)",
	agentProof: "agent: compares a key proof", agentReplay: "agent: compares quote and log",
}

// items is a set of removed items. The array does not compile if there are too many.
type items uint64

var _ [64 - itemCount]struct{}

func only(list ...item) items {
	var s items
	for _, i := range list {
		s |= 1 << i
	}
	return s
}

func (s items) has(i item) bool { return s>>i&1 == 1 }

// String returns the names of the items.
func (s items) String() string {
	text := ""
	for ; s != 0; s &= s - 1 {
		if text != "" {
			text += " and "
		}
		text += itemNames[bits.TrailingZeros64(uint64(s))]
	}
	return text
}
