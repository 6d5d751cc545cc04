// SPDX-License-Identifier: Apache-2.0

package server

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// rates is a token bucket for each uid.
type rates struct {
	mu      sync.Mutex
	limit   rate.Limit
	burst   int
	buckets map[uint32]*rate.Limiter
}

// maxBuckets is how many uids are remembered before full buckets are removed: a full
// bucket is the same as a new one.
const maxBuckets = 1024

func newRates(l Limits) *rates {
	return &rates{limit: rate.Limit(l.RateEach), burst: l.BurstEach, buckets: map[uint32]*rate.Limiter{}}
}

// take takes a token of uid at the time now, or returns the time until there is one.
func (r *rates) take(uid uint32, now time.Time) (wait time.Duration, ok bool) {
	r.mu.Lock()
	b := r.buckets[uid]
	if b == nil {
		if len(r.buckets) >= maxBuckets {
			for k, x := range r.buckets {
				if x.TokensAt(now) >= float64(r.burst) {
					delete(r.buckets, k)
				}
			}
		}
		b = rate.NewLimiter(r.limit, r.burst)
		r.buckets[uid] = b
	}
	r.mu.Unlock()
	x := b.ReserveN(now, 1)
	if wait = x.DelayFrom(now); wait > 0 {
		x.CancelAt(now)
		return wait, false
	}
	return 0, true
}
