// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/vtpm"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
)

// A batch is one quoted and signed tree, and its report. Apart from documents, it does not
// change after its waiters have it: they assemble their documents from it at the same time.
type batch struct {
	tree      *evidence.Tree
	snapshot  evidence.Snapshot
	clock     vtpm.Clock // of the quote
	signature []byte     // by the agent key
	anchor    *anchor    // what the report was made for, if that is not this batch

	agentKey     []byte
	ak           []byte
	report       evidence.Report
	certificates []evidence.Bytes

	logs map[uint64]logResult // parts of the log that waiters of this batch want, by first record

	documents documents
}

type logResult struct {
	log evidence.Log
	err error
}

// A flight is the work of the fresh lane on one batch: the wait for a turn at the platform,
// then quote and report.
type flight struct {
	waiters  []*waiter // of the batch, nil for each that was moved on; guarded by Attester.mu
	renewing *waiter   // moved on before the batch was taken; guarded by Attester.mu
	taken    bool      // the turn has come, and the batch was taken; written by fix
	batch    *batch    // once it is quoted; written by fix
	err      error     // why it is not; written by fix
}

// errLeft is returned at a turn for which no caller waits any more.
var errLeft = errors.New("every caller has left")

// runFresh does the work of the fresh lane: turn, quote, report, answer, keep as anchor.
func (a *Attester) runFresh(ctx context.Context) {
	a.passAnchored()
	if !a.fresh.any() {
		return
	}
	f := &flight{}
	err := a.awaitReport(ctx, f)
	a.mu.Lock()
	waiters := f.waiters
	a.mu.Unlock()
	if !f.taken { // the error is that of the platform, for all that waited for a turn
		waiters = a.fresh.take()
	}
	if f.err != nil {
		err = f.err // as it is, without what the platform says about it
	} else {
		a.noteReport(err)
	}
	if errors.Is(err, errLeft) {
		return
	}
	if err != nil {
		// Those that asked for anchored evidence and came only to renew an old anchor are served
		// from that one: its age is in the evidence, and the verifier decides whether it is
		// recent enough.
		if a.currentAnchor() != nil {
			waiters = a.passOn(waiters)
		}
		a.fail(waiters, stopping(ctx, err))
		return
	}
	a.keepAnchor(f.batch)
	a.answer(waiters, f.batch)
}

// awaitReport asks for the report of f. If it is late, the waiters that can do without it
// leave.
func (a *Attester) awaitReport(ctx context.Context, f *flight) error {
	passed := make(chan struct{})
	late := time.AfterFunc(a.c.AnchorPatience, func() {
		defer close(passed)
		a.passLate(f)
	})
	err := a.addReport(ctx, f)
	if late.Stop() {
		return err
	}
	<-passed
	a.mu.Lock()
	defer a.mu.Unlock()
	a.late = false
	return err
}

// fix takes the batch of f and quotes it: its turn has come. It returns what the report is to
// be over. If only callers waited that were moved on meanwhile, the report renews the anchor
// nevertheless, over the statement of one of them.
func (a *Attester) fix(ctx context.Context, f *flight) (data [64]byte, err error) {
	a.mu.Lock() // so that passLate finds each waiter in one place
	f.taken, f.waiters = true, a.fresh.take()
	if len(f.waiters) == 0 && f.renewing != nil {
		f.waiters = []*waiter{nil}
	}
	batch := slices.Clone(f.waiters)
	if len(batch) == 1 && batch[0] == nil {
		batch[0] = f.renewing
	}
	a.mu.Unlock()
	if len(batch) == 0 {
		f.err = errLeft
		return data, f.err
	}
	if f.batch, f.err = a.quoteBatch(ctx, batch, nil); f.err != nil {
		return data, f.err
	}
	return evidence.ReportData(&f.batch.snapshot, f.batch.agentKey, f.batch.ak), nil
}

