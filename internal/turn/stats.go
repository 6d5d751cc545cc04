// SPDX-License-Identifier: Apache-2.0

package turn

import (
	"time"

	"github.com/cvm-agentd/agentd/internal/metrics"
)

// Counts are what happened to the work of one class since the queue was made.
type Counts struct {
	Granted uint64        // pieces of work that got their turn
	Refused uint64        // with [ErrBusy]
	Left    uint64        // gave up waiting
	Wait    time.Duration // of all that waited, together
	Longest time.Duration // wait of one piece of work
}

func (c *Counts) waited(d time.Duration) {
	c.Wait += max(d, 0)
	c.Longest = max(c.Longest, d)
}

// Stats are the present state of a queue, and what it counted.
type Stats struct {
	Capacity int64 // without the spare part
	Spare    int64
	Used     int64 // of both
	Active   int   // pieces of work under way
	Waiting  [classes]int
	Longest  int // most pieces of work that one party has waiting
	Counts   [classes]Counts
}

// Stats returns what the queue counts.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Stats{Capacity: q.o.Capacity, Spare: q.o.Spare, Used: q.used + q.spareUsed, Active: q.active}
	for c := range q.lanes {
		l := &q.lanes[c]
		s.Waiting[c], s.Counts[c] = l.waiting, l.counts
		for _, p := range l.parties {
			s.Longest = max(s.Longest, len(p.queue))
		}
	}
	return s
}

// Refused returns how much work was refused or gave up waiting, of all classes.
func (s *Stats) Refused() (refused, left uint64) {
	for c := range s.Counts {
		refused += s.Counts[c].Refused
		left += s.Counts[c].Left
	}
	return refused, left
}

// Metrics adds the figures of the queue of a resource. Labels tell resources of one kind apart.
func (s *Stats) Metrics(to *metrics.Set, resource string, labels ...metrics.Label) {
	of := append([]metrics.Label{{Name: "resource", Value: resource}}, labels...)
	to.Gauge("agentd_turn_capacity", "How much of a resource there is, in its unit.", float64(s.Capacity+s.Spare), of...)
	to.Gauge("agentd_turn_used", "How much of a resource is in use.", float64(s.Used), of...)
	to.Gauge("agentd_turn_active", "Pieces of work that have their turn.", float64(s.Active), of...)
	for c := range classes {
		n := s.Counts[c]
		if n == (Counts{}) && s.Waiting[c] == 0 {
			continue // most resources serve a few classes
		}
		class := append(of[:len(of):len(of)], metrics.Label{Name: "class", Value: c.String()})
		to.Gauge("agentd_turn_waiting", "Pieces of work that wait for their turn.", float64(s.Waiting[c]), class...)
		to.Counter("agentd_turn_granted", "Pieces of work that got their turn.", float64(n.Granted), class...)
		to.Counter("agentd_turn_refused", "Pieces of work that were refused, since too many of the party waited.", float64(n.Refused), class...)
		to.Counter("agentd_turn_left", "Pieces of work that gave up waiting.", float64(n.Left), class...)
		to.Counter("agentd_turn_wait_seconds", "Time that all work waited for its turn.", n.Wait.Seconds(), class...)
		to.Gauge("agentd_turn_longest_wait_seconds", "Longest wait for a turn since the agent started.", n.Longest.Seconds(), class...)
	}
}
