// SPDX-License-Identifier: Apache-2.0

// Package attest turns requests into evidence. It collects the statements of
// waiting callers into batches, has the TPM quote each batch while nothing is appended to
// the measurement log, signs it with the agent key, and asks the platform for a report if
// one is needed.
//
// # Lanes
//
// There are two lanes, each with one batch in flight and the next one gathering
// meanwhile. The fresh lane makes a quote and a report over it. Hosts let a report through
// every few seconds only, so the lane first waits for its turn at the platform, and takes
// its batch when that has come: a caller waits for one turn, however many ask, and quote and
// report are moments apart. What the lane produced is kept as the anchor. The
// anchored lane makes only a quote, which uses the report of the anchor. A caller that asks
// for anchored evidence while there is no anchor, or an old one, joins the fresh
// lane. Both lanes share one TPM, whose owner serialises them.
//
// A late report delays no caller that can do without it: after AnchorPatience, the callers in
// the fresh lane that asked for anchored evidence, and those that ask until the report is
// there, get evidence on the old anchor. It says how old that is.
//
// # Who owns what
//
// A lane owns a batch from the moment its statements leave the pool until every
// waiter has an answer; a statement that arrives after that goes into the next
// batch. The anchor is shared under a lock and is never changed, only replaced.
// Nothing is kept on disk: agent key and anchor die with the process.
package attest

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/vtpm"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/boottime"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/metrics"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/tcglog"
	"github.com/cvm-agentd/agentd/internal/turn"
	"github.com/cvm-agentd/agentd/keys"
)

// Defaults of Config.
const (
	DefaultQuoteTimeout  = 10 * time.Second
	DefaultReportTimeout = 70 * time.Second // the kernel itself retries a busy firmware for 60 s
	DefaultAnchorMaxAge  = 5 * time.Minute
	DefaultPatience      = 3 * time.Second // hosts let a report through about every two seconds
	DefaultMaxWaiting    = 8192
)

// TPM quotes the configured PCRs, and returns only quotes that it has checked against the
// request and the AK. The error for any other quote is [tpmkeys.ErrQuote]. See [vtpm.TPM.Quote].
type TPM interface {
	Quote(ctx context.Context, data evidence.Digest) (*vtpm.Quoted, error)
	AKPublic() []byte      // TPMT_PUBLIC
	AKCertificate() []byte // that the platform made of it, X.509 DER; nil if there is none
}

// Ledger is the measurement log. See [ledger.Ledger.Quote], [ledger.Ledger.Confirm] and
// [ledger.Ledger.View].
type Ledger interface {
	Quote(ctx context.Context, f func(ledger.View) (compared bool, err error)) error
	Confirm(ctx context.Context) error
	View() ledger.View
}

// Config is what an Attester works with. All fields without a default are required.
type Config struct {
	TPM      TPM
	Ledger   Ledger
	Platform platform.Reporter
	AgentKey ed25519.PrivateKey // made in memory at the start of the daemon; the ledger records its public half

	// Down returns why the TPM would refuse a quote without being asked, nil if it would not.
	// May be nil.
	Down func() error

	// FirmwareLog returns the firmware's event log, at most evidence.MaxFirmwareLog
	// bytes, or nothing if the machine has none. May be nil.
	FirmwareLog func() ([]byte, error)

	IMA       *IMAList // the kernel's list of IMA; may be nil
	IMAQuoted bool     // PCR 10 is quoted

	// Before is called before each quote, for what the log must say first. May be nil.
	Before func(context.Context) error

	QuoteTimeout  time.Duration // of everything that a batch asks of the TPM
	ReportTimeout time.Duration // of a report, with its time in the queue
	AnchorMaxAge  time.Duration // an older anchor is renewed by the next caller that could use it

	// AnchorPatience is how long a caller that asked for anchored evidence waits for the
	// report that is to renew an old anchor.
	AnchorPatience time.Duration

	MaxWaiting int // callers waiting in one lane; more are turned away

	Log *slog.Logger
	Now func() time.Time // monotonic clock, for the age of the anchor; time.Now if nil

	BootTime func() uint64 // time of quotes, in milliseconds: boottime.Now if nil
}

// An Attester makes evidence. Create one with New, then call Run.
type Attester struct {
	c        Config
	fresh    *lane
	anchored *lane

	quoting, reporting shared // of Look

	quotes *metrics.Histogram            // time of quotes, in seconds
	sizes  map[string]*metrics.Histogram // statements of batches, by lane

	mu     sync.Mutex // guards all below, and the waiters of flights
	anchor *anchor    // nil until the first report, and after a TPM reset; the lanes write it
	late   bool       // the report under way took longer than AnchorPatience; the fresh lane writes it
	stats  Stats      // the lanes and Attest write it

	quoteErr     error           // why the last batch was not quoted; the lanes and Look write it
	reportErr    error           // why the last report was not made; the fresh lane writes it
	firmwareSeen evidence.Digest // of the firmware's log that was looked at last

	triedReport time.Time // when Look last asked for one
}

