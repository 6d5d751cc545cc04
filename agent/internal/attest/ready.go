// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// Errors of [Attester.Ready] besides those of [Attester.Attest].
var (
	// ErrUnrecorded is returned if the log does not name this agent's key.
	ErrUnrecorded = errors.New("the measurement log does not contain the start of this agent")
	// ErrUntried is returned until the platform made the first report, or did not.
	ErrUntried = errors.New("the platform has not made a report yet")
)

// Pauses between two looks at whether evidence can be made.
const (
	firstPause   = 5 * time.Second // after one that failed; then growing
	longestPause = time.Minute     // also after one that succeeded
	reportPause  = time.Second     // at least, between two reports for no caller
)

// Ready returns why the next request would get no evidence, and nil if it would, by what was
// found last. It asks no device: [Attester.Look] does.
func (a *Attester) Ready() error {
	if err := a.recorded(a.c.Ledger.View()); err != nil {
		return err
	}
	// A TPM that hung refuses the next request at once, also if it hung for another caller.
	if err := a.c.Down(); err != nil {
		return fmt.Errorf("the TPM gives no quote: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.quoteErr != nil {
		return a.quoteErr
	}
	return a.reportErr
}

// recorded checks that the log is in step and names the agent key. Nothing is quoted or signed
// over a log that does not: verifiers would take that for forged evidence.
func (a *Attester) recorded(v ledger.View) error {
	switch {
	case !v.State.Synchronised:
		return fmt.Errorf("%w: %s", ledger.ErrDesynchronised, v.State.Reason)
	case bytes.Equal(v.AgentKey, a.c.AgentKey.Public().(ed25519.PublicKey)):
		return nil
	case v.State.Full:
		return fmt.Errorf("%w, and %w: reboot the machine", ledger.ErrFull, ErrUnrecorded)
	}
	return ErrUnrecorded
}

// Look finds out whether evidence can be made, for [Attester.Ready]: it has the TPM quote, and,
// if the last report failed, asks the platform for one. It returns when that is known, or ctx
// ends. Of many callers at once, the TPM works for all together.
func (a *Attester) Look(ctx context.Context) {
	work := context.WithoutCancel(ctx)
	a.quoting.run(ctx, func() { a.tryQuote(work) })
	a.reporting.run(ctx, func() { a.tryReport(work) })
}

// Watch looks now and then until ctx ends, more often while no evidence can be made. So the
// status tells the truth before a request fails, and after the cause has gone.
func (a *Attester) Watch(ctx context.Context) {
	told := ""
	failed := 0 // in a row
	for ctx.Err() == nil {
		a.Look(ctx)
		err, now := a.Ready(), ""
		pause := longestPause
		if failed++; err == nil {
			failed = 0
		} else {
			now, pause = err.Error(), min(firstPause<<min(failed-1, 8), longestPause)
		}
		switch {
		case ctx.Err() != nil || now == told:
		case err != nil:
			a.c.Log.Warn("no evidence can be made", "error", err)
		default:
			a.c.Log.Info("evidence can be made again")
		}
		told = now
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// tryQuote has the TPM quote for no caller, after it compared the log with all banks: quotes do so
// with those that they show.
func (a *Attester) tryQuote(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, a.c.QuoteTimeout)
	defer cancel()
	if err := a.c.Ledger.Confirm(within); err != nil {
		a.noteQuote(err)
		return
	}
	_, _ = a.quoteBatch(ctx, []*waiter{newTrial()}, nil) // noted by it
}

// tryReport joins the fresh lane, if the last report failed.
func (a *Attester) tryReport(ctx context.Context) {
	a.mu.Lock()
	due := a.quoteErr == nil && a.reportErr != nil && time.Since(a.triedReport) >= reportPause
	a.mu.Unlock()
	if !due || a.Ready() == nil {
		return
	}
	w := newTrial()
	if a.fresh.add(w) != nil {
		return // others try
	}
	ctx, cancel := context.WithTimeout(ctx, a.c.QuoteTimeout+a.c.ReportTimeout)
	defer cancel()
	select {
	case <-w.answer:
	case <-ctx.Done():
		w.gone.Store(true)
		a.fresh.drop(w)
	}
	a.mu.Lock()
	a.triedReport = time.Now()
	a.mu.Unlock()
}

// newTrial returns a waiter without a caller, over random bytes.
func newTrial() *waiter {
	w := &waiter{request: api.EvidenceRequest{Freshness: evidence.Fresh, Log: api.LogNone}, trial: true, answer: make(chan outcome, 1)}
	rand.Read(w.leaf[:])
	return w
}

// noteReport remembers what became of asking for a report over a batch that was quoted.
func (a *Attester) noteReport(err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, errLeft) {
		return // says nothing about the platform
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reportErr = err
}

// onlyTrials reports whether no caller waits among waiters.
func onlyTrials(waiters []*waiter) bool {
	for _, w := range waiters {
		if w != nil && !w.trial {
			return false
		}
	}
	return true
}

// A shared work is done once for all that ask for it before it begins.
type shared struct {
	mu      sync.Mutex // guards both
	running bool
	next    chan struct{} // closed by the end of the next run; nil if none is asked for
}

// run returns when a run of work that began after the call has ended, or ctx has.
func (s *shared) run(ctx context.Context, work func()) {
	s.mu.Lock()
	if s.next == nil {
		s.next = make(chan struct{})
	}
	done := s.next
	if !s.running {
		s.running = true
		go s.repeat(work)
	}
	s.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// repeat runs work until no caller asks for it.
func (s *shared) repeat(work func()) {
	for {
		s.mu.Lock()
		done := s.next
		s.next, s.running = nil, done != nil
		s.mu.Unlock()
		if done == nil {
			return
		}
		work()
		close(done)
	}
}
