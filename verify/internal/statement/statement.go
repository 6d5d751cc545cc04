// SPDX-License-Identifier: Apache-2.0

// Package statement checks the document of evidence, the statement in it, and what ties
// that statement to the batch that was quoted.
package statement

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"strconv"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify/internal/check"
)

var (
	decodeDocument = check.Definition{ID: "evidence.decode", Class: check.Binding, Ground: check.OnVerifier, Checks: "the document has the type, members and sizes of the format, with no duplicate, unknown or differently-cased member, loose base64 or trailing data", Stops: "two readers that see two different documents in the same bytes"}
	decode         = check.Definition{ID: "statement.decode", Class: check.Binding, Ground: check.OnVerifier, Checks: "the statement's exact bytes are a statement of the format", Stops: "a statement that this verifier reads differently from its user"}
	nonce          = check.Definition{ID: "statement.nonce", Class: check.Binding, Ground: check.OnVerifier, Checks: "the statement contains the nonce that the verifier sent", Stops: "replay of old evidence"}
	audience       = check.Definition{ID: "statement.audience", Class: check.Binding, Ground: check.OnVerifier, Checks: "the statement names this verifier, or neither side names an audience", Stops: "evidence that was made for another verifier, relayed"}
	publicKey      = check.Definition{ID: "statement.public-key", Class: check.Binding, Ground: check.OnAgent, Checks: "the statement contains the public key that the verifier sees in use", Stops: "a man in the middle who shows genuine evidence with a key of his own"}
	userData       = check.Definition{ID: "statement.user-data", Class: check.Binding, Ground: check.OnAgent, Checks: "the statement contains the user data that the verifier expects", Stops: "genuine evidence passed off for another purpose"}
	keyProof       = check.Definition{ID: "statement.key-proof", Class: check.Binding, Ground: check.OnAgent, Checks: "the key in the statement signed this request: nonce, audience, agent key, and the caller's uid, process and start time", Stops: "a key vouched for that the caller does not have"}
	freshness      = check.Definition{ID: "statement.freshness", Class: check.Binding, Ground: check.OnAgent, Checks: "the report was made for this batch, if the statement asks for a fresh one", Stops: "an older report served when a new one was asked for"}
	inclusion      = check.Definition{ID: "batch.inclusion", Class: check.Binding, Ground: check.OnVerifier, Checks: "the statement is a leaf of the tree that was quoted, at the place the proof states", Stops: "another caller's proof, an inner node passed as a leaf"}
	agentKey       = check.Definition{ID: "batch.agent-key", Class: check.Binding, Ground: check.OnVerifier, Checks: "the agent key is the one encoding of an Ed25519 public key, and not of small order", Stops: "a key under which any party can sign, or that has two names"}
	agentSignature = check.Definition{ID: "batch.agent-signature", Class: check.Binding, Ground: check.OnAgent, Checks: "the agent key that the report names signed this batch: root, size, anchor, time, quote and log head", Stops: "an attacker who runs the vTPM or can open the TPM device, and cannot ask for a report, minting quotes with invented callers"}
)

// Definitions are the checks of this package.
var Definitions = []check.Definition{decodeDocument, decode, nonce, audience, publicKey, keyProof, userData, freshness, inclusion, agentKey, agentSignature}

// Expected is what a verifier expects of a statement.
type Expected struct {
	Nonce     []byte
	Replay    bool // no nonce is expected
	Audience  string
	PublicKey []byte // nil: not compared
	UserData  []byte // nil: not compared
}

// Parse parses a document of evidence. It returns nil if that is not possible.
func Parse(f *check.Findings, document []byte) *evidence.Evidence {
	e, err := evidence.Parse(document)
	if !f.DecideError(decodeDocument.ID, err) {
		return nil
	}
	return e
}

// Check compares the statement of e with what is expected. It returns nil if the
// statement cannot be parsed.
func Check(f *check.Findings, e *evidence.Evidence, want Expected) *evidence.Statement {
	s, err := evidence.ParseStatement(e.Statement)
	if !f.DecideError(decode.ID, err) || s == nil {
		return nil
	}
	if !f.SkipIf(want.Replay, nonce.ID, "no nonce was expected: this evidence may be old, or made for another verifier") {
		f.Decide(nonce.ID, bytes.Equal(s.Nonce, want.Nonce), hex.EncodeToString(want.Nonce), hex.EncodeToString(s.Nonce),
			"the nonce in the statement is not the one that was sent: the evidence is old, or made for another verifier")
	}
	if !f.SkipIf(want.Audience == "" && s.Audience == "", audience.ID, "neither statement nor verifier names an audience") {
		f.Decide(audience.ID, s.Audience == want.Audience, strconv.Quote(want.Audience), strconv.Quote(s.Audience),
			"the statement was made for another audience than this verifier")
	}
	compare(f, publicKey.ID, want.PublicKey, s.PublicKey, "public key")
	checkKeyProof(f, s, e.AgentKey)
	compare(f, userData.ID, want.UserData, s.UserData, "user data")
	made := "a report made for this batch"
	if e.Anchor != nil {
		made = "an anchored report"
	}
	f.Decide(freshness.ID, s.Freshness != evidence.Fresh || e.Anchor == nil, "a report made for this batch", made,
		"the caller asked for a fresh report and was given an anchored one")
	return s
}

// checkKeyProof checks the signature by which the caller shows that it has the key that it names.
func checkKeyProof(f *check.Findings, s *evidence.Statement, agentKey []byte) {
	if f.SkipIf(len(s.PublicKey) == 0, keyProof.ID, "the statement names no key") ||
		f.SkipIf(len(s.KeyProof) == 0, keyProof.ID, "the key is named by the caller, who did not prove to have it") {
		return
	}
	f.DecideError(keyProof.ID, keys.CheckPossession(s.PublicKey, evidence.KeyProofMessage(s, agentKey), s.KeyProof))
}

func compare(f *check.Findings, id check.ID, want, got []byte, what string) {
	if !f.SkipIf(want == nil, id, "no %s was expected: the one in the statement was not compared", what) {
		f.Decide(id, bytes.Equal(want, got), check.Short(want), check.Short(got), "the %s in the statement does not match the expected one", what)
	}
}

// CheckBatch checks that the statement is in the tree, and that the agent key signed it.
func CheckBatch(f *check.Findings, e *evidence.Evidence) {
	f.DecideError(inclusion.ID, evidence.CheckInclusion(e.Batch.Tree, evidence.Leaf(e.Statement), e.Inclusion))
	message := evidence.BatchMessage(&e.Batch, e.AnchorDigest())
	f.DecideError(agentKey.ID, keys.CheckEd25519(e.AgentKey))
	f.DecideSignature(agentSignature.ID, ed25519.Verify(ed25519.PublicKey(e.AgentKey), message, e.AgentSignature), "agent key "+check.Short(e.AgentKey),
		"the agent key did not sign this batch: root, size, anchor, time, quote or log head is not what the agent saw")
}

// Signed reports whether the agent signed the batch.
func Signed(f *check.Findings) bool { return f.Passed(agentSignature.ID) }
