// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// A record of work of any class waits for the quote under way and for one turn of each other
// party, however many quotes and records of others wait.
func TestRecordsTakeTurns(t *testing.T) {
	const quote, flood = time.Second, 50
	for class := turn.Inquiry; class <= turn.Start; class++ {
		synctest.Test(t, func(t *testing.T) {
			m := newMachine()
			l := m.restart(t)
			ctx, cancel := context.WithCancel(t.Context())
			lane := turn.With(ctx, turn.Who{Class: turn.Evidence, Party: "fresh"})
			busy := turn.With(ctx, turn.Who{Class: turn.Admin, Party: "busy"})
			var all sync.WaitGroup
			for range flood {
				all.Go(func() {
					for ctx.Err() == nil {
						_ = l.Hold(lane, func(ledger.View) error { time.Sleep(quote); return nil })
					}
				})
				all.Go(func() { // takes the turn as long as a record on a slow TPM
					for ctx.Err() == nil {
						_ = l.Hold(busy, func(ledger.View) error { time.Sleep(quote); return nil })
					}
				})
			}
			synctest.Wait() // all of them wait
			for i := range 3 {
				began := time.Now()
				if _, err := l.Append(turn.With(ctx, turn.Who{Class: class, Party: "victim"}), appEvent(fmt.Sprintf("victim-%d", i))); err != nil {
					t.Fatal(err)
				}
				if waited := time.Since(began); waited > 2*quote {
					t.Errorf("class %v: the record waited %v among %d quotes and records of %v, want two at most", class, waited, 2*flood, quote)
				}
			}
			cancel()
			all.Wait()
		})
	}
}

// Quotes go on while records are appended without a pause, of any class and many parties.
func TestQuotesAreNotStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		l := m.restart(t)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for class := turn.Inquiry; class <= turn.Start; class++ {
			work := turn.With(ctx, turn.Who{Class: class, Party: fmt.Sprintf("app-%d", class)})
			for range 5 {
				all.Go(func() { // takes the turn as long as a record on a slow TPM
					for ctx.Err() == nil {
						_ = l.Hold(work, func(ledger.View) error { time.Sleep(time.Second); return nil })
					}
				})
			}
		}
		synctest.Wait()
		began := time.Now()
		lane := turn.With(ctx, turn.Who{Class: turn.Evidence, Party: "fresh"})
		if err := l.Hold(lane, func(ledger.View) error { return nil }); err != nil {
			t.Fatal(err)
		}
		// One turn of each of the six parties in its class, and four of units that start for each.
		if waited := time.Since(began); waited > 6*5*time.Second {
			t.Errorf("a quote waited %v", waited)
		}
		cancel()
		all.Wait()
	})
}
