// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/vtpm"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/boottime"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/pcr"
)

// rig is an Attester over doubles that a test can hold up, break and count.
type rig struct {
	*Attester
	tpm      *fakeTPM
	ledger   *fakeLedger
	platform *fakePlatform
	clock    *fakeClock
	cancel   context.CancelFunc
	done     chan struct{}
}

func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	r := &rig{tpm: &fakeTPM{}, ledger: newFakeLedger(t), platform: newFakePlatform(), clock: &fakeClock{now: time.Now()}}
	r.tpm.ledger = r.ledger
	c := Config{
		TPM: r.tpm, Ledger: r.ledger, Platform: r.platform, Now: r.clock.Now,
		AgentKey: ed25519.NewKeyFromSeed(make([]byte, 32)),
	}
	if change != nil {
		change(&c)
	}
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	r.Attester = a
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel, r.done = cancel, make(chan struct{})
	go func() { defer close(r.done); a.Run(ctx) }()
	t.Cleanup(func() { cancel(); r.platform.open(); <-r.done })
	return r
}

func request(nonce byte, f evidence.Freshness) api.EvidenceRequest {
	return api.EvidenceRequest{Nonce: append(make(evidence.Bytes, 31), nonce), Freshness: f}
}

var caller = evidence.Caller{UID: 7, GID: 7, PID: 7, Method: evidence.MethodPidfd}

// ask attests and decodes, and checks what can be checked without signatures.
func (r *rig) ask(t *testing.T, q api.EvidenceRequest) *evidence.Evidence {
	t.Helper()
	b, err := r.Attest(t.Context(), q, caller)
	if err != nil {
		t.Fatalf("attest: %v", err)
	}
	return decode(t, b, q.Nonce)
}

func decode(t *testing.T, parts [][]byte, nonce evidence.Bytes) *evidence.Evidence {
	t.Helper()
	e, err := evidence.Parse(bytes.Join(parts, nil))
	if err != nil {
		t.Fatal(err)
	}
	s, err := evidence.ParseStatement(e.Statement)
	if err != nil {
		t.Fatal(err)
	}
	if string(s.Nonce) != string(nonce) {
		t.Fatalf("evidence for nonce %x, asked with %x", s.Nonce, nonce)
	}
	if err := evidence.CheckInclusion(e.Batch.Tree, evidence.Leaf(e.Statement), e.Inclusion); err != nil {
		t.Fatal(err)
	}
	if want := evidence.QuoteData(e.Batch.Tree, e.AnchorDigest()); qualifying(t, e.Batch) != want {
		t.Fatalf("qualifying data %v, want %v", qualifying(t, e.Batch), want)
	}
	m := evidence.BatchMessage(&e.Batch, e.AnchorDigest())
	if !ed25519.Verify(ed25519.PublicKey(e.AgentKey), m, e.AgentSignature) {
		t.Fatal("agent signature is not valid")
	}
	if got, want := [64]byte(e.Report.Bytes[:64]), e.ReportData(); got != want {
		t.Fatal("the report was made for something else")
	}
	return e
}

// quoteBody replaces a TPMS_ATTEST in these tests.
type quoteBody struct {
	Data  evidence.Digest
	Serie int
}

func qualifying(t *testing.T, s evidence.Snapshot) evidence.Digest {
	t.Helper()
	var q quoteBody
	if err := json.Unmarshal(s.Quote.Attest, &q); err != nil {
		t.Fatal(err)
	}
	return q.Data
}

type fakeTPM struct {
	mu     sync.Mutex
	ledger *fakeLedger
	quotes int
	last   time.Time // of the last quote
	resets uint32
	err    error
	lie    bool
	hides  bool         // the PCR is quoted in a bank that the log does not have
	stale  []byte       // quoted instead of the PCR, if it is not nil
	hangs  bool         // until the context ends
	waits  atomic.Int64 // quotes that wait for mu

	certificate []byte // of the AK
}

func (f *fakeTPM) AKPublic() []byte { return []byte("public area") }

func (f *fakeTPM) AKCertificate() []byte { return f.certificate }

func (f *fakeTPM) Quote(ctx context.Context, data evidence.Digest) (*vtpm.Quoted, error) {
	f.waits.Add(1)
	f.mu.Lock()
	f.waits.Add(-1)
	defer f.mu.Unlock()
	if f.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if f.err != nil {
		return nil, f.err
	}
	f.quotes++
	f.last = time.Now()
	b, _ := json.Marshal(quoteBody{data, f.quotes})
	value := f.ledger.pcr.value
	if f.stale != nil {
		value = f.stale
	}
	if f.lie {
		value = make([]byte, 32)
	}
	bank := pcr.SHA256
	if f.hides {
		bank, value = pcr.SHA384, make([]byte, 48)
	}
	return &vtpm.Quoted{
		Attest: b, Signature: []byte("signature"),
		Selection: pcr.Selection{{Algorithm: bank, PCRs: []uint32{14}}},
		PCRs:      pcr.Values{bank: {14: value}},
		Clock:     vtpm.Clock{ResetCount: f.resets},
	}, nil
}

