// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// A request of any class gets its turn after a few others, however many of another party or
// class wait: neither a flood of keys keeps evidence from its report, nor the other way round.
func TestRequestsTakeTurns(t *testing.T) {
	soft.SharedAuthority()
	const spacing = 2 * time.Second
	for flood := turn.Inquiry; flood <= turn.Start; flood++ {
		for victim := turn.Inquiry; victim <= turn.Start; victim++ {
			synctest.Test(t, func(t *testing.T) {
				p := machine(t, soft.Options{Device: snp.Options{Spacing: spacing}})
				ctx, cancel := context.WithCancel(t.Context())
				ask := func(c turn.Class, party string) error {
					_, err := p.Report(turn.With(ctx, turn.Who{Class: c, Party: party}), platform.Fixed([64]byte{}))
					return err
				}
				var all sync.WaitGroup
				for range 30 {
					all.Go(func() {
						for ctx.Err() == nil {
							_ = ask(flood, "flood")
						}
					})
				}
				synctest.Wait()
				for i := range 3 {
					began := time.Now()
					if err := ask(victim, "victim"); err != nil {
						t.Fatal(err)
					}
					if waited := time.Since(began); waited > 3*spacing {
						t.Errorf("%v against a flood of class %v: request %d waited %v, want three requests at most", victim, flood, i, waited)
					}
				}
				cancel()
				all.Wait()
			})
		}
	}
}

// What waits first of two classes is asked first of the higher one.
func TestHigherClassFirst(t *testing.T) {
	soft.SharedAuthority()
	synctest.Test(t, func(t *testing.T) {
		p := machine(t, soft.Options{})
		d, err := snp.New(p.Transport(), snp.Options{Spacing: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []string
		var all sync.WaitGroup
		for i, c := range []turn.Class{turn.Start, turn.Evidence, turn.Keys} { // the first has the turn
			all.Go(func() {
				_, err := d.Report(turn.With(t.Context(), turn.Who{Class: c, Party: fmt.Sprint(i)}), func(context.Context) ([64]byte, error) {
					time.Sleep(time.Second)
					mu.Lock()
					order = append(order, c.String())
					mu.Unlock()
					return [64]byte{}, nil
				})
				if err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		all.Wait()
		if got := fmt.Sprint(order); got != "[start keys evidence]" {
			t.Errorf("asked in the order %s", got)
		}
	})
}
