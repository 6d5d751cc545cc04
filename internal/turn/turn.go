// SPDX-License-Identifier: Apache-2.0

// Package turn decides whose turn it is: it shares one resource among classes of work and
// the parties that ask for it.
//
// A [Queue] guards one resource of limited capacity, such as a TPM that runs one sequence
// at a time, or the memory for answers. Work takes a part of the capacity and gives it back.
// While there is none left, work waits, and the queue decides who is next:
//
//   - The highest class with waiting work is first. Each lower class has a floor: after
//     [Options.Floor] grants that passed it over, it is next.
//   - Within a class, the party with the least in use is next, and among equals the one that
//     the resource has served least. A party that comes back after a pause does not get the
//     service that it did not ask for.
//   - Within a party, first come, first served.
//
// So a flood of one party delays that party alone, by at most the work of one turn of each
// other party. The class and party of work travel in its context: see [With].
package turn

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Class is how urgent work is.
type Class uint8

// Classes, from the lowest to the highest. The zero value is the lowest.
const (
	Inquiry  Class = iota // questions about the agent, and its own background work
	Evidence              // evidence for clients
	Keys                  // secrets of applications
	Admin                 // administration, on the admin socket
	Ledger                // the log and quotes, which other work waits for
	Start                 // units that start, and repairs of a device
	classes               // number of classes
)

// String returns the name of the class, for people.
func (c Class) String() string {
	if c >= classes {
		return "unknown"
	}
	return [classes]string{"inquiry", "evidence", "keys", "admin", "ledger", "start"}[c]
}

// Who is a class of work and the party that it is for. Party is an application, a uid, or
// another name of equal rank; parties of one class share the resource fairly.
type Who struct {
	Class Class
	Party string
}

type whoKey struct{}

// With returns a context for work of w.
func With(ctx context.Context, w Who) context.Context { return context.WithValue(ctx, whoKey{}, w) }

// From returns who the work of ctx is for. Work without one is of the lowest class.
func From(ctx context.Context) Who {
	w, _ := ctx.Value(whoKey{}).(Who)
	return w
}

// AtLeast returns a context for work of the same party as that of ctx, in class c at least.
// A part that higher classes wait for uses it, so that they do not wait for lower ones.
func AtLeast(ctx context.Context, c Class) context.Context {
	w := From(ctx)
	if w.Class >= c {
		return ctx
	}
	return With(ctx, Who{Class: c, Party: w.Party})
}

type idleKey struct{}

// Idle returns a context whose work calls f each time that it begins to wait in a queue. Work
// that has a turn of one resource can so give it back while it waits for another one.
func Idle(ctx context.Context, f func()) context.Context {
	return context.WithValue(ctx, idleKey{}, f)
}

// Rest calls what [Idle] gave the context, if it gave one: for work that begins to wait for something
// else than a turn.
func Rest(ctx context.Context) {
	if idle, ok := ctx.Value(idleKey{}).(func()); ok {
		idle()
	}
}

// ErrBusy is returned when a party already has as much work waiting as it may.
var ErrBusy = errors.New("too much work of this party is waiting")

// Options of a [Queue]. The zero value is a resource that one piece of work uses at a time.
type Options struct {
	Capacity int64            // in any unit; 1 if zero
	Each     int64            // most of the capacity that one party uses; all of it if zero
	Spare    int64            // further capacity, for parties that have at most Little in use
	Little   int64            // see Spare
	Reserve  int64            // of the capacity, which work of the lowest class leaves to others
	Waiting  int              // most pieces of work of one party that wait; no limit if zero
	Floor    int              // grants after which a class that was passed over is next; 16 if zero
	Now      func() time.Time // time.Now if nil
}

// A Queue shares one resource. Its methods may be called by many goroutines.
type Queue struct {
	o Options

	mu        sync.Mutex // guards all below
	active    int        // pieces of work under way
	used      int64      // of Capacity
	spareUsed int64      // of Spare
	arrivals  uint64
	lanes     [classes]lane
}

