// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestGateShares(t *testing.T) {
	g := newGate(Limits{Requests: 4, RequestsEach: 2, WaitingEach: 2, Bytes: 100, BytesEach: 50})
	enter := func(uid uint32, bytes int64) func() {
		t.Helper()
		leave, err := g.enter(t.Context(), uid, bytes)
		if err != nil {
			t.Fatal(err)
		}
		return leave
	}
	refused := func(uid uint32, bytes int64, want error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := g.enter(ctx, uid, bytes); !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
	}
	var leave []func()
	leave = append(leave, enter(1, 10), enter(1, 10))
	refused(1, 10, context.DeadlineExceeded) // its share of requests is taken
	leave = append(leave, enter(2, 40))      // another's is not
	refused(2, 40, context.DeadlineExceeded) // nor would its bytes fit
	leave = append(leave, enter(2, 10))
	refused(3, 1, context.DeadlineExceeded) // all are taken
	for _, f := range leave {
		f()
	}
	enter(1, 1<<40)() // an answer beyond the share takes the share

	// More than may wait is refused at once.
	leave = []func(){enter(1, 1), enter(1, 1)}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 {
		wg.Go(func() { g.enter(ctx, 1, 1) })
	}
	eventually(t, "two are waiting", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.users[1].queue) == 2
	})
	if _, err := g.enter(t.Context(), 1, 1); !errors.Is(err, errBusy) {
		t.Errorf("third waiter: %v", err)
	}
	cancel()
	wg.Wait()
	for _, f := range leave {
		f()
	}
	if len(g.users) != 0 || g.used != (load{}) || g.spareUsed != (load{}) {
		t.Errorf("left over: %d users, %+v", len(g.users), g.used)
	}
}

// The user with the fewest in progress is next, however long a flood has been waiting.
func TestGateOrder(t *testing.T) {
	g := newGate(Limits{Requests: 2, RequestsEach: 2, WaitingEach: 100, Bytes: 100, BytesEach: 100})
	a, _ := g.enter(t.Context(), 1, 1)
	b, _ := g.enter(t.Context(), 1, 1)
	order := make(chan uint32, 100)
	var wg sync.WaitGroup
	wait := func(uid uint32, queued int) {
		wg.Go(func() {
			leave, err := g.enter(t.Context(), uid, 1)
			if err != nil {
				t.Error(err)
				return
			}
			order <- uid
			leave()
		})
		eventually(t, "it is waiting", func() bool {
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.users[uid] != nil && len(g.users[uid].queue) == queued
		})
	}
	for n := range 20 {
		wait(1, n+1)
	}
	wait(2, 1)
	a()
	if first := <-order; first != 2 {
		t.Errorf("uid %d came first", first)
	}
	b()
	wg.Wait()
}

// Two users who take everything leave places to users who want little, and only to those.
func TestGateSpare(t *testing.T) {
	g := newGate(Limits{Requests: 256, RequestsEach: 128, WaitingEach: 10, Bytes: 256 << 20, BytesEach: 128 << 20})
	var leave []func()
	enter := func(uid uint32, bytes int64) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		f, err := g.enter(ctx, uid, bytes)
		if err != nil {
			t.Fatalf("uid %d: %v", uid, err)
		}
		leave = append(leave, f)
	}
	refused := func(uid uint32, bytes int64) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := g.enter(ctx, uid, bytes); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("uid %d: %v, want it to wait", uid, err)
		}
	}
	for range 128 {
		enter(1, small)
		enter(2, small)
	}
	refused(1, small)
	refused(2, small)
	enter(3, small)
	enter(3, small)
	refused(3, small)   // that is not little any more
	refused(4, 2<<20+1) // nor is an answer of that size
	for uid := range uint32(15) {
		enter(10+uid, small)
		enter(10+uid, small)
	}
	refused(99, small) // all that was spare is taken
	for _, f := range leave {
		f()
	}
	if len(g.users) != 0 || g.used != (load{}) || g.spareUsed != (load{}) {
		t.Errorf("left over: %d users, %+v, %+v", len(g.users), g.used, g.spareUsed)
	}
}

// Under any mix nothing is left over and no cap is passed.
func TestGateRandom(t *testing.T) {
	g := newGate(Limits{Requests: 8, RequestsEach: 3, WaitingEach: 4, Bytes: 64, BytesEach: 32})
	g.spare, g.little = load{2, 16}, load{1, 8}
	var wg sync.WaitGroup
	for worker := range 40 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 200 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(300))*time.Microsecond)
				leave, err := g.enter(ctx, random.Uint32N(5), random.Int64N(40))
				if err == nil {
					g.mu.Lock()
					if !g.used.within(g.all) || !g.spareUsed.within(g.spare) {
						t.Errorf("beyond the cap: %+v, %+v", g.used, g.spareUsed)
					}
					for _, u := range g.users {
						if !u.used.within(g.each) {
							t.Errorf("beyond the share: %+v", u.used)
						}
					}
					g.mu.Unlock()
					leave()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if len(g.users) != 0 || g.used != (load{}) || g.spareUsed != (load{}) {
		t.Errorf("left over: %d users, %+v", len(g.users), g.used)
	}
}

func TestRates(t *testing.T) {
	r := newRates(Limits{RateEach: 10, BurstEach: 3})
	now := time.Unix(1e9, 0)
	for range 3 {
		if _, ok := r.take(1, now); !ok {
			t.Fatal("within the burst")
		}
	}
	wait, ok := r.take(1, now)
	if ok || wait <= 0 || wait > 100*time.Millisecond {
		t.Errorf("beyond the burst: %v %v", wait, ok)
	}
	if _, ok := r.take(2, now); !ok {
		t.Error("another uid pays")
	}
	if _, ok := r.take(1, now.Add(100*time.Millisecond)); !ok {
		t.Error("refused requests used up tokens")
	}
	for uid := range uint32(10 * maxBuckets) {
		r.take(uid, now.Add(time.Duration(uid)*time.Second))
	}
	if len(r.buckets) > maxBuckets+1 {
		t.Errorf("%d buckets", len(r.buckets))
	}
}
