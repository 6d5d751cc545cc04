// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto/ed25519"
	"crypto/elliptic"
	"regexp"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

func replace(old, with string) func(*testing.T, []byte) []byte {
	return func(t *testing.T, b []byte) []byte {
		t.Helper()
		if bytes.Count(b, []byte(old)) < 1 {
			t.Fatalf("no %q in the document", old)
		}
		return bytes.Replace(b, []byte(old), []byte(with), 1)
	}
}

func document(f func(*evidence.Evidence)) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) { r.Document = f }
}

// attribute changes the attributes of the AK, which is then quoted and reported with them.
func attribute(f func(*tpm2.TPMAObject)) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) { f(&r.AK.Template.ObjectAttributes) }
}

var statementMutations = []mutation{
	{id: EvidenceDecode, name: "case 94 duplicate member", bytes: replace(`{"type":`, `{"type":"agentd/evidence/2","type":`), blind: true},
	{id: EvidenceDecode, name: "case 94 unknown member", bytes: replace(`{"type":`, `{"extra":1,"type":`), blind: true},
	{id: EvidenceDecode, name: "case 94 other case", bytes: replace(`"agentKey":`, `"AgentKey":`), blind: true},
	{id: EvidenceDecode, name: "case 94 loose base64", bytes: func(t *testing.T, b []byte) []byte { return replace(`="`, `"`)(t, b) }, blind: true},
	{id: EvidenceDecode, name: "case 94 trailing data", bytes: func(_ *testing.T, b []byte) []byte { return append(b, "{}"...) }, blind: true},
	{id: EvidenceDecode, name: "missing member whose zero is a value", bytes: func(_ *testing.T, b []byte) []byte {
		return regexp.MustCompile(`"index":[0-9]+,"path"`).ReplaceAll(b, []byte(`"path"`))
	}, blind: true},
	{id: EvidenceDecode, name: "null member", bytes: replace(`{"type":`, `{"anchor":null,"type":`), blind: true},
	{id: EvidenceDecode, name: "integer beyond 2^53 - 1", bytes: replace(`"count":`, `"count":9007199254740992`), blind: true},
	{id: EvidenceDecode, name: "another type", bytes: replace("agentd/evidence/2", "agentd/evidence/1"), blind: true},
	{id: EvidenceDecode, name: "no time of the quote", bytes: func(_ *testing.T, b []byte) []byte {
		return regexp.MustCompile(`"time":[0-9]+,`).ReplaceAll(b, nil)
	}, blind: true},
	{id: EvidenceDecode, name: "empty", bytes: func(*testing.T, []byte) []byte { return nil }, blind: true},

	{id: StatementDecode, name: "case 94 unknown member", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Encoded = func(b []byte) []byte { return append(b[:len(b)-1], `,"extra":1}`...) }
	}},
	{id: StatementDecode, name: "no uid", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Encoded = func(b []byte) []byte {
			return regexp.MustCompile(`"uid":[0-9]+,`).ReplaceAll(b, nil)
		}
	}},
	{id: StatementDecode, name: "no pid", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Encoded = func(b []byte) []byte { return bytes.Replace(b, []byte(`"pid":4321,`), nil, 1) }
	}},
	{id: StatementDecode, name: "pid 0", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Encoded = func(b []byte) []byte { return bytes.Replace(b, []byte(`"pid":4321,`), []byte(`"pid":0,`), 1) }
	}},
	{id: StatementDecode, name: "no start time", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Encoded = func(b []byte) []byte { return bytes.Replace(b, []byte(`"started":5000,`), nil, 1) }
	}},
	{id: StatementDecode, name: "a unit that started after its process", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Encoded = func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"unitStarted":5000`), []byte(`"unitStarted":5001`), 1)
		}
	}},
	{id: StatementDecode, name: "an invocation of 15 bytes", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Encoded = func(b []byte) []byte {
			return regexp.MustCompile(`"invocation":"[^"]*"`).ReplaceAll(b, []byte(`"invocation":"SUlJSUlJSUlJSUlJSUlJ"`))
		}
	}},
	{id: StatementDecode, name: "a proof without a key", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Encoded = func(b []byte) []byte {
			return regexp.MustCompile(`"publicKey":"[^"]*"`).ReplaceAll(b, []byte(`"keyProof":"cHJvb2Y="`))
		}
	}},
	{id: StatementDecode, name: "null member", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Encoded = func(b []byte) []byte { return append(b[:len(b)-1], `,"userData":null}`...) }
	}},
	{id: StatementDecode, name: "trailing data", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Encoded = func(b []byte) []byte { return append(b, '0') }
	}},
	{id: StatementNonce, name: "case 52 stale nonce", opts: func(_ *testing.T, o *options) { o.Nonce = bytes.Repeat([]byte{1}, 32) }},
	{id: StatementNonce, name: "prefix of the nonce", opts: func(_ *testing.T, o *options) { o.Nonce = o.Nonce[:16] }},
	{id: StatementAudience, name: "case 95 another audience", opts: func(_ *testing.T, o *options) { o.Audience = "https://a.example" },
		recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.Statement.Audience = "https://b.example" }},
	{id: StatementAudience, name: "case 95 a verifier without a name", recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.Statement.Audience = "https://b.example" }},
	{id: StatementAudience, name: "a statement without a name", opts: func(_ *testing.T, o *options) { o.Audience = "https://a.example" }},
	{id: StatementPublicKey, name: "another key", opts: func(_ *testing.T, o *options) { o.PublicKey = []byte("another key") }},
	{id: StatementUserData, name: "other data", opts: func(_ *testing.T, o *options) { o.UserData = []byte("invoice 8") }},
	{id: StatementFreshness, name: "case 52 anchored instead of fresh", root: anchoredPolicy, recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.Anchored = true }},

	{id: BatchInclusion, name: "case 64 wrong index", recipe: document(func(e *evidence.Evidence) { e.Inclusion.Index = 1 })},
	{id: BatchInclusion, name: "case 64 index out of the tree", recipe: document(func(e *evidence.Evidence) { e.Inclusion.Index = 3 })},
	{id: BatchInclusion, name: "case 64 extra depth", recipe: document(func(e *evidence.Evidence) { e.Inclusion.Path = append(e.Inclusion.Path, evidence.Digest{}) })},
	{id: BatchInclusion, name: "case 64 short proof", recipe: document(func(e *evidence.Evidence) { e.Inclusion.Path = e.Inclusion.Path[:1] })},
	{id: BatchInclusion, name: "case 52 another caller's proof", recipe: document(func(e *evidence.Evidence) {
		leaves := []evidence.Digest{evidence.Leaf(e.Statement), evidence.Leaf([]byte{0}), evidence.Leaf([]byte{1})}
		tree, err := evidence.NewTree(leaves)
		if err != nil {
			panic(err)
		}
		if e.Inclusion, err = tree.Prove(2); err != nil {
			panic(err)
		}
	})},
	{id: BatchInclusion, name: "case 42 answer for another client", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		var other []byte
		r.Encoded = func(b []byte) []byte { other = b; return b }
		r.Document = func(e *evidence.Evidence) {
			e.Statement = bytes.Replace(other, []byte(`"gid":990`), []byte(`"gid":991`), 1)
		}
	}},

	{id: BatchAgentSignature, name: "another agent key", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.BatchSignature = func(m []byte) []byte { return ed25519.Sign(evidencetest.Key('b'), m) }
	}},
	{id: BatchAgentSignature, name: "case 53 another message", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		key := r.AgentKey
		r.BatchSignature = func(m []byte) []byte { return ed25519.Sign(key, append(m, 0)) }
	}},
	{id: BatchAgentSignature, name: "case 91 anchored, not signed by the anchor's agent key", root: anchoredPolicy, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		anchored(r)
		r.BatchSignature = func(m []byte) []byte { return ed25519.Sign(evidencetest.Key('b'), m) }
	}},

	{id: BatchAgentSignature, name: "another time of the quote", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		anchored(r)
		r.Document = func(e *evidence.Evidence) { e.Batch.Time++ }
	}, root: anchoredPolicy},

	{id: AKDecode, name: "bytes after it", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.AK.Raw = append(r.AK.Public(), 0) }},
	{id: AKDecode, name: "garbage", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.AK.Raw = []byte{0, 0x23, 0, 0x0b} }},
	{id: AKDecode, name: "cut short", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.AK.Raw = []byte{0} }},
	{id: AKAttributes, name: "case 50 not restricted", recipe: attribute(func(a *tpm2.TPMAObject) { a.Restricted = false })},
	{id: AKAttributes, name: "case 50 not fixedTPM", recipe: attribute(func(a *tpm2.TPMAObject) { a.FixedTPM = false })},
	{id: AKAttributes, name: "not fixedParent", recipe: attribute(func(a *tpm2.TPMAObject) { a.FixedParent = false })},
	{id: AKAttributes, name: "imported", recipe: attribute(func(a *tpm2.TPMAObject) { a.SensitiveDataOrigin = false })},
	{id: AKAttributes, name: "does not sign", recipe: attribute(func(a *tpm2.TPMAObject) { a.SignEncrypt = false })},
	{id: AKAttributes, name: "decrypts", recipe: attribute(func(a *tpm2.TPMAObject) { a.Decrypt = true })},
	{id: AKAttributes, name: "signs X.509", recipe: attribute(func(a *tpm2.TPMAObject) { a.X509Sign = true })},
	{id: AKAttributes, name: "encryptedDuplication", recipe: attribute(func(a *tpm2.TPMAObject) { a.EncryptedDuplication = true })},
	{id: AKAlgorithm, name: "case 49 RSA-1024", blind: true, recipe: func(t *testing.T, r *evidencetest.Recipe) { r.AK = evidencetest.RSAKey(t, 1024, tpm2.TPMAlgRSASSA) }},
	{id: AKAlgorithm, name: "case 49 SHA-1", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.AK = evidencetest.ECCKeyOn(elliptic.P256(), tpm2.TPMECCNistP256, tpm2.TPMAlgSHA1, 'k')
	}},
	{id: AKAlgorithm, name: "name under SHA-1", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.AK.Template.NameAlg = tpm2.TPMAlgSHA1 }},
	{id: AKAlgorithm, name: "P-521", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.AK = evidencetest.ECCKeyOn(elliptic.P521(), tpm2.TPMECCNistP521, tpm2.TPMAlgSHA512, 1)
	}},
	{id: AKAlgorithm, name: "point not on the curve", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.AK.Template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: bytes.Repeat([]byte{1}, 32)}, Y: tpm2.TPM2BECCParameter{Buffer: bytes.Repeat([]byte{1}, 32)}})
	}},
	{id: AKAlgorithm, name: "coordinate longer than the curve's", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.AK.Template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: bytes.Repeat([]byte{1}, 100)}, Y: tpm2.TPM2BECCParameter{Buffer: bytes.Repeat([]byte{1}, 32)}})
	}},
	{id: AKAlgorithm, name: "scheme that the signer chooses", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		p, err := r.AK.Template.Parameters.ECCDetail()
		if err != nil {
			panic(err)
		}
		changed := *p
		changed.Scheme = tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgNull}
		r.AK.Template.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &changed)
	}},
}
