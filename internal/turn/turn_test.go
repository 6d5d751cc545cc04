// SPDX-License-Identifier: Apache-2.0

package turn_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvm-agentd/agentd/internal/turn"
)

func who(c turn.Class, party string) context.Context {
	return turn.With(context.Background(), turn.Who{Class: c, Party: party})
}

// serve has one client of a party ask again and again, each time for a while, until ctx ends.
func serve(q *turn.Queue, ctx context.Context, hold time.Duration, served *atomic.Int64) {
	for {
		leave, err := q.Enter(ctx, 1)
		if err != nil {
			return
		}
		time.Sleep(hold)
		leave()
		served.Add(1)
	}
}

// Eight equal parties under saturation are served equally, however many pieces of work each
// has waiting.
func TestPartiesAreServedEqually(t *testing.T) {
	for _, capacity := range []int64{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			q := turn.New(turn.Options{Capacity: capacity})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var served [8]atomic.Int64
			var all sync.WaitGroup
			for p := range served {
				for range 1 << p { // 1 to 128 clients
					all.Go(func() {
						serve(q, turn.With(ctx, turn.Who{Party: fmt.Sprint(p)}), 10*time.Millisecond, &served[p])
					})
				}
			}
			all.Wait()
			least, most := served[0].Load(), served[0].Load()
			for p := range served {
				least, most = min(least, served[p].Load()), max(most, served[p].Load())
			}
			t.Logf("capacity %d: least %d, most %d", capacity, least, most)
			if least == 0 || most > 2*least {
				t.Errorf("the party served most had %d, the one served least %d: want at most a factor of two", most, least)
			}
		})
	}
}

// A party with short work waits for one piece of work of each other party, not for the
// whole queue of a flood.
func TestFloodDelaysItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := turn.New(turn.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		var flood, victim atomic.Int64
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() { serve(q, turn.With(ctx, turn.Who{Party: "flood"}), time.Second, &flood) })
		}
		synctest.Wait()
		for range 20 {
			began := time.Now()
			leave, err := q.Enter(turn.With(ctx, turn.Who{Party: "victim"}), 1)
			if err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(began); waited > time.Second {
				t.Errorf("waited %v, want at most the work that was under way", waited)
			}
			leave()
			victim.Add(1)
		}
		cancel()
		all.Wait()
	})
}

// A higher class is next, and a lower one is not forgotten.
func TestClasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := turn.New(turn.Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var served [6]atomic.Int64
		var all sync.WaitGroup
		for c := turn.Inquiry; c <= turn.Start; c++ {
			for range 4 {
				all.Go(func() {
					serve(q, turn.With(ctx, turn.Who{Class: c, Party: "x"}), 10*time.Millisecond, &served[c])
				})
			}
		}
		all.Wait()
		total := int64(0)
		for c := range served {
			total += served[c].Load()
		}
		for c := range served {
			n := served[c].Load()
			t.Logf("%v: %d of %d", turn.Class(c), n, total)
			if n < total/40 {
				t.Errorf("class %v had %d of %d turns: it starves", turn.Class(c), n, total)
			}
		}
		if n := served[turn.Start].Load(); n < total/2 {
			t.Errorf("the highest class had %d of %d turns, want most", n, total)
		}
	})
}

// Work that does not fit yet is not overtaken for ever by smaller work of others, and a
// party with little in use gets the spare part while the rest is taken.
func TestCosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := turn.New(turn.Options{Capacity: 100, Each: 60, Spare: 10, Little: 10})
		first, err := q.Enter(who(turn.Evidence, "a"), 1000) // counts as 60
		if err != nil {
			t.Fatal(err)
		}
		second, err := q.Enter(who(turn.Evidence, "b"), 40)
		if err != nil {
			t.Fatal(err)
		}
		little, err := q.Enter(who(turn.Evidence, "c"), 10)
		if err != nil {
			t.Fatal("the spare part is not given to a party with nothing in use:", err)
		}
		ctx, cancel := context.WithTimeout(who(turn.Evidence, "d"), time.Second)
		defer cancel()
		if _, err := q.Enter(ctx, 50); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("error %v, want the end of its context: nothing is left", err)
		}
		large := make(chan func(), 1)
		go func() {
			leave, _ := q.Enter(who(turn.Evidence, "e"), 60)
			large <- leave
		}()
		synctest.Wait()
		small := make(chan func(), 1)
		go func() {
			leave, _ := q.Enter(who(turn.Evidence, "f"), 30)
			small <- leave
		}()
		synctest.Wait()
		second()
		synctest.Wait()
		if len(small) != 0 {
			t.Error("small work overtook work that waits for room")
		}
		first()
		(<-large)()
		(<-small)()
		little()
	})
}