// runAnchored does the work of the anchored lane: quote on the anchor, answer.
func (a *Attester) runAnchored(ctx context.Context, waiters []*waiter) {
	on := a.currentAnchor()
	if on == nil { // it was dropped while these callers waited
		a.moveToFresh(waiters)
		return
	}
	b, err := a.quoteBatch(ctx, waiters, on)
	switch {
	case errors.Is(err, errReset):
		a.dropAnchor(on, err)
		a.moveToFresh(waiters)
	case err != nil:
		a.fail(waiters, stopping(ctx, err))
	default:
		a.answer(waiters, b)
	}
}

// stopping marks an error that is only due to the end of the lane's own context.
func stopping(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrStopping, err)
	}
	return err
}

// quoteBatch fixes the tree over waiters and quotes and signs it, on an anchor or on none,
// while nothing is appended to the log.
func (a *Attester) quoteBatch(ctx context.Context, waiters []*waiter, on *anchor) (*batch, error) {
	leaves := make([]evidence.Digest, len(waiters))
	for i, w := range waiters {
		leaves[i] = w.leaf
	}
	tree, err := evidence.NewTree(leaves)
	if err != nil {
		return nil, err
	}
	b := &batch{
		tree:     tree,
		anchor:   on,
		agentKey: a.c.AgentKey.Public().(ed25519.PublicKey),
		ak:       a.c.TPM.AKPublic(),
		logs:     map[uint64]logResult{},
	}
	ctx, cancel := context.WithTimeout(ctx, a.c.QuoteTimeout)
	defer cancel()
	if a.c.Before != nil {
		if err := a.c.Before(ctx); err != nil {
			return nil, err
		}
	}
	err = a.c.Ledger.Quote(ctx, func(v ledger.View) (bool, error) { return a.quoteHeld(ctx, b, waiters, v) })
	a.noteQuote(err)
	if err != nil {
		return nil, err
	}
	b.signature = ed25519.Sign(a.c.AgentKey, evidence.BatchMessage(&b.snapshot, on.digestOrNil()))
	if on != nil {
		b.report, b.certificates = on.report, on.certificates
	}
	return b, nil
}

// noteQuote remembers for the status whether the TPM quoted.
func (a *Attester) noteQuote(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !errors.Is(err, context.Canceled) && !errors.Is(err, errReset) { // neither stops the next batch
		a.quoteErr = err
	}
	switch {
	case err == nil:
		a.stats.QuoteError = ""
	case errors.Is(err, ErrBadQuote), errors.Is(err, ErrPCRMismatch), errors.Is(err, ErrTPM) && !errors.Is(err, context.Canceled):
		a.stats.QuoteError = err.Error()
	}
}

// quoteHeld runs while nothing is appended to the log, so that log and quote are one snapshot. It
// reports whether it compared both.
func (a *Attester) quoteHeld(ctx context.Context, b *batch, waiters []*waiter, v ledger.View) (compared bool, err error) {
	if err := a.recorded(v); err != nil {
		return false, err
	}
	asked := max(a.c.BootTime(), v.Time) // no record of the log is of a later time
	begin := time.Now()
	q, err := a.c.TPM.Quote(ctx, evidence.QuoteData(b.tree.Head(), b.anchor.digestOrNil()))
	a.quotes.Observe(time.Since(begin).Seconds())
	switch {
	case errors.Is(err, tpmkeys.ErrQuote):
		return false, fmt.Errorf("%w: %w", ErrBadQuote, err)
	case err != nil:
		return false, fmt.Errorf("%w: %w", ErrTPM, err)
	}
	if compared, err = agree(q, v); err != nil {
		return compared, err
	}
	if b.anchor != nil && !q.Clock.SameBoot(b.anchor.clock) {
		return compared, errReset
	}
	banks, err := q.PCRs.Banks(q.Selection)
	if err != nil {
		return compared, fmt.Errorf("%w: %w", ErrTPM, err)
	}
	b.clock = q.Clock
	b.snapshot = evidence.Snapshot{
		Tree:    b.tree.Head(),
		Time:    asked,
		LogHead: v.Head,
		Quote:   evidence.Quote{Attest: q.Attest, Signature: q.Signature},
		PCRs:    banks,
	}
	for _, w := range waiters {
		if _, have := b.logs[w.request.LogStart]; !have && w.request.Log != api.LogNone {
			log, err := v.Log(w.request.LogStart)
			b.logs[w.request.LogStart] = logResult{log, err}
		}
	}
	return compared, nil
}

