// SPDX-License-Identifier: Apache-2.0

// Package evidencetest makes evidence for tests without a TPM or a processor: a software AK,
// quotes that are laid out by hand, reports under a root of its own. A test can change every
// field before what commits to it is computed and signed. So it can break one rule and keep the
// rest.
//
// The private keys in testdata are public. They vouch for nothing.
package evidencetest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// Time is the time of all that this package makes.
var Time = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// Nonce is in every statement that a recipe does not change.
var Nonce = bytes.Repeat([]byte{0x4e}, 32)

// A Recipe describes evidence. [New] returns one that verifies under the policy of verify's
// tests; a test changes what it wants to be refused. Functions are called with what was made so
// far, right before it is committed to.
type Recipe struct {
	Statement  evidence.Statement
	Encoded    func([]byte) []byte // of the statement
	Neighbours int                 // other statements in the batch
	Others     [][]byte            // instead of Neighbours: statements after the first
	AgentKey   ed25519.PrivateKey
	AK         *AK

	LogPCR   uint32
	Banks    []pcr.Algorithm          // active ones
	Start    map[pcr.Algorithm][]byte // first value of the log's PCR; zero if absent
	Apart    uint32                   // PCR of app-event; 0: LogPCR
	ApartAt  map[pcr.Algorithm][]byte // its first value, likewise
	Events   []pcr.Event              // after log-start; Previous and Declarations of agents, and a Time of 0, are filled in
	Records  func([]pcr.Record)       // sees the log before it is hashed
	NoLog    bool
	LogStart uint64 // first record that the evidence carries

	FirmwareLog []byte // see [Recipe.Booted]

	Select pcr.Selection
	PCRs   pcr.Values // quoted, besides the PCRs of the log, which are computed

	Anchored bool   // report made for a snapshot before the batch
	LogAt    int    // records at the anchor
	Anchor   Moment // of the anchor, if any
	Batch    Moment

	Certificates   []*x509.Certificate // added to those of the report
	Report         Report
	SVSM           *SVSM                                     // what an SVSM puts around the report; nil for a bare one
	HCL            *HCL                                      // structure of a paravisor around the report; nil for a bare one
	ReportOf       func(evidence.Snapshot) evidence.Snapshot // what the report names as its subject
	Document       func(*evidence.Evidence)                  // last
	BatchSignature func(message []byte) []byte               // what the agent key signs
	AnchorNamed    func(*evidence.Digest) *evidence.Digest   // what the batch commits to
	AnchorOnAnchor *evidence.Digest                          // what the anchor's own quote commits to
	AnchorAK       *AK                                       // signs the anchor in place of AK
}

// A Moment describes one quote.
type Moment struct {
	Time            uint64 // by the guest's clock, in milliseconds
	Clock           uint64 // by the TPM's, in milliseconds
	Reset, Restart  uint32
	QualifiedSigner []byte
	PCRs            pcr.Values               // quoted in place of those of the recipe and of the log
	Attest          func(*Attestation)       // before it is signed
	Signature       func([]byte) []byte      // the TPMT_SIGNATURE
	Snapshot        func(*evidence.Snapshot) // when it is complete, before the report and the agent commit to it
}

// App returns the event of an application whose files contain this text.
func App(name, unit, user, content string) pcr.Event {
	m := []pcr.ManifestEntry{{Path: "/usr/bin/" + name, Mode: 0o100755, Size: uint64(len(content)), Digest: sha256.Sum256([]byte(content))}}
	e := &pcr.AppEvent{App: name, Unit: unit, User: user, Declaration: sha256.Sum256([]byte("declaration of " + name)), Manifest: m, Digest: pcr.ManifestDigest(m)}
	if user != "" {
		e.UID = new(uint32(990))
	}
	return pcr.Event{Type: pcr.EventApp, App: e}
}

// Same returns the event that says that an application is what its last event says.
func Same(last pcr.Event, carried bool) pcr.Event {
	a := last.App
	reason := "the agent was down"
	if carried {
		reason = "same inode, change time and content; writable by root alone"
	}
	return pcr.Event{Type: pcr.EventSame, Same: &pcr.SameEvent{App: a.App, Declaration: a.Declaration, Digest: a.Digest, Carried: carried, Reason: reason}}
}

