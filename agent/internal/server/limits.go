// SPDX-License-Identifier: Apache-2.0

package server

import (
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// Limits caps what callers can make the agent use. "Each" is for one uid. A member that is
// zero gets the default in its comment.
type Limits struct {
	Connections     int           // 2048, and no more than a third of the descriptors the process may open
	ConnectionsEach int           // half of Connections
	Requests        int           // 1024 in progress at once, and no more than half of Connections; an eighth more for users with little in use
	RequestsEach    int           // half of Requests
	WaitingEach     int           // 256 more that wait for their turn, and no more than an eighth of Connections
	Bytes           int64         // 256 MiB of answers being made or written, by their expected size
	BytesEach       int64         // half of Bytes
	BodyBytes       int64         // 32 MiB of bodies above 4 KiB; half of it each
	RateEach        float64       // 5000 requests a second
	BurstEach       int           // RateEach of two seconds
	OpenEach        float64       // 1000 new connections a second
	OpenBurst       int           // OpenEach of two seconds, and no fewer than twice ConnectionsEach
	HeaderBytes     int           // 8 KiB of request line and headers
	HeaderTimeout   time.Duration // 5 s for the headers of a request to arrive
	BodyTimeout     time.Duration // 5 s for its body to arrive
	IdleTimeout     time.Duration // 60 s between two requests of a connection
	WriteTimeout    time.Duration // 30 s for the caller to read an answer
	Patience        float64       // 1; factor of the routes' own timeouts
	Processors      int           // GOMAXPROCS; half as many answers from memory are made at once, and as many more for users that have no turn
}

// descriptors is how many descriptors one connection takes: the socket, the pidfd and,
// briefly, the directory of the process or its executable.
const descriptors = 3

func (l Limits) withDefaults() Limits {
	or(&l.Connections, 2048)
	scarce := openable()/descriptors < l.Connections
	l.Connections = min(l.Connections, openable()/descriptors)
	or(&l.ConnectionsEach, max(1, l.Connections/2))
	// Two users must not be able to keep all connections busy, however few there are.
	working, waiting := max(1, l.Connections/2), max(1, l.Connections/8)
	or(&l.Requests, min(1024, working))
	or(&l.WaitingEach, min(256, waiting))
	or(&l.RequestsEach, max(1, l.Requests/2))
	if scarce { // the configuration may not know that
		l.Requests, l.WaitingEach = min(l.Requests, working), min(l.WaitingEach, waiting)
		l.RequestsEach = min(l.RequestsEach, max(1, l.Requests/2))
	}
	or(&l.Bytes, 256<<20)
	or(&l.BytesEach, l.Bytes/2)
	or(&l.BodyBytes, 32<<20)
	or(&l.RateEach, 5000)
	or(&l.BurstEach, max(1, int(2*l.RateEach)))
	or(&l.OpenEach, 1000)
	or(&l.OpenBurst, max(int(2*l.OpenEach), 2*l.ConnectionsEach))
	or(&l.HeaderBytes, 8<<10)
	or(&l.HeaderTimeout, 5*time.Second)
	or(&l.BodyTimeout, 5*time.Second)
	or(&l.IdleTimeout, time.Minute)
	or(&l.WriteTimeout, 30*time.Second)
	or(&l.Processors, runtime.GOMAXPROCS(0))
	or(&l.Patience, 1)
	return l
}

// admin returns the limits of the admin socket. Few programs use it, and what they ask for
// must never wait for clients.
func (l Limits) admin() Limits {
	l.Connections, l.ConnectionsEach = adminConnections, adminConnections
	l.Requests, l.RequestsEach, l.WaitingEach = adminConnections, adminConnections, adminConnections
	l.Bytes, l.BytesEach = l.Bytes/4, l.Bytes/4
	l.BodyBytes /= 4
	return l
}

// adminConnections is how many connections the admin socket has at once.
const adminConnections = 64

// or sets a limit that is not set.
func or[T int | int64 | float64 | time.Duration](p *T, n T) {
	if *p <= 0 {
		*p = n
	}
}

// openable returns how many descriptors connections may take whose peers are identified.
func openable() int { return forConnections() - 2*unidentified() }

// unidentified returns how many connections wait to be identified, for each of the two sockets.
func unidentified() int { return min(maxUnidentified, max(4, forConnections()/128)) }

// maxUnidentified is the most connections that wait to be identified. Further ones wait in the queue of
// the socket, in the order in which they came.
const maxUnidentified = 1024

// forConnections returns how many descriptors connections may take: the process's limit less a
// reserve for devices, logs, the admin socket, the accept loops, and clients that are being shed.
func forConnections() int {
	const reserve = 128 + adminConnections*descriptors + maxShed
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil || r.Cur > 1<<20 {
		return 1 << 20
	}
	return max(int(r.Cur)-reserve, 16*descriptors)
}

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

func newRates(each float64, burst int) *rates {
	return &rates{limit: rate.Limit(each), burst: burst, buckets: map[uint32]*rate.Limiter{}}
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
