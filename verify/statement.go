// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/cvm-agentd/agentd/evidence"
)

// checkStatement holds the statement against what the verifier expects.
func (a *appraiser) checkStatement() {
	s, err := evidence.ParseStatement(a.e.Statement)
	if !a.DecideError(StatementDecode, err) || s == nil {
		return
	}
	a.statement = s
	if a.expect.UnsafeAcceptReplay {
		a.Skip(StatementNonce, "no nonce was expected: this evidence may be old, or made for somebody else")
	} else {
		a.Decide(StatementNonce, equal(s.Nonce, a.expect.Nonce), hex.EncodeToString(a.expect.Nonce), hex.EncodeToString(s.Nonce),
			"the statement holds another nonce than the one that was sent: old evidence, or made for somebody else")
	}
	if a.expect.Audience == "" && s.Audience == "" {
		a.Skip(StatementAudience, "neither statement nor verifier names an audience")
	} else {
		a.Decide(StatementAudience, s.Audience == a.expect.Audience, strconv.Quote(a.expect.Audience), strconv.Quote(s.Audience),
			"the statement was made for another audience than this verifier")
	}
	a.compare(StatementPublicKey, a.expect.PublicKey, s.PublicKey, "public key")
	a.compare(StatementUserData, a.expect.UserData, s.UserData, "user data")
	a.Decide(StatementFreshness, s.Freshness != evidence.Fresh || a.e.Anchor == nil, "a report made for this batch", "an anchored report",
		"the caller asked for a fresh report and was given an anchored one")
}

func (a *appraiser) compare(id CheckID, want, got []byte, what string) {
	if want == nil {
		a.Skip(id, "no %s was expected: what the statement holds was compared with nothing", what)
		return
	}
	a.Decide(id, equal(want, got), short(want), short(got), "the statement holds another %s than the expected one", what)
}

// short is enough of b to tell it apart on a screen.
func short(b []byte) string {
	const most = 32
	if len(b) == 0 {
		return "nothing"
	}
	if len(b) <= most {
		return hex.EncodeToString(b)
	}
	return fmt.Sprintf("%x... (%d bytes)", b[:most], len(b))
}

// checkBatch ties the statement to the tree, and the tree to the agent key.
func (a *appraiser) checkBatch() {
	e := a.e
	a.DecideError(BatchInclusion, evidence.CheckInclusion(e.Batch.Tree, evidence.Leaf(e.Statement), e.Inclusion))
	message := evidence.BatchMessage(e.Batch.Tree, e.AnchorDigest(), e.Batch.Quote.Attest, e.Batch.LogHead)
	a.Decide(BatchAgentSignature, ed25519.Verify(ed25519.PublicKey(e.AgentKey), message, e.AgentSignature),
		"a signature by agent key "+short(e.AgentKey), "one that does not hold",
		"the agent key did not sign this batch: root, size, anchor, quote or log head is not what the agent saw")
}