func TestWaitingLimit(t *testing.T) {
	q := turn.New(turn.Options{Waiting: 2})
	leave, err := q.Enter(who(turn.Keys, "a"), 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(who(turn.Keys, "a"))
	defer cancel()
	var all sync.WaitGroup
	var busy, gone atomic.Int64
	for range 5 {
		all.Go(func() {
			switch _, err := q.Enter(ctx, 1); {
			case errors.Is(err, turn.ErrBusy):
				if busy.Add(1) == 3 {
					cancel()
				}
			case errors.Is(err, context.Canceled):
				gone.Add(1)
			}
		})
	}
	all.Wait()
	if busy.Load() != 3 || gone.Load() != 2 {
		t.Errorf("%d refused and %d waited, want 3 and 2", busy.Load(), gone.Load())
	}
	leave()
}

// However callers come, leave and give up, no part of the capacity is lost or given twice.
func TestNothingIsLost(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			const capacity, spare = 10, 2
			q := turn.New(turn.Options{Capacity: capacity, Each: 6, Spare: spare, Little: 1, Waiting: 20})
			var used atomic.Int64
			var all sync.WaitGroup
			for range 300 {
				cost, patience, hold := 1+random.Int64N(6), time.Duration(random.IntN(50)), time.Duration(random.IntN(9))
				w := turn.Who{Class: turn.Class(random.IntN(8)), Party: fmt.Sprint(random.IntN(5))}
				start := time.Duration(random.IntN(200))
				all.Go(func() {
					time.Sleep(start)
					ctx, cancel := context.WithTimeout(turn.With(t.Context(), w), patience)
					defer cancel()
					leave, err := q.Enter(ctx, cost)
					if err != nil {
						return
					}
					if n := used.Add(cost); n > capacity+spare {
						t.Errorf("seed %d: %d in use of %d", seed, n, capacity+spare)
					}
					time.Sleep(hold)
					used.Add(-cost)
					leave()
				})
			}
			all.Wait()
			for c := turn.Inquiry; c <= turn.Start; c++ { // all of it is free again
				leave, err := q.Enter(who(c, "last"), 6)
				if err != nil {
					t.Fatal(err)
				}
				rest, err := q.Enter(who(c, "other"), 4)
				if err != nil {
					t.Fatal(err)
				}
				leave()
				rest()
			}
		})
	}
}

// Work is raised to a class, never lowered, and stays that of its party.
// The lowest class leaves the reserve to others, however many parties ask.
func TestReserve(t *testing.T) {
	q := turn.New(turn.Options{Capacity: 3, Reserve: 2})
	first := q.Try(who(turn.Inquiry, "a"), 1)
	if first == nil {
		t.Fatal("the lowest class has no part at all")
	}
	if q.Try(who(turn.Inquiry, "b"), 1) != nil {
		t.Error("the lowest class has the reserve")
	}
	for _, party := range []string{"c", "d"} {
		leave := q.Try(who(turn.Evidence, party), 1)
		if leave == nil {
			t.Fatal("another class does not have the reserve")
		}
		defer leave()
	}
	first()
	if again := q.Try(who(turn.Inquiry, "b"), 1); again == nil {
		t.Error("the lowest class does not have what another party of it gave back")
	} else {
		again()
	}
}

// Work says when it begins to wait, and not if its turn comes at once.
func TestIdle(t *testing.T) {
	q := turn.New(turn.Options{})
	idle := make(chan struct{}, 2)
	ctx := turn.Idle(t.Context(), func() { idle <- struct{}{} })
	leave, err := q.Enter(ctx, 1)
	if err != nil || len(idle) != 0 {
		t.Fatalf("it waits for a free turn: %v", err)
	}
	done := make(chan error)
	go func() {
		leave, err := q.Enter(ctx, 1)
		if err == nil {
			leave()
		}
		done <- err
	}()
	<-idle
	leave()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAtLeast(t *testing.T) {
	for c := turn.Inquiry; c <= turn.Start; c++ {
		for least := turn.Inquiry; least <= turn.Start; least++ {
			if got, want := turn.From(turn.AtLeast(who(c, "a"), least)), (turn.Who{Class: max(c, least), Party: "a"}); got != want {
				t.Errorf("%v, at least %v: got %+v, want %+v", c, least, got, want)
			}
		}
	}
}