// Stats counts what an Attester did.
type Stats struct {
	Batches    api.BatchCounts
	LastError  string            // of the last failed batch, empty after a good one
	QuoteError string            // why the TPM's last quote could not be used, empty after a good one
	Anchor     *api.AnchorStatus // nil without an anchor; its age is by the clock of the guest
}

// New checks c and returns an Attester that is not running yet.
func New(c Config) (*Attester, error) {
	switch {
	case c.TPM == nil, c.Ledger == nil, c.Platform == nil:
		return nil, errors.New("attest: TPM, Ledger and Platform are required")
	case len(c.AgentKey) != ed25519.PrivateKeySize:
		return nil, fmt.Errorf("attest: agent key of %d bytes, want %d", len(c.AgentKey), ed25519.PrivateKeySize)
	}
	c.QuoteTimeout = cmp.Or(c.QuoteTimeout, DefaultQuoteTimeout)
	c.ReportTimeout = cmp.Or(c.ReportTimeout, DefaultReportTimeout)
	c.AnchorMaxAge = cmp.Or(c.AnchorMaxAge, DefaultAnchorMaxAge)
	c.AnchorPatience = cmp.Or(c.AnchorPatience, DefaultPatience)
	c.MaxWaiting = cmp.Or(c.MaxWaiting, DefaultMaxWaiting)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.BootTime == nil {
		c.BootTime = boottime.Now
	}
	if c.Down == nil {
		c.Down = func() error { return nil }
	}
	a := &Attester{c: c, reportErr: ErrUntried, quotes: metrics.NewHistogram(metrics.Seconds...), sizes: map[string]*metrics.Histogram{}}
	for _, lane := range []string{FreshLane, AnchoredLane} {
		a.sizes[lane] = metrics.NewHistogram(1, 4, 16, 64, 256, 1024, evidence.MaxBatch)
	}
	a.fresh = newLane(FreshLane, c.MaxWaiting, a.runFresh)
	a.anchored = newLane(AnchoredLane, c.MaxWaiting, func(ctx context.Context) { a.runAnchored(ctx, a.anchored.take()) })
	return a, nil
}

// Names of the lanes.
const (
	FreshLane    = "fresh"
	AnchoredLane = "anchored"
)

// Figures returns how long quotes took, in seconds, and how many statements were in the batches
// of each lane.
func (a *Attester) Figures() (quotes *metrics.Histogram, sizes map[string]*metrics.Histogram) {
	return a.quotes, a.sizes
}

// Run works until ctx ends, then answers all that still wait with the reason and returns.
func (a *Attester) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { a.fresh.run(ctx) })
	wg.Go(func() { a.anchored.run(ctx) })
	wg.Wait()
}

// Attest returns encoded evidence for what r asks, on behalf of caller, as consecutive parts. It
// waits for the batch that the statement goes into, or until ctx ends. The nonce of r is in
// evidence of no other call. The parts must not be changed: other documents share them.
func (a *Attester) Attest(ctx context.Context, r api.EvidenceRequest, caller evidence.Caller) ([][]byte, error) {
	if r.IMA && !a.c.IMAQuoted {
		return nil, ErrIMANotQuoted
	}
	w, err := newWaiter(r, caller, a.c.AgentKey.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	if err := a.enter(w); err != nil {
		return nil, err
	}
	turn.Rest(ctx)
	select {
	case <-ctx.Done():
		w.gone.Store(true) // first: a waiter on the way from one lane to the other stays out
		a.fresh.drop(w)
		a.anchored.drop(w)
		return nil, fmt.Errorf("wait for evidence: %w", context.Cause(ctx))
	case o := <-w.answer:
		if o.err != nil {
			return nil, o.err
		}
		b, err := o.batch.document(w, o.index, elsewhere{a.firmwareLog, func(start uint64) (*evidence.IMA, error) { return a.imaList(ctx, start) }})
		if err != nil {
			return nil, err
		}
		a.mu.Lock()
		a.stats.Batches.Statements++
		a.mu.Unlock()
		return b, nil
	}
}

// enter puts w into the lane that serves it.
func (a *Attester) enter(w *waiter) error {
	a.mu.Lock() // so that the report of the fresh lane does not become late in between
	defer a.mu.Unlock()
	if w.request.Freshness == evidence.Anchored && a.serves(a.anchor) {
		return a.anchored.add(w)
	}
	return a.fresh.add(w)
}

// firmwareLog returns the firmware's log if it can be read. It is not part of any
// commitment, since the quoted PCRs commit to it. A log that cannot be read is left out, and
// the verifier's policy decides whether to require it. One that does not parse is handed on:
// the verifier tells the party that relies on it what is wrong.
func (a *Attester) firmwareLog() []byte {
	if a.c.FirmwareLog == nil {
		return nil
	}
	b, err := a.c.FirmwareLog()
	if err == nil && len(b) > evidence.MaxFirmwareLog {
		err = fmt.Errorf("it has %d bytes, evidence takes %d", len(b), evidence.MaxFirmwareLog)
	}
	if err != nil {
		a.c.Log.Warn("firmware's log is left out of evidence", "error", err)
		return nil
	}
	a.lookAtFirmwareLog(b)
	return b
}

// lookAtFirmwareLog warns of a firmware's log that no verifier can use, once for each content.
func (a *Attester) lookAtFirmwareLog(b []byte) {
	digest := evidence.Digest(sha256.Sum256(b))
	a.mu.Lock()
	known := a.firmwareSeen == digest
	a.firmwareSeen = digest
	a.mu.Unlock()
	if known || len(b) == 0 {
		return
	}
	if _, err := tcglog.Parse(b); err != nil {
		a.c.Log.Warn("the firmware's log does not parse: verifiers cannot use it, and refuse evidence if their policy asks for it", "error", err)
	}
}

// Stats returns the counters.
func (a *Attester) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.stats
	if a.anchor != nil {
		s.Anchor = &api.AnchorStatus{AgeMilliseconds: uint64(a.c.Now().Sub(a.anchor.made).Milliseconds()), LogHead: a.anchor.snapshot.LogHead}
	}
	return s
}

