// SPDX-License-Identifier: Apache-2.0

package turn_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvm-agentd/agentd/internal/metrics"
	"github.com/cvm-agentd/agentd/internal/metrics/metricstest"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// What a queue counts is what happened, and nothing is left when all work is done.
func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := turn.New(turn.Options{Capacity: 10, Spare: 2, Little: 1, Waiting: 2})
		first, err := q.Enter(who(turn.Keys, "a"), 10)
		if err != nil {
			t.Fatal(err)
		}
		waits := func(ctx context.Context) chan func() {
			granted := make(chan func(), 1)
			go func() {
				leave, _ := q.Enter(ctx, 10)
				granted <- leave
			}()
			synctest.Wait()
			return granted
		}
		short, cancel := context.WithTimeout(who(turn.Keys, "a"), time.Second)
		defer cancel()
		left, later := waits(short), waits(who(turn.Keys, "a"))
		if _, err := q.Enter(who(turn.Keys, "a"), 10); !errors.Is(err, turn.ErrBusy) {
			t.Fatal(err)
		}
		spare, err := q.Enter(who(turn.Inquiry, "b"), 1)
		if err != nil {
			t.Fatal(err)
		}
		s := q.Stats()
		if s.Capacity != 10 || s.Spare != 2 || s.Used != 11 || s.Active != 2 || s.Waiting[turn.Keys] != 2 || s.Longest != 2 {
			t.Errorf("while two wait: %+v", s)
		}
		time.Sleep(4 * time.Second)
		if <-left != nil {
			t.Error("it did not leave")
		}
		first()
		(<-later)()
		spare()
		s = q.Stats()
		if s.Used != 0 || s.Active != 0 || s.Waiting[turn.Keys] != 0 || s.Longest != 0 {
			t.Errorf("in the end: %+v", s)
		}
		if want := (turn.Counts{Granted: 2, Refused: 1, Left: 1, Wait: 5 * time.Second, Longest: 4 * time.Second}); s.Counts[turn.Keys] != want {
			t.Errorf("counted %+v, want %+v", s.Counts[turn.Keys], want)
		}
		if refused, left := s.Refused(); refused != 1 || left != 1 {
			t.Errorf("%d refused, %d left", refused, left)
		}
		var set metrics.Set
		s.Metrics(&set, "tpm", metrics.Label{Name: "socket", Value: "client"})
		samples, err := metricstest.Parse(set.Text(metrics.Prometheus))
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]float64{
			`agentd_turn_capacity{resource="tpm",socket="client"}`:                             12,
			`agentd_turn_used{resource="tpm",socket="client"}`:                                 0,
			`agentd_turn_active{resource="tpm",socket="client"}`:                               0,
			`agentd_turn_granted_total{resource="tpm",socket="client",class="inquiry"}`:        1,
			`agentd_turn_granted_total{resource="tpm",socket="client",class="keys"}`:           2,
			`agentd_turn_refused_total{resource="tpm",socket="client",class="keys"}`:           1,
			`agentd_turn_left_total{resource="tpm",socket="client",class="keys"}`:              1,
			`agentd_turn_wait_seconds_total{resource="tpm",socket="client",class="keys"}`:      5,
			`agentd_turn_longest_wait_seconds{resource="tpm",socket="client",class="keys"}`:    4,
			`agentd_turn_waiting{resource="tpm",socket="client",class="keys"}`:                 0,
			`agentd_turn_wait_seconds_total{resource="tpm",socket="client",class="inquiry"}`:   0,
			`agentd_turn_longest_wait_seconds{resource="tpm",socket="client",class="inquiry"}`: 0,
		} {
			if got, there := samples[name]; !there || got != want {
				t.Errorf("%s is %v (%v), want %v", name, got, there, want)
			}
		}
		if _, there := samples[`agentd_turn_granted_total{resource="tpm",socket="client",class="start"}`]; there {
			t.Error("a class without work has figures")
		}
	})
}
