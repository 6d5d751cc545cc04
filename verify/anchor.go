// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"time"
)

// checkAnchor compares the two quotes of anchored evidence. Counters and clock are
// shifted by a constant of the key, so they are compared only between quotes of one
// key under one hierarchy; both signatures were checked under the same AK.
func (a *appraiser) checkAnchor() {
	if a.anchor == nil || a.batch == nil {
		return
	}
	then, now := a.anchor.attest, a.batch.attest
	a.Decide(AnchorSigner, equal(then.QualifiedSigner, now.QualifiedSigner), short(then.QualifiedSigner), short(now.QualifiedSigner),
		"the two quotes name different qualified signers")
	a.Decide(AnchorResetCount, then.ResetCount == now.ResetCount, fmt.Sprint(then.ResetCount), fmt.Sprint(now.ResetCount),
		"the vTPM was reset since the anchor: its report is of an earlier boot")
	a.Decide(AnchorRestartCount, then.RestartCount == now.RestartCount, fmt.Sprint(then.RestartCount), fmt.Sprint(now.RestartCount),
		"the vTPM was suspended and resumed since the anchor")
	a.Decide(AnchorClock, now.Clock >= then.Clock, fmt.Sprintf("at least %d ms", then.Clock), fmt.Sprintf("%d ms", now.Clock),
		"the clock of the vTPM went back since the anchor")
}

func (a *appraiser) skipAnchor(why string) {
	for _, id := range []CheckID{AnchorMagic, AnchorType, AnchorDecode, AnchorTrailing, AnchorSignatureEncoding, AnchorSignature,
		AnchorSelection, AnchorPCRDigest, AnchorQualifyingData, AnchorSigner, AnchorResetCount, AnchorRestartCount, AnchorClock,
		AnchorLogPrefix, AnchorLogReplay} {
		a.Skip(id, why)
	}
}

// anchorAge is the time between the two quotes by the clock of the vTPM. A clock that
// went back gives 0; the check on it has failed then.
func (a *appraiser) anchorAge() time.Duration {
	if a.anchor == nil || a.batch == nil || a.batch.attest.Clock < a.anchor.attest.Clock {
		return 0
	}
	ms := a.batch.attest.Clock - a.anchor.attest.Clock
	const most = uint64(1<<63-1) / uint64(time.Millisecond)
	return time.Duration(min(ms, most)) * time.Millisecond
}
