// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
)

// After a batch of many, the next one begins when as many wait again, when no one came for a moment,
// or after the longest time. Few callers never wait, nor does one that comes when the gathering is over.
func TestCrowdsGather(t *testing.T) {
	for _, c := range []struct {
		first int           // waiters of the first batch
		later int           // that come afterwards
		pause time.Duration // between two of these
		sizes []int
		took  time.Duration // of all
	}{
		{crowd, crowd, 0, []int{crowd, crowd}, 0},
		{crowd, crowd, gathering / 8, []int{crowd, crowd}, 2 * gathering},
		{crowd, 5, 0, []int{crowd, 5}, 2 * gathering},
		{crowd, 5, gathering / 5, []int{crowd, 5}, 2 * gathering},
		{crowd, 5, 2 * gathering, []int{crowd, 1, 1, 1, 1, 1}, 10 * gathering},
		{crowd, 5, gathering * 19 / 20, []int{crowd, 3, 1, 1}, gathering * 19 / 20 * 5},
		{crowd - 1, 5, 0, []int{crowd - 1, 5}, 0},
		{crowd - 1, 5, gathering / 5, []int{crowd - 1, 1, 1, 1, 1, 1}, gathering},
		{1, 5, gathering / 5, []int{1, 1, 1, 1, 1, 1}, gathering},
	} {
		synctest.Test(t, func(t *testing.T) {
			var l *lane
			var sizes []int
			l = newLane("test", 100, func(context.Context) { sizes = append(sizes, len(l.take())) })
			add := func(n int) {
				for range n {
					if err := l.add(newTrial()); err != nil {
						t.Fatal(err)
					}
				}
			}
			add(c.first)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); l.run(ctx) }()
			synctest.Wait()
			began := time.Now()
			if c.pause == 0 {
				add(c.later)
			} else {
				for range c.later {
					time.Sleep(c.pause - time.Nanosecond) // before the moment is over
					add(1)
					synctest.Wait()
				}
			}
			for synctest.Wait(); l.any(); synctest.Wait() {
				time.Sleep(time.Microsecond)
			}
			if took := time.Since(began); took > c.took+time.Microsecond || took < c.took-time.Microsecond {
				t.Errorf("%+v: it took %v", c, took)
			}
			if !slices.Equal(sizes, c.sizes) {
				t.Errorf("%+v: batches of %d", c, sizes)
			}
			cancel()
			<-done
		})
	}
}

// TestFloodIsNotGathered: callers who come as fast as the processors serve them hold a batch up for
// the longest time, and not until as many are there as the last one had.
func TestFloodIsNotGathered(t *testing.T) {
	const last = evidence.MaxBatch / 2
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	l := newLane("test", 2*last, nil)
	for range last {
		if err := l.add(newTrial()); err != nil {
			t.Fatal(err)
		}
	}
	l.take()
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			default:
			}
			for began := time.Now(); time.Since(began) < gathering/5; { // as long as a request takes
			}
			_ = l.add(newTrial())
			runtime.Gosched()
		}
	}()
	l.gather()
	came := l.arrivals() - last
	close(done)
	<-stopped
	if came == 0 || came >= last {
		t.Errorf("%d came in", came)
	}
}
