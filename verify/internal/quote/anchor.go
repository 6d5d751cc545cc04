// SPDX-License-Identifier: Apache-2.0

package quote

import (
	"bytes"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// Anchor is the checks of the quote of an anchor.
var Anchor = Set{
	what:           "anchor's quote",
	magic:          check.Definition{ID: "anchor.magic", Class: check.Binding, Ground: check.OnQuote, Checks: "the anchor's quote starts with TPM_GENERATED_VALUE", Stops: "as quote.magic, for the quote that the report covers"},
	typ:            check.Definition{ID: "anchor.type", Class: check.Binding, Ground: check.OnQuote, Checks: "the anchor's attestation is of type TPM_ST_ATTEST_QUOTE", Stops: "as quote.type"},
	decode:         check.Definition{ID: "anchor.decode", Class: check.Binding, Ground: check.OnVerifier, Checks: "the anchor's quote is a TPMS_ATTEST over a TPMS_QUOTE_INFO", Stops: "as quote.decode"},
	trailing:       check.Definition{ID: "anchor.trailing", Class: check.Binding, Ground: check.OnVerifier, Checks: "nothing follows the anchor's quote", Stops: "as quote.trailing"},
	encoding:       check.Definition{ID: "anchor.signature-encoding", Class: check.Binding, Ground: check.OnVerifier, Checks: "the anchor's signature is exactly one TPMT_SIGNATURE of the AK's own scheme and hash", Stops: "as quote.signature-encoding"},
	signature:      check.Definition{ID: "anchor.signature", Class: check.Binding, Ground: check.OnQuote, Checks: "the signature over the anchor's quote verifies under the same AK", Stops: "an anchor that belongs to another TPM"},
	selection:      check.Definition{ID: "anchor.selection", Class: check.Binding, Ground: check.OnQuote, Checks: "the anchor's quote selects known banks in canonical form, and the evidence gives values for exactly those PCRs", Stops: "as quote.selection"},
	pcrDigest:      check.Definition{ID: "anchor.pcr-digest", Class: check.Binding, Ground: check.OnQuote, Checks: "the anchor's PCR values hash to its quoted digest", Stops: "invented PCR values for the moment of the report"},
	qualifyingData: check.Definition{ID: "anchor.qualifying-data", Class: check.Binding, Ground: check.OnQuote, Checks: "the anchor's extraData commits to its own tree and to no further anchor", Stops: "a chain of anchors that hides how old the report is"},
}

var (
	signer       = check.Definition{ID: "anchor.signer", Class: check.Binding, Ground: check.OnQuote, Checks: "both quotes name the same qualified signer", Stops: "clock and counters of two different hierarchies compared with each other"}
	resetCount   = check.Definition{ID: "anchor.reset-count", Class: check.Binding, Ground: check.OnQuote, Checks: "both quotes have the same reset count", Stops: "a report of an earlier boot passed off for this one"}
	restartCount = check.Definition{ID: "anchor.restart-count", Class: check.Binding, Ground: check.OnQuote, Checks: "both quotes have the same restart count", Stops: "a report from before the vTPM was suspended and resumed, passed off for the time after it"}
	clock        = check.Definition{ID: "anchor.clock", Class: check.Binding, Ground: check.OnQuote, Checks: "the clock in the batch's quote is not before the one in the anchor's quote", Stops: "a batch that is older than its anchor, with a negative age"}
)

var guestClock = check.Definition{ID: "anchor.guest-clock", Class: check.Binding, Ground: check.OnAgent, Checks: "by the times that the agent key signed, the guest's clock did not run backwards from anchor to batch", Stops: "a batch that is older than its anchor, with a negative age"}

// AnchorDefinitions are the checks of the quote of an anchor, and of the two quotes of
// anchored evidence.
var AnchorDefinitions = append(Anchor.definitions(), signer, resetCount, restartCount, clock, guestClock)

// CheckBetween compares the two quotes of anchored evidence; nil is one that could not be
// read. Counters and clock are shifted by a constant of the key, so they are compared only
// between quotes of one key under one hierarchy; both signatures were checked under the
// same AK.
func CheckBetween(f *check.Findings, anchor, batch *Quote) {
	if anchor == nil || batch == nil {
		return
	}
	then, now := anchor.attest, batch.attest
	f.Decide(signer.ID, bytes.Equal(then.QualifiedSigner, now.QualifiedSigner), check.Short(then.QualifiedSigner), check.Short(now.QualifiedSigner),
		"the two quotes name different qualified signers")
	f.Decide(resetCount.ID, then.ResetCount == now.ResetCount, fmt.Sprint(then.ResetCount), fmt.Sprint(now.ResetCount),
		"the vTPM was reset since the anchor: its report is of an earlier boot")
	f.Decide(restartCount.ID, then.RestartCount == now.RestartCount, fmt.Sprint(then.RestartCount), fmt.Sprint(now.RestartCount),
		"the vTPM was suspended and resumed since the anchor")
	f.Decide(clock.ID, now.Clock >= then.Clock, fmt.Sprintf("at least %d ms", then.Clock), fmt.Sprintf("%d ms", now.Clock),
		"the clock of the vTPM went back since the anchor")
}

// CheckTimes compares the times of anchor and batch by the guest's own clock, in
// milliseconds. The agent signed both: that of the anchor is in the report, that of the
// batch under its key.
func CheckTimes(f *check.Findings, anchor, batch uint64) {
	f.Decide(guestClock.ID, batch >= anchor, fmt.Sprintf("at least %d ms", anchor), fmt.Sprintf("%d ms", batch), "the clock of the guest went back since the anchor")
}

// TimesComparable reports whether the agent's times may be compared.
func TimesComparable(f *check.Findings) bool { return f.Passed(guestClock.ID) }

// Milliseconds returns a time in milliseconds as a duration, of 292 years at most.
func Milliseconds(ms uint64) time.Duration {
	const most = uint64(1<<63-1) / uint64(time.Millisecond)
	return time.Duration(min(ms, most)) * time.Millisecond
}

// Comparable reports whether the clocks of the two quotes may be compared.
func Comparable(f *check.Findings, anchor, batch *Quote) bool {
	for _, d := range []check.Definition{Batch.signature, Anchor.signature, signer, resetCount, restartCount, clock} {
		if !f.Passed(d.ID) {
			return false
		}
	}
	return anchor != nil && batch != nil
}

// Age returns the time between the two quotes by the clock of the vTPM. A clock that went
// back gives 0; the check on it has failed then.
func Age(anchor, batch *Quote) time.Duration {
	if anchor == nil || batch == nil || batch.attest.Clock < anchor.attest.Clock {
		return 0
	}
	return Milliseconds(batch.attest.Clock - anchor.attest.Clock)
}
