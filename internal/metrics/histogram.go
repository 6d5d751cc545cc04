// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"math"
	"slices"
	"strings"
	"sync"
)

// A Histogram counts values by their size. Its bounds are fixed, so it takes the same memory for
// ever. Make one with [NewHistogram]. Its methods may be called at the same time.
type Histogram struct {
	bounds []float64 // upper bounds of the buckets, ascending; more than the last is in a bucket of its own

	mu     sync.Mutex // guards the two below
	counts []uint64   // of each bucket alone
	sum    float64
}

// Bounds of the buckets for times that devices take, in seconds.
var Seconds = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

// NewHistogram returns a histogram with these upper bounds, which ascend.
func NewHistogram(bounds ...float64) *Histogram {
	return &Histogram{bounds: bounds, counts: make([]uint64, len(bounds)+1)}
}

// Observe counts a value that is not negative.
func (h *Histogram) Observe(value float64) {
	at, _ := slices.BinarySearch(h.bounds, value) // a bound is in its own bucket
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[at]++
	h.sum += value
}

// Histogram adds the buckets, the count and the sum of h.
func (s *Set) Histogram(name, help string, h *Histogram, labels ...Label) {
	if s.full(len(h.bounds) + 3) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	f := s.family(name, "histogram", help, "")
	var total uint64
	for i, n := range h.counts {
		total += n
		bound := math.Inf(1)
		if i < len(h.bounds) {
			bound = h.bounds[i]
		}
		le := number(bound)
		if !strings.ContainsAny(le, ".Ie") {
			le += ".0" // as OpenMetrics has it
		}
		f.sample(name+"_bucket", float64(total), append(labels[:len(labels):len(labels)], Label{"le", le})...)
	}
	f.sample(name+"_sum", h.sum, labels...)
	f.sample(name+"_count", float64(total), labels...)
}
