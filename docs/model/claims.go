// SPDX-License-Identifier: Apache-2.0

package main

// other returns capabilities on the guest that the report is not of.
func other(c capabilities) capabilities { return c << onB }

// nothing stands for an attack that is not there.
const nothing = ^capabilities(0)

// Sets of capabilities that occur in several claims.
var (
	rootAndTPM   = []capabilities{root | vtpm, root | other(vtpm)}
	rootAlone    = []capabilities{root}
	rootOfBoth   = []capabilities{root | other(root), root | other(leaked)}
	rootOfKnown  = []capabilities{root | other(root), root | vtpm | other(leaked), root | other(leaked|vtpm), root | other(leaked|device)}
	signsOnTPM   = []capabilities{root, leaked | device, leaked | vtpm, old | vtpm}
	withoutLog   = append([]capabilities{old | device}, signsOnTPM...)
	signsRecords = []capabilities{root, leaked | device}
	keyAndTPM    = []capabilities{leaked | vtpm, old | vtpm}
	clocks       = []capabilities{root, leaked | vtpm, old | vtpm, clock | vtpm}
)

// claims are the boundaries with all items in place: for each policy and property the
// smallest sets of capabilities that break it. A property that is not here is not broken by
// any set.
var claims = [modes][properties][]capabilities{
	freshKnown: {byCaller: rootAlone, oneMachine: rootAlone, complete: rootAndTPM, honest: rootAlone, hasKey: rootOfKnown},
	freshAny:   {byCaller: rootAlone, oneMachine: rootAlone, complete: rootAlone, honest: rootAlone, hasKey: rootOfBoth},
	anchoredKnown: {byCaller: signsOnTPM, oneMachine: signsOnTPM, complete: append(keyAndTPM, rootAndTPM...), honest: signsRecords,
		young: clocks, hasKey: rootOfKnown},
	anchoredAny: {byCaller: signsOnTPM, oneMachine: signsOnTPM, complete: append(keyAndTPM, root), honest: signsRecords,
		young: clocks, hasKey: rootOfBoth},
	freshNoLog:    {byCaller: rootAlone, oneMachine: rootAlone, hasKey: rootOfBoth},
	anchoredNoLog: {byCaller: withoutLog, oneMachine: withoutLog, young: clocks, hasKey: rootOfBoth},
}

// A removal is what follows if an item is not there.
type removal struct {
	item   item
	breaks property     // the property that the item is for
	mode   mode         // the policy under which that shows
	by     capabilities // an attacker who breaks it then, and not otherwise; nothing if no attacker of the model does
	with   items        // must be removed as well, and alone does not suffice: without item alone nothing breaks
	why    string       // why an item stays whose removal breaks nothing
}