// Emitted returns what an application of this name and unit had recorded, for the user of [App].
func Emitted(name, unit, domain, content string) pcr.Event {
	return pcr.Event{Type: pcr.EventEmitted, Emitted: &pcr.EmittedEvent{App: name, Unit: unit, UID: 990, Domain: domain, Content: []byte(content)}}
}

// Agent returns the event of a start, or a reload, of the daemon.
func Agent(t pcr.EventType, version string, key ed25519.PrivateKey) pcr.Event {
	return pcr.Event{Type: t, Agent: &pcr.AgentEvent{Version: version, Digest: sha256.Sum256([]byte("agentd " + version)),
		Configuration: sha256.Sum256(nil), AgentKey: evidence.Bytes(key.Public().(ed25519.PublicKey))}}
}

// Stop returns the event of a stop of the daemon that has this key.
func Stop(key ed25519.PrivateKey) pcr.Event {
	return pcr.Event{Type: pcr.EventStop, Stop: &pcr.StopEvent{AgentKey: evidence.Bytes(key.Public().(ed25519.PublicKey))}}
}

// Key returns an agent key made of one letter.
func Key(letter byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{letter}, 32))
}

// New returns a recipe for good, fresh evidence of a Genoa machine with one application.
func New() *Recipe {
	key := Key('a')
	digest := evidence.Digest(sha256.Sum256([]byte("billing 1")))
	r := &Recipe{
		Statement: evidence.Statement{
			Type: evidence.StatementType, Nonce: Nonce, PublicKey: []byte("a public key"), UserData: []byte("invoice 7"),
			Freshness: evidence.Fresh, Salt: bytes.Repeat([]byte{0x53}, 32),
			Caller: evidence.Caller{UID: 990, GID: 990, PID: 4321, Started: 5000, UnitStarted: new(uint64(5000)), Unit: "billing.service", Invocation: bytes.Repeat([]byte{0x49}, 16), App: "billing", Method: evidence.MethodPidfd,
				Executable: &evidence.Executable{State: evidence.ExecutableFile, Path: "/usr/bin/billing", Digest: &digest, Covered: true}},
		},
		Neighbours: 2,
		AgentKey:   key,
		AK:         ECCKey('k'),
		LogPCR:     13,
		Banks:      []pcr.Algorithm{pcr.SHA256, pcr.SHA384},
		Events:     []pcr.Event{Agent(pcr.EventAgent, "1.0.0", key), App("billing", "billing.service", "billing", "billing 1")},
		Select:     pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{0, 4, 13}}, {Algorithm: pcr.SHA384, PCRs: []uint32{13}}},
		PCRs:       pcr.Values{},
		Report:     newReport(snp.Genoa),
		LogAt:      2,
		Anchor:     Moment{Time: 10_000, Clock: 1_000_000, Reset: 7, Restart: 1, QualifiedSigner: signer},
		Batch:      Moment{Time: 70_500, Clock: 1_060_000, Reset: 7, Restart: 1, QualifiedSigner: signer},
	}
	r.PCRs.Set(pcr.SHA256, 0, bytes.Repeat([]byte{0x10}, 32))
	r.PCRs.Set(pcr.SHA256, 4, bytes.Repeat([]byte{0x14}, 32))
	return r
}

// signer returns a qualified name: algorithm, then a digest.
var signer = append([]byte{0x00, 0x0b}, bytes.Repeat([]byte{0x51}, 32)...)

// Encode builds the evidence and encodes it.
func (r *Recipe) Encode(tb testing.TB) []byte {
	tb.Helper()
	b, err := strictjson.Encode(r.Build(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Build makes the evidence. It fails the test if the recipe cannot be followed.
func (r *Recipe) Build(tb testing.TB) *evidence.Evidence {
	tb.Helper()
	c := &cook{Recipe: r, tb: tb}
	return c.build()
}