func (f *fakeTPM) set(change func(*fakeTPM)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// fakeLedger is a real ledger over memory, that a test can break.
type fakeLedger struct {
	*ledger.Ledger
	pcr *memoryPCR

	mu  sync.Mutex
	err error
}

func newFakeLedger(t *testing.T) *fakeLedger {
	t.Helper()
	f := &fakeLedger{pcr: &memoryPCR{value: make([]byte, 32)}}
	store := &memoryStore{files: map[string][]byte{}}
	l, err := ledger.Open(t.Context(), ledger.Config{Log: store, State: store, TPM: f.pcr, PCR: 14, Now: boottime.Now})
	if err != nil {
		t.Fatal(err)
	}
	f.Ledger = l
	f.start(t)
	return f
}

// start records the start of the agent of a rig.
func (f *fakeLedger) start(t *testing.T) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)
	if _, err := f.Append(t.Context(), pcr.Event{Type: pcr.EventAgent, Agent: &pcr.AgentEvent{Version: "test", AgentKey: evidence.Bytes(key)}}); err != nil {
		t.Fatal(err)
	}
}

func (f *fakeLedger) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fakeLedger) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *fakeLedger) Quote(ctx context.Context, use func(ledger.View) (bool, error)) error {
	if err := f.failure(); err != nil {
		return err
	}
	return f.Ledger.Quote(ctx, use)
}

func (f *fakeLedger) Confirm(ctx context.Context) error {
	if err := f.failure(); err != nil {
		return err
	}
	return f.Ledger.Confirm(ctx)
}

// memoryPCR is one register of one bank.
type memoryPCR struct {
	mu    sync.Mutex
	value []byte
}

func (p *memoryPCR) Banks(context.Context) ([]pcr.Algorithm, error) {
	return []pcr.Algorithm{pcr.SHA256}, nil
}

func (p *memoryPCR) Read(context.Context, uint32) ([]pcr.Digest, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return []pcr.Digest{{Algorithm: pcr.SHA256, Value: bytes.Clone(p.value)}}, nil
}

func (p *memoryPCR) Extend(_ context.Context, _ uint32, d []pcr.Digest) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.value = pcr.SHA256.Sum(p.value, d[0].Value)
	return nil
}

// change extends the register as another program does.
func (p *memoryPCR) change() {
	_ = p.Extend(context.Background(), 14, []pcr.Digest{{Value: make([]byte, 32)}})
}

func (p *memoryPCR) Boot(context.Context) (ledger.Boot, error) {
	return ledger.Boot{AKName: []byte("name")}, nil
}

// memoryStore is both stores of a ledger.
type memoryStore struct {
	mu    sync.Mutex
	files map[string][]byte
}

func (s *memoryStore) Read(name string, _ int64) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(b), nil
}

func (s *memoryStore) Replace(name string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[name] = bytes.Clone(data)
	return nil
}

func (s *memoryStore) KeepAside(name string) (string, error) { return name, nil }

func (s *memoryStore) Append(name string, _ int64, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[name] = append(s.files[name], data...)
	return nil
}

func (s *memoryStore) Truncate(name string, size int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[name] = s.files[name][:size]
	return nil
}

func (s *memoryStore) Lock() error { return nil }

// fakePlatform makes reports only while its gate is open, and gives turns only while turn is.
type fakePlatform struct {
	mu      sync.Mutex
	turn    chan struct{} // nil gives every turn at once
	queued  atomic.Int64  // that wait for turn
	reports int
	err     error
	change  func(*platform.Report) // of every answer, if it is not nil
	gate    chan struct{}
	asked   chan struct{} // one for each report that was asked for
}

func newFakePlatform() *fakePlatform {
	p := &fakePlatform{gate: make(chan struct{}), asked: make(chan struct{}, 1000)}
	close(p.gate)
	return p
}

func (p *fakePlatform) Kind() evidence.ReportKind { return evidence.ReportSNP }

func (p *fakePlatform) Report(ctx context.Context, data platform.Data) (platform.Report, error) {
	p.mu.Lock()
	turn := p.turn
	p.mu.Unlock()
	if turn != nil {
		p.queued.Add(1)
		defer p.queued.Add(-1)
		select {
		case <-turn:
		case <-ctx.Done():
			return platform.Report{}, platform.ErrTimedOut
		}
	}
	over, err := data(ctx)
	if err != nil {
		return platform.Report{}, fmt.Errorf("ask for a report: %w", err)
	}
	p.mu.Lock()
	gate := p.gate
	p.reports++
	p.mu.Unlock()
	p.asked <- struct{}{}
	select {
	case <-gate:
	case <-ctx.Done():
		return platform.Report{}, platform.ErrTimedOut
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	out := platform.Report{Bytes: over[:]}
	if p.change != nil {
		p.change(&out)
	}
	return out, p.err
}

func (p *fakePlatform) answer(change func(*platform.Report)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.change = change
}

func (p *fakePlatform) shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = make(chan struct{})
}

func (p *fakePlatform) open() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}

// letOne lets through the report that is being waited for, and no later one.
func (p *fakePlatform) letOne() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.gate)
	p.gate = make(chan struct{})
}

func (p *fakePlatform) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *fakePlatform) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reports
}

type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *fakeClock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *fakeClock) add(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

// until polls until ok holds.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s: did not happen", what)
		case <-tick.C:
		}
	}
}