// removals has one entry for each item, in their order.
var removals = []removal{
	{item: leafNonce, breaks: fresherThanNonce, mode: freshKnown},
	{item: leafAudience, breaks: forUs, mode: freshKnown},
	{item: leafCaller, breaks: byCaller, mode: freshKnown},
	{item: leafKey, breaks: byCaller, mode: freshKnown},
	{item: quoteRoot, breaks: complete, mode: freshKnown, by: root},
	{item: quoteAnchor, breaks: oneMachine, mode: anchoredNoLog, by: leaked, with: only(checkReset), why: "the agent signature commits to it as well"},
	{item: batchRoot, breaks: fresherThanNonce, mode: anchoredKnown, with: only(quoteRoot), why: "the quote in `attest` commits to it as well"},
	{item: batchAnchor, breaks: young, mode: anchoredKnown, by: nothing, why: "the quote commits to it, and every anchor of the same agent key is honest. It keeps the rule simple: a signature is over all that it vouches for"},
	{item: batchTime, breaks: young, mode: anchoredKnown, by: vtpm},
	{item: batchAttest, breaks: byCaller, mode: anchoredKnown, by: device, with: only(batchRoot), why: "the quote leads to the same root"},
	{item: batchHead, breaks: complete, mode: anchoredKnown, by: vtpm, with: only(batchAttest), why: "the PCR in `attest` leads to the same log"},
	{item: reportRoot, breaks: fresherThanNonce, mode: freshKnown, with: only(reportAttest), why: "the quote in `attest` commits to it as well"},
	{item: reportTime, breaks: young, mode: anchoredKnown, by: vtpm, with: only(anchorTime), why: "the anchor digest commits to it as well"},
	{item: reportKey, breaks: byCaller, mode: anchoredKnown, by: device},
	{item: reportAK, breaks: complete, mode: anchoredAny, by: leaked},
	{item: reportAttest, breaks: young, mode: anchoredKnown, by: leaked | device},
	{item: reportHead, breaks: prefixed, mode: anchoredKnown, by: leaked | vtpm, with: only(checkAnchorReplay), why: "the PCR in `attest` leads to the same log"},
	{item: anchorRoot, breaks: young, mode: anchoredKnown, by: nothing, why: "nothing opens the tree of an anchor, and the report commits to it"},
	{item: anchorTime, breaks: young, mode: anchoredKnown, by: vtpm, with: only(reportTime), why: "the report commits to it as well"},
	{item: anchorKey, breaks: hasKey, mode: anchoredNoLog, by: other(leaked), with: only(reportKey), why: "the report commits to it as well"},
	{item: anchorAK, breaks: oneMachine, mode: anchoredAny, with: only(reportAK), why: "the report commits to it as well"},
	{item: anchorAttest, breaks: young, mode: anchoredKnown, by: device | clock, with: only(reportAttest), why: "the report commits to it as well"},
	{item: anchorHead, breaks: prefixed, mode: anchoredKnown, by: nothing, why: "the report commits to it as well, and the PCR of the anchor's quote"},
	{item: anchorReport, breaks: oneMachine, mode: anchoredKnown, with: only(checkBinding), why: "the report commits to the anchor. It keeps out another report over the same data"},
	{item: logPrevious, breaks: prefixed, mode: anchoredKnown, by: leaked | vtpm, with: only(checkAnchorReplay), why: "the PCR chains the records as well"},
	{item: proofLabel, breaks: hasKey, mode: freshKnown},
	{item: proofNonce, breaks: hasKey, mode: freshKnown, by: root},
	{item: proofAudience, breaks: hasKey, mode: freshKnown, by: root},
	{item: proofKey, breaks: hasKey, mode: freshKnown},
	{item: proofUID, breaks: hasKey, mode: freshKnown, by: root},
	{item: proofPID, breaks: hasKey, mode: freshKnown},
	{item: proofStarted, breaks: hasKey, mode: freshKnown},

	{item: checkNonce, breaks: fresherThanNonce, mode: freshKnown},
	{item: checkAudience, breaks: forUs, mode: freshKnown},
	{item: checkFreshness, breaks: byCaller, mode: freshKnown, by: leaked | device},
	{item: checkProof, breaks: hasKey, mode: freshKnown, by: root},
	{item: checkInclusion, breaks: byCaller, mode: freshKnown},
	{item: checkSignature, breaks: byCaller, mode: anchoredKnown, by: device},
	{item: checkAttributes, breaks: complete, mode: freshKnown, by: root | device},
	{item: checkType, breaks: complete, mode: freshKnown, by: root | device},
	{item: checkQuote, breaks: complete, mode: freshKnown, by: root},
	{item: checkData, breaks: complete, mode: freshKnown, by: root},
	{item: checkAnchorQuote, breaks: young, mode: anchoredKnown, by: nothing, why: "the report commits to the anchor's `attest`"},
	{item: checkAnchorData, breaks: young, mode: anchoredKnown, by: nothing, why: "the report commits to the anchor's root and `attest`"},
	{item: checkReset, breaks: oneMachine, mode: anchoredNoLog, by: leaked, with: only(quoteAnchor), why: "the agent key and the log change with a boot as well"},
	{item: checkAnchorClock, breaks: young, mode: anchoredKnown, by: leaked},
	{item: checkAnchorTime, breaks: young, mode: anchoredKnown, by: vtpm},
	{item: checkReport, breaks: byCaller, mode: freshAny},
	{item: checkBinding, breaks: byCaller, mode: freshAny},
	{item: checkLaunch, breaks: byCaller, mode: freshAny},
	{item: checkAK, breaks: complete, mode: freshKnown, by: root},
	{item: checkHead, breaks: complete, mode: anchoredKnown, by: vtpm, with: only(batchAttest), why: "the PCR leads to the same log"},
	{item: checkReplay, breaks: complete, mode: freshKnown, by: root},
	{item: checkStart, breaks: complete, mode: freshKnown, by: root},
	{item: checkPCR, breaks: complete, mode: freshKnown, by: root},
	{item: checkAgentKey, breaks: byCaller, mode: anchoredKnown, by: old | device},
	{item: checkAgentStop, breaks: byCaller, mode: anchoredKnown, by: old | device},
	{item: checkPrefix, breaks: prefixed, mode: anchoredKnown, by: leaked | vtpm, with: only(checkAnchorReplay), why: "the PCR of the anchor's quote must lead to a head of the log"},
	{item: checkAnchorReplay, breaks: prefixed, mode: anchoredKnown, by: leaked | vtpm, with: only(checkPrefix), why: "the anchor's head must be one of the log"},
	{item: checkContinuation, breaks: continues, mode: freshAny, by: root},
	{item: checkSameBoot, breaks: knownBoot, mode: freshKnown, by: root},
	{item: agentProof, breaks: hasKey, mode: freshKnown, with: only(checkProof), why: "the verifier checks it as well. The caller learns at once that its proof is wrong"},
	{item: agentReplay, breaks: complete, mode: freshKnown, by: device, with: only(checkReplay), why: "the verifier checks it as well. The agent does not ask for a report in vain"},
}
