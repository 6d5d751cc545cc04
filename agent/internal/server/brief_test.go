// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// TestProcessorsAreShared: no more answers are made at once than there are turns, a party without
// one gets the spare turn, and a brief request that waits for something else gives its turn back.
func TestProcessorsAreShared(t *testing.T) {
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	for name, j := range map[string]func(hold func()) job{
		"make": func(hold func()) job {
			return job{run: func(context.Context) (any, error) { return nil, nil }, make: func(any) (raw, error) { hold(); return nil, nil }}
		},
		"brief": func(hold func()) job {
			return job{brief: true, run: func(context.Context) (any, error) { hold(); return nil, nil }}
		},
	} {
		t.Run(name, func(t *testing.T) {
			const asked, turns = 10, 2
			q := turn.New(turn.Options{Capacity: turns, Spare: 1, Little: 1})
			held, release := make(chan string, asked+1), make(chan struct{})
			var all sync.WaitGroup
			ask := func(party string) {
				all.Go(func() {
					x := j(func() { held <- party; <-release })
					if _, err := x.inTurn(turn.With(t.Context(), turn.Who{Party: party}), q); err != nil {
						t.Error(err)
					}
				})
			}
			for range asked {
				ask("flood")
			}
			if name == "brief" {
				eventually("a brief request that waits keeps its turn", func() bool { return len(held) == asked })
			} else {
				eventually("answers are not made in turn", func() bool { return q.Stats().Waiting[turn.Inquiry] == asked-turns })
				for range turns {
					<-held
				}
				ask("other")
				if got := <-held; got != "other" {
					t.Errorf("%s has the spare turn", got)
				}
			}
			close(release)
			all.Wait()
			if q.Used() != 0 {
				t.Error("a turn is lost")
			}
		})
	}
}

// TestBriefWaits: a brief request gives its turn back when it begins to wait for another resource,
// and not only when its time is over.
func TestBriefWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		processors, store := turn.New(turn.Options{}), turn.New(turn.Options{})
		leave := store.Try(t.Context(), 1)
		done := make(chan error)
		go func() {
			_, err := job{brief: true, run: func(ctx context.Context) (any, error) {
				leave, err := store.Enter(ctx, 1)
				if err == nil {
					leave()
				}
				return nil, err
			}}.inTurn(t.Context(), processors)
			done <- err
		}()
		synctest.Wait()
		if processors.Used() != 0 {
			t.Error("it keeps its turn while it waits")
		}
		leave()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestBriefRoutes: a request that any caller may flood either takes a turn of the processors, or
// waits for a resource that is shared otherwise.
func TestBriefRoutes(t *testing.T) {
	waits := map[string]string{
		api.CallEvidence.Path: "a batch",
		api.CallActivate.Path: "the TPM",
	}
	r := run(t, &fake{}, Limits{}, nil)
	turns := func() (n uint64) {
		for _, c := range r.shares[Client].processors.Stats().Counts {
			n += c.Granted
		}
		return n
	}
	check := func(route route, body string, want uint64) {
		before := turns()
		if status, b, _ := ask(t, as(r.client, 1000), route.Method, exampleTarget(route), body); status != 200 {
			t.Fatalf("%s %s: %d %s", route.Method, route.Path, status, b)
		}
		if got := turns() - before; got != want {
			t.Errorf("%s %s with %s takes %d turns of the processors, want %d", route.Method, route.Path, body, got, want)
		}
	}
	for _, route := range routes {
		if route.On == api.OnAdmin {
			continue
		}
		want := uint64(1)
		if waits[route.Path] != "" {
			want = 0
		}
		check(route, route.Example, want)
		if route.Path == api.CallEvidence.Path {
			check(route, withKey(""), 1) // until the proof is made
			check(route, `{"nonce":"AAAAAAAAAAAAAAAAAAAAAA==","publicKey":"AAAA","keyProof":"AAAA"}`, 1)
		}
	}
}

// Half as many answers from memory are made at once as there are processors, and as many more for users
// that have no turn. The number of threads does not matter.
func TestTurnsOfProcessors(t *testing.T) {
	for processors, want := range map[int]int64{1: 1, 2: 1, 3: 2, 4: 2, 9: 5} {
		s := newShares(Limits{Processors: processors}.withDefaults()).processors.Stats()
		if s.Capacity != want || s.Spare != want {
			t.Errorf("%d processors: %d turns and %d spare ones, want %d each", processors, s.Capacity, s.Spare, want)
		}
	}
}
