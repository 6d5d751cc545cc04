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

// After a batch of many, the next one begins a moment later, with all that have come by then. Few
// callers never wait, nor does one that comes when the moment is over.
func TestCrowdsGather(t *testing.T) {
	for _, c := range []struct {
		first int           // waiters of the first batch
		pause time.Duration // between two of the five that come afterwards
		sizes []int
		took  time.Duration // of all
	}{
		{crowd, 0, []int{crowd, 5}, gathering},
		{crowd, gathering / 5, []int{crowd, 5}, gathering},
		{crowd, 2 * gathering, []int{crowd, 1, 1, 1, 1, 1}, 10 * gathering},
		{crowd - 1, 0, []int{crowd - 1, 5}, 0},
		{crowd - 1, gathering / 5, []int{crowd - 1, 1, 1, 1, 1, 1}, gathering},
		{1, gathering / 5, []int{1, 1, 1, 1, 1, 1}, gathering},
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
				add(5)
			} else {
				for range 5 {
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
// a moment, and not until it has as many as it can.
func TestFloodIsNotGathered(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	l := newLane("test", 2*evidence.MaxBatch, nil)
	for range crowd {
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
	waiting, _ := l.counts()
	close(done)
	<-stopped
	if waiting >= evidence.MaxBatch/2 {
		t.Errorf("%d came in", waiting)
	}
}
