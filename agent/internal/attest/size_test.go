// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// Sizes in bytes of what real machines put into evidence: a quote of 16 PCRs of one bank
// by an AK on P-256, a report of SEV-SNP, and AMD's certificates (VCEK or VLEK, ASK or
// ASVK, ARK; RSA-4096 signatures), with room to spare.
const (
	realAttest    = 160
	realSignature = 72
	realPublic    = 96
	realReport    = 1184
	realLeaf      = 1400 // recorded ones have up to 1,362
	realAuthority = 1700 // AMD's have up to 1,683
)

// proved returns a request of who with a proof that it has key, to an agent without a key.
func proved(t *testing.T, key crypto.Signer, who evidence.Caller, nonce int) api.EvidenceRequest {
	t.Helper()
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	s := evidence.Statement{Nonce: make([]byte, nonce), Caller: who}
	return api.EvidenceRequest{Nonce: s.Nonce, PublicKey: public, KeyProof: evidencetest.SignPossession(t, key, evidence.KeyProofMessage(&s, nil))}
}

// TestEvidenceSize: without logs, evidence of a real machine stays below 15 KB in the
// deepest tree there is, and its size follows from what the caller put in.
func TestEvidenceSize(t *testing.T) {
	snapshot := func(tree evidence.TreeHead) evidence.Snapshot {
		var pcrs evidence.Registers
		for i := range uint32(16) {
			pcrs = append(pcrs, evidence.PCR{Index: i, Value: make([]byte, 32)})
		}
		return evidence.Snapshot{
			Tree:    tree,
			Time:    315_000_000_000, // ten years
			LogHead: evidence.LogHead{Count: 100000, Digest: evidence.Digest{1}},
			Quote:   evidence.Quote{Attest: make([]byte, realAttest), Signature: make([]byte, realSignature)},
			PCRs:    evidence.Banks{{Algorithm: "sha256", PCRs: pcrs}},
		}
	}
	leaves := make([]evidence.Digest, evidence.MaxBatch)
	for i := range leaves {
		binary.BigEndian.PutUint64(leaves[i][:], uint64(i))
	}
	who := evidence.Caller{
		UID: 1<<32 - 2, GID: 1<<32 - 2, PID: 1 << 22, Started: 315_000_000_000, UnitStarted: new(uint64(315_000_000_000)), Invocation: make([]byte, 16), Unit: strings.Repeat("u", 64), App: strings.Repeat("a", 64), Method: evidence.MethodStartTime,
		Executable: &evidence.Executable{State: evidence.ExecutableUnreadable, Path: "/" + strings.Repeat("p", 127), Digest: &evidence.Digest{1}, Covered: true},
	}
	largest := who
	largest.PID, largest.Started = 1<<31-1, 1<<53-1
	largest.Unit, largest.App = strings.Repeat("u", evidence.MaxName), strings.Repeat("a", evidence.MaxName)
	largest.Executable = &evidence.Executable{State: evidence.ExecutableUnreadable, Path: strings.Repeat(`\`, evidence.MaxPath), Digest: &evidence.Digest{1}}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa4096, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		ask   api.EvidenceRequest
		who   evidence.Caller
		limit int
	}{
		{"usual", api.EvidenceRequest{Nonce: make([]byte, 32), PublicKey: make([]byte, 91)}, who, 15000},                                   // P-256
		{"RSA", api.EvidenceRequest{Nonce: make([]byte, 64), PublicKey: make([]byte, 550), Audience: strings.Repeat("a", 64)}, who, 15000}, // RSA-4096
		{"usual, with a proof", proved(t, p256, who, 32), who, 15000},
		{"RSA, with a proof", proved(t, rsa4096, who, 64), who, 16000},
		{"all that a caller may put in", api.EvidenceRequest{Nonce: make([]byte, 64), PublicKey: make([]byte, 8192), UserData: make([]byte, 4096), Audience: strings.Repeat("\"", 256)}, largest, 50000}, // base64 twice
	} {
		for _, freshness := range []evidence.Freshness{evidence.Fresh, evidence.Anchored} {
			c.ask.Log, c.ask.Freshness = api.LogNone, freshness
			w, err := newWaiter(c.ask, c.who, nil)
			if err != nil {
				t.Fatal(err)
			}
			leaves[7] = w.leaf
			tree, err := evidence.NewTree(leaves)
			if err != nil {
				t.Fatal(err)
			}
			b := &batch{
				tree: tree, snapshot: snapshot(tree.Head()), signature: make([]byte, ed25519.SignatureSize),
				agentKey: make([]byte, 32), ak: make([]byte, realPublic),
				report: evidence.Report{Kind: evidence.ReportSNP, Bytes: make([]byte, realReport)},
			}
			for _, n := range []int{realLeaf, realAuthority, realAuthority} {
				b.certificates = append(b.certificates, make([]byte, n))
			}
			if freshness == evidence.Anchored {
				b.anchor = &anchor{snapshot: snapshot(tree.Head())}
			}
			parts, err := b.document(w, 7, elsewhere{firmwareLog: func() []byte { return nil }})
			if err != nil {
				t.Fatal(err)
			}
			document := bytes.Join(parts, nil)
			e, err := evidence.Parse(document)
			if err != nil {
				t.Fatal(err)
			}
			if len(e.Inclusion.Path) != evidence.MaxProof {
				t.Errorf("proof of %d hashes, want the longest", len(e.Inclusion.Path))
			}
			t.Logf("%s, %s: %d bytes, %d of them the statement", c.name, freshness, len(document), len(e.Statement))
			if len(document) >= c.limit {
				t.Errorf("%s, %s: %d bytes, want less than %d", c.name, freshness, len(document), c.limit)
			}
		}
	}
}