// New returns the queue of a resource that nothing uses yet.
func New(o Options) *Queue {
	if o.Capacity <= 0 {
		o.Capacity = 1
	}
	if o.Each <= 0 || o.Each > o.Capacity {
		o.Each = o.Capacity
	}
	if o.Floor <= 0 {
		o.Floor = 16
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	q := &Queue{o: o}
	for i := range q.lanes {
		q.lanes[i].parties = make(map[string]*party)
	}
	return q
}

// lane is the work of one class.
type lane struct {
	parties map[string]*party // that have work
	used    int64             // of the resource, by all parties
	clock   time.Duration     // the service that the party served last had before that
	waiting int               // pieces of work in all queues
	counts  Counts
	passed  int // grants to higher classes while this one waited
}

// party is one party that has work in a lane. It is removed when it has none.
type party struct {
	used   int64         // of the resource
	served time.Duration // for how long the resource was used, times the part that was used
	queue  []*work
}

// work is one piece of work that waits or is under way.
type work struct {
	cost  int64
	turn  uint64        // number of its arrival
	pool  *int64        // used or spareUsed, which counts it
	came  time.Time     // when it began to wait; zero if it did not
	since time.Time     // when it was granted
	ready chan struct{} // closed when it is granted
}

// Enter waits until the work of ctx may use cost of the capacity; leave gives it back, and
// must be called once. Cost is at least 1 and counts as at most the share of one party. The
// error is [ErrBusy], or that of ctx.
func (q *Queue) Enter(ctx context.Context, cost int64) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	who := From(ctx)
	q.mu.Lock()
	l := &q.lanes[min(who.Class, classes-1)]
	p, w := q.arrive(l, who.Party, cost)
	if !w.granted() && q.o.Waiting > 0 && len(p.queue) > q.o.Waiting {
		l.drop(who.Party, w)
		l.counts.Refused++
		q.mu.Unlock()
		return nil, ErrBusy
	}
	if !w.granted() {
		w.came = q.o.Now()
	}
	q.mu.Unlock()
	leave = func() { q.leave(l, who.Party, p, w) }
	select {
	case <-w.ready:
		return leave, nil
	default:
	}
	Rest(ctx)
	select {
	case <-w.ready:
		return leave, nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	if w.granted() { // in the same moment
		q.mu.Unlock()
		leave()
		return nil, ctx.Err()
	}
	l.drop(who.Party, w)
	l.counts.Left++
	l.counts.waited(q.o.Now().Sub(w.came))
	q.dispatch() // another may fit in its place
	q.mu.Unlock()
	return nil, ctx.Err()
}

// arrive puts new work into the queue of its party, and grants what fits. The caller holds
// mu.
func (q *Queue) arrive(l *lane, name string, cost int64) (*party, *work) {
	p := l.join(name)
	q.arrivals++
	w := &work{cost: min(max(cost, 1), q.o.Each), turn: q.arrivals, ready: make(chan struct{})}
	p.queue = append(p.queue, w)
	l.waiting++
	q.dispatch()
	return p, w
}

// Try takes cost of the capacity for the work of ctx if it is free and nothing waits for
// it. If it is not, Try returns nil.
func (q *Queue) Try(ctx context.Context, cost int64) (leave func()) {
	who := From(ctx)
	q.mu.Lock()
	defer q.mu.Unlock()
	l := &q.lanes[min(who.Class, classes-1)]
	p, w := q.arrive(l, who.Party, cost)
	if !w.granted() {
		l.drop(who.Party, w)
		return nil
	}
	return func() { q.leave(l, who.Party, p, w) }
}

// leave gives back what w used.
func (q *Queue) leave(l *lane, name string, p *party, w *work) {
	q.mu.Lock()
	defer q.mu.Unlock()
	*w.pool -= w.cost
	q.active--
	p.used -= w.cost
	l.used -= w.cost
	p.served += q.charge(q.o.Now().Sub(w.since), w.cost)
	l.part(name)
	q.dispatch()
}

// Used returns how much of the capacity is in use, the spare part included.
func (q *Queue) Used() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.used + q.spareUsed
}