// newWaiter makes the statement of a request, with a salt of its own. It checks the proof that the
// caller has its key, so that a caller learns here, and not from a verifier, that it is wrong.
func newWaiter(r api.EvidenceRequest, caller evidence.Caller, agentKey []byte) (*waiter, error) {
	r.Freshness, r.Log = cmp.Or(r.Freshness, evidence.Fresh), cmp.Or(r.Log, api.LogWhole)
	switch {
	case r.Log != api.LogWhole && r.Log != api.LogFrom && r.Log != api.LogNone:
		return nil, fmt.Errorf("%w: log %q, want %q, %q or %q", ErrRequest, r.Log, api.LogWhole, api.LogFrom, api.LogNone)
	case r.Log != api.LogFrom && r.LogStart != 0:
		return nil, fmt.Errorf("%w: logStart %d goes with log %q only, not with %q", ErrRequest, r.LogStart, api.LogFrom, r.Log)
	case r.IMAStart != 0 && !r.IMA:
		return nil, fmt.Errorf("%w: imaStart %d goes with ima only", ErrRequest, r.IMAStart)
	}
	salt := make([]byte, 32)
	rand.Read(salt) // never fails: crypto/rand ends the process instead
	s := evidence.Statement{
		Type:      evidence.StatementType,
		Nonce:     r.Nonce,
		Audience:  r.Audience,
		UserData:  r.UserData,
		PublicKey: r.PublicKey,
		KeyProof:  r.KeyProof,
		Freshness: r.Freshness,
		Salt:      salt,
		Caller:    caller,
	}
	b, err := s.Encode()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if len(s.KeyProof) > 0 {
		if err := keys.CheckPossession(s.PublicKey, evidence.KeyProofMessage(&s, agentKey), s.KeyProof); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKeyProof, err)
		}
	}
	return &waiter{request: r, statement: b, leaf: evidence.Leaf(b), answer: make(chan outcome, 1)}, nil
}

// Errors of Attest, for errors.Is, besides those of package platform
// and [ledger.ErrDesynchronised]. A batch that fails answers every caller in it
// with the same error; the next batch starts anew.
var (
	// ErrRequest is returned if the request itself cannot be attested; it names the member.
	ErrRequest = errors.New("request cannot be attested")
	// ErrKeyProof is returned if the proof does not show that the caller has the key that it names.
	ErrKeyProof = errors.New("the caller did not prove that it has its key")
	// ErrOverloaded is returned if too many callers are waiting already.
	ErrOverloaded = errors.New("too many requests are waiting for evidence")
	// ErrTPM is returned if the TPM did not quote.
	ErrTPM = errors.New("the TPM gave no quote")
	// ErrBadQuote is returned if the TPM answered, but not with the quote that it was asked
	// for: the answer is not a quote, is over something else, or is not signed by the AK.
	// Nothing is signed over it, and no report is asked for.
	ErrBadQuote = errors.New("the TPM's quote is not what it was asked for")
	// ErrPCRMismatch is returned if the quote contradicts the measurement log, or itself. Either
	// something else extended the PCR, or the vTPM lies. No report is asked for.
	ErrPCRMismatch = errors.New("the quote contradicts the measurement log")
	// ErrLogStart is returned if the log has no such record yet.
	ErrLogStart = errors.New("log start is after the end of the log")
	// ErrStopping is returned while the agent ends.
	ErrStopping = errors.New("the agent is stopping")
)

// ReadFirmwareLog returns the event log of the firmware from path, or nil without an error
// if path is empty or the machine has no such file. Files of securityfs have no size
// before they are read.
func ReadFirmwareLog(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	b, err := durable.ReadFile(path, evidence.MaxFirmwareLog)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("firmware's log: %w", err)
	}
	return b, nil
}