// agree compares a quote with the log in each bank that it quotes, and reports whether there is one
// for each PCR of the log. The vTPM may belong to the host. A quote that contradicts what this
// agent itself extended must not get a report.
func agree(q *vtpm.Quoted, v ledger.View) (compared bool, err error) {
	all := true
	for _, r := range v.Registers {
		one := false
		for _, d := range r.Values {
			got, quoted := q.PCRs[d.Algorithm][r.PCR]
			if quoted && !bytes.Equal(got, d.Value) {
				return true, fmt.Errorf("%w: PCR %d of bank %v is %x in the quote, and %x by the log of %d records; only a reboot repairs a PCR",
					ErrPCRMismatch, r.PCR, d.Algorithm, got, d.Value, v.Head.Count)
			}
			one = one || quoted
		}
		all = all && one
	}
	return all, nil
}

// addReport asks the platform for a report over the batch that waits when its turn has come.
func (a *Attester) addReport(ctx context.Context, f *flight) error {
	ctx, cancel := context.WithTimeout(ctx, a.c.ReportTimeout)
	defer cancel()
	r, err := a.c.Platform.Report(ctx, func(ctx context.Context) ([64]byte, error) { return a.fix(ctx, f) })
	if err != nil {
		return err // it says what was asked for
	}
	if r.TableError != nil {
		a.c.Log.Warn("ignore the certificate table of the host", "error", r.TableError)
	}
	f.batch.report = evidence.Report{Kind: a.c.Platform.Kind(), Bytes: r.Bytes}
	f.batch.certificates = a.certificates(r)
	return nil
}

// certificates returns those that fit into evidence.
func (a *Attester) certificates(r platform.Report) []evidence.Bytes {
	var out []evidence.Bytes
	all := r.Certificates
	if c := a.c.TPM.AKCertificate(); c != nil {
		all = slices.Insert(slices.Clone(all), 0, c) // first: the host may fill the rest of the room
	}
	for _, c := range all {
		if len(c) > evidence.MaxCertificate || len(out) == evidence.MaxCertificates {
			a.c.Log.Warn("certificate does not fit into evidence", "bytes", len(c), "limit", evidence.MaxCertificate)
			continue
		}
		out = append(out, c)
	}
	return out
}

// answer gives every waiter its place in b. Nil is a waiter that left.
func (a *Attester) answer(waiters []*waiter, b *batch) {
	lane := FreshLane
	if b.anchor != nil {
		lane = AnchoredLane
	}
	a.sizes[lane].Observe(float64(len(waiters)))
	a.mu.Lock()
	a.stats.LastError = ""
	a.stats.Batches.Largest = max(a.stats.Batches.Largest, uint64(len(waiters)))
	if b.anchor == nil {
		a.stats.Batches.Fresh++
	} else {
		a.stats.Batches.Anchored++
	}
	a.mu.Unlock()
	for i, w := range waiters {
		if w != nil {
			w.answer <- outcome{batch: b, index: uint64(i)}
		}
	}
}

// fail gives every waiter the same reason.
func (a *Attester) fail(waiters []*waiter, err error) {
	if !onlyTrials(waiters) {
		a.c.Log.Error("batch failed", "statements", len(waiters), "error", err)
		a.mu.Lock()
		a.stats.Batches.Failed++
		a.stats.LastError = err.Error()
		a.mu.Unlock()
	}
	for _, w := range waiters {
		if w != nil {
			w.fail(err)
		}
	}
}