// charge returns the service of work that used cost for a time: at least 1, so that work
// that takes no time counts too.
func (q *Queue) charge(d time.Duration, cost int64) time.Duration {
	return max(1, time.Duration(float64(max(d, 0))*float64(cost)/float64(q.o.Capacity)))
}

// dispatch grants what fits. The caller holds mu.
func (q *Queue) dispatch() {
	for {
		// Work that does not fit yet keeps its turn. Otherwise small pieces would starve a
		// large one.
		if l, p := q.next(q.o.Each); p != nil && q.used+p.queue[0].cost <= q.o.Capacity {
			q.grant(l, p, &q.used)
			continue
		}
		if l, p := q.next(q.o.Little); p != nil && q.spareUsed+p.queue[0].cost <= q.o.Spare {
			q.grant(l, p, &q.spareUsed)
			continue
		}
		return
	}
}

// next returns the party whose turn it is, among those that stay within share.
func (q *Queue) next(share int64) (*lane, *party) {
	var first *lane
	var turn *party
	for c := range q.lanes { // from the lowest class
		l := &q.lanes[c]
		p := l.next(share)
		if p == nil || Class(c) == Inquiry && q.o.Reserve > 0 && l.used+p.queue[0].cost > q.o.Capacity-q.o.Reserve {
			continue
		}
		if first, turn = l, p; l.passed >= q.o.Floor {
			break
		}
	}
	return first, turn
}

// next returns the party of a class whose turn it is.
func (l *lane) next(share int64) (next *party) {
	if l.waiting == 0 {
		return nil
	}
	for _, p := range l.parties {
		if len(p.queue) == 0 || p.used+p.queue[0].cost > share {
			continue
		}
		if next == nil || p.before(next) {
			next = p
		}
	}
	return next
}

// before reports whether it is the turn of p rather than of x.
func (p *party) before(x *party) bool {
	return cmp.Or(cmp.Compare(p.used, x.used), cmp.Compare(p.served, x.served), cmp.Compare(p.queue[0].turn, x.queue[0].turn)) < 0
}

// grant gives the first work of p its part of pool, and counts who was passed over.
func (q *Queue) grant(l *lane, p *party, pool *int64) {
	w := p.queue[0]
	p.queue[0] = nil
	p.queue = p.queue[1:]
	w.pool, w.since = pool, q.o.Now()
	*pool += w.cost
	q.active++
	l.counts.Granted++
	if !w.came.IsZero() {
		l.counts.waited(w.since.Sub(w.came))
	}
	p.used += w.cost
	l.used += w.cost
	l.waiting--
	l.passed = 0
	l.clock = max(l.clock, p.served)
	for c := range q.lanes {
		if lower := &q.lanes[c]; lower == l {
			break
		} else if lower.waiting > 0 {
			lower.passed++
		}
	}
	close(w.ready)
}

// join returns the party of a name. One that had no work begins where the others are:
// otherwise it could save up service.
func (l *lane) join(name string) *party {
	p := l.parties[name]
	if p == nil {
		p = &party{served: l.clock}
		l.parties[name] = p
	}
	return p
}

// part removes the party of a name if it has no work.
func (l *lane) part(name string) {
	p := l.parties[name]
	if p == nil || p.used > 0 || len(p.queue) > 0 {
		return
	}
	delete(l.parties, name)
}

// drop removes work that waits.
func (l *lane) drop(name string, w *work) {
	p := l.parties[name]
	p.queue = slices.DeleteFunc(p.queue, func(x *work) bool { return x == w })
	l.waiting--
	l.part(name)
}

func (w *work) granted() bool {
	select {
	case <-w.ready:
		return true
	default:
		return false
	}
}
