// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/strictjson"
)

var update = flag.Bool("update", false, "write testdata and the example in docs/evidence.md anew")

// example is the worked example of docs/evidence.md: one batch of three
// statements, made from fixed inputs, of which the second is followed.
type example struct {
	statement Statement
	encoded   []byte
	leaves    []Digest
	tree      *Tree
	attest    []byte
	head      LogHead
	evidence  *Evidence
}

func count(n int, first byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

// exampleAgent and exampleCaller are the keys of the agent and of its caller.
var (
	exampleAgent  = ed25519.NewKeyFromSeed(count(32, 0xa0))
	exampleCaller = ed25519.NewKeyFromSeed(count(32, 0x40))
)

func newExampleStatement() ([]byte, Statement) {
	spki, err := x509.MarshalPKIXPublicKey(exampleCaller.Public())
	if err != nil {
		panic(err)
	}
	s := Statement{
		Type:      StatementType,
		Nonce:     count(32, 0x00),
		Audience:  "https://keys.example",
		UserData:  Bytes("invoice 7"),
		PublicKey: spki,
		Freshness: Fresh,
		Salt:      count(32, 0x80),
		Caller: Caller{UID: 990, GID: 990, PID: 4321, Started: 12340, UnitStarted: new(uint64(12330)), Unit: "billing.service", Invocation: count(16, 0x60),
			App: "billing", Method: MethodPidfd},
	}
	s.KeyProof = ed25519.Sign(exampleCaller, KeyProofMessage(&s, exampleAgent.Public().(ed25519.PublicKey)))
	b, err := s.Encode()
	if err != nil {
		panic(err)
	}
	return b, s
}

func newExample() *example {
	ex := &example{}
	ex.encoded, ex.statement = newExampleStatement()
	ex.leaves = []Digest{Leaf([]byte("left neighbour")), Leaf(ex.encoded), Leaf([]byte("right neighbour"))}
	tree, err := NewTree(ex.leaves)
	if err != nil {
		panic(err)
	}
	ex.tree = tree
	inclusion, err := tree.Prove(1)
	if err != nil {
		panic(err)
	}
	ex.head = NextLogHead(LogHead{}, []byte("first record"))
	qualifying := QuoteData(tree.Head(), nil)
	ex.attest = exampleAttest(qualifying[:])
	key := exampleAgent
	batch := Snapshot{
		Tree:    tree.Head(),
		Time:    98765,
		LogHead: ex.head,
		Quote:   Quote{Attest: ex.attest, Signature: Bytes("TPMT_SIGNATURE by the AK")},
		PCRs:    []Bank{{Algorithm: "sha256", PCRs: []PCR{{Index: 13, Value: count(32, 0xc0)}}}},
	}
	ex.evidence = &Evidence{
		Type:           Type,
		Statement:      ex.encoded,
		Inclusion:      inclusion,
		Batch:          batch,
		AgentSignature: ed25519.Sign(key, BatchMessage(&batch, nil)),
		AgentKey:       Bytes(key.Public().(ed25519.PublicKey)),
		AK:             Bytes("TPMT_PUBLIC of the AK"),
		Report:         Report{Kind: ReportSNP, Bytes: Bytes("attestation report")},
	}
	return ex
}

// exampleAttest is a TPMS_ATTEST of a quote over PCR 13 of the SHA-256 bank.
func exampleAttest(qualifying []byte) []byte {
	var b []byte
	b = append(b, 0xff, 'T', 'C', 'G') // TPM_GENERATED_VALUE
	b = append(b, 0x80, 0x18)          // TPM_ST_ATTEST_QUOTE
	b = append(b, 0, 4, 's', 'i', 'g', 'n')
	b = binary.BigEndian.AppendUint16(b, uint16(len(qualifying)))
	b = append(b, qualifying...)
	b = append(b, count(17, 0)...)                          // TPMS_CLOCK_INFO
	b = append(b, count(8, 0)...)                           // firmwareVersion
	b = append(b, 0, 0, 0, 1, 0x00, 0x0b, 3, 0, 0x20, 0x00) // TPML_PCR_SELECTION
	b = append(b, 0, 32)                                    // TPM2B_DIGEST
	return append(b, count(32, 0xe0)...)
}

// values lists every intermediate value of the example, in the order in which an
// implementation meets them.
func (ex *example) values() [][2]string {
	e, head := ex.evidence, ex.tree.Head()
	quote := QuoteData(head, nil)
	report := e.ReportData()
	anchor := AnchorDigest(&e.Batch, e.AgentKey, e.AK, e.Report.Bytes)
	anchored := QuoteData(head, &anchor)
	return [][2]string{
		{"key proof message", hex.EncodeToString(KeyProofMessage(&ex.statement, e.AgentKey))},
		{"key proof", hex.EncodeToString(ex.statement.KeyProof)},
		{"statement", string(ex.encoded)},
		{"leaf", ex.leaves[1].String()},
		{"left neighbour", ex.leaves[0].String()},
		{"right neighbour", ex.leaves[2].String()},
		{"root", head.Root.String()},
		{"inclusion path", e.Inclusion.Path[0].String() + " " + e.Inclusion.Path[1].String()},
		{"log head", hex.EncodeToString(ex.head.Bytes())},
		{"qualifying data", quote.String()},
		{"TPMS_ATTEST", hex.EncodeToString(ex.attest)},
		{"batch message", hex.EncodeToString(BatchMessage(&e.Batch, nil))},
		{"agent key", hex.EncodeToString(e.AgentKey)},
		{"agent signature", hex.EncodeToString(e.AgentSignature)},
		{"report data", hex.EncodeToString(report[:])},
		{"anchor digest", anchor.String()},
		{"qualifying data on that anchor", anchored.String()},
	}
}

// TestWorkedExample keeps docs/evidence.md and testdata true: both hold exactly
// what this code computes. Run with -update after a change of the format.
func TestWorkedExample(t *testing.T) {
	ex := newExample()
	var text strings.Builder
	for _, v := range ex.values() {
		fmt.Fprintf(&text, "%s\n    %s\n", v[0], v[1])
	}
	document, err := strictjson.Encode(ex.evidence)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata", "worked-example.txt"), text.String())
	golden(t, filepath.Join("testdata", "worked-example.json"), string(document)+"\n")

	const begin, end = "<!-- worked example: begin -->\n```\n", "```\n<!-- worked example: end -->"
	path := filepath.Join("..", "docs", "evidence.md")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s: the marks around the worked example are missing", path)
	}
	if old != text.String() {
		if !*update {
			t.Fatalf("%s: the worked example is not what the code computes; run go test ./evidence -update", path)
		}
		if err := os.WriteFile(path, []byte(before+begin+text.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func golden(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the code computes; run go test ./evidence -update", path)
	}
}
