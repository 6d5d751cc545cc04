// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// errBusy is returned when a uid already has as many requests waiting as it may.
var errBusy = errors.New("too many requests of this user are waiting")

// gate bounds the requests in progress, by number and by the expected bytes of their answers.
// One uid gets at most its share. Among the waiting uids, the one with the fewest requests
// in progress is next, so that a flood delays itself and not other users.
//
// Two users who both take their whole share take everything. While the host delays reports,
// their requests end only after a minute. So there are spare places, which only a uid with
// little in use gets. A user who asks for status, measures an app, or wants evidence that
// needs no report is then answered in the meantime.
type gate struct {
	mu            sync.Mutex
	all, each     load // limits, in all and for one uid
	spare, little load // further places, for a uid that has at most little in use
	waiting       int  // limit of waiting requests for one uid
	used          load // used part of all
	spareUsed     load // used part of spare
	users         map[uint32]*user
	turn          uint64 // number of the last waiter
}

type load struct {
	requests int
	bytes    int64
}

func (l load) plus(bytes int64) load { return load{l.requests + 1, l.bytes + bytes} }
func (l load) less(bytes int64) load { return load{l.requests - 1, l.bytes - bytes} }
func (l load) within(cap load) bool  { return l.requests <= cap.requests && l.bytes <= cap.bytes }

// user is one uid that has requests. It is removed when it has none.
type user struct {
	used  load
	queue []*waiter
}

type waiter struct {
	bytes int64
	turn  uint64
	pool  *load         // the load that counts it: used or spareUsed
	ready chan struct{} // closed once admitted
}

func newGate(l Limits) *gate {
	return &gate{
		all:     load{l.Requests, l.Bytes},
		each:    load{l.RequestsEach, min(l.BytesEach, l.Bytes)},
		spare:   load{l.Requests / 8, l.Bytes / 32},
		little:  load{l.Requests / 128, l.Bytes / 128},
		waiting: l.WaitingEach,
		users:   map[uint32]*user{},
	}
}

// newBodies returns a gate for bodies that are being read or worked on.
func newBodies(l Limits) *gate {
	return &gate{
		all:     load{l.Connections, l.BodyBytes},
		each:    load{l.ConnectionsEach, l.BodyBytes / 2},
		waiting: l.WaitingEach,
		users:   map[uint32]*user{},
	}
}

// enter waits for a place. An answer larger than the share of a uid takes all of it.
func (g *gate) enter(ctx context.Context, uid uint32, bytes int64) (leave func(), err error) {
	g.mu.Lock()
	u := g.users[uid]
	if u == nil {
		u = &user{}
		g.users[uid] = u
	}
	g.turn++
	w := &waiter{bytes: min(bytes, g.each.bytes), turn: g.turn, ready: make(chan struct{})}
	u.queue = append(u.queue, w)
	g.dispatch()
	if !isClosed(w.ready) && len(u.queue) > g.waiting {
		g.drop(uid, u, w)
		g.mu.Unlock()
		return nil, errBusy
	}
	g.mu.Unlock()

	leave = func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		*w.pool, u.used = w.pool.less(w.bytes), u.used.less(w.bytes)
		g.forget(uid, u)
		g.dispatch()
	}
	select {
	case <-w.ready:
		return leave, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	if isClosed(w.ready) { // admitted in the same moment
		g.mu.Unlock()
		leave()
		return nil, ctx.Err()
	}
	g.drop(uid, u, w)
	g.dispatch() // another may fit in its place
	g.mu.Unlock()
	return nil, ctx.Err()
}

// dispatch admits waiters while there is room.
func (g *gate) dispatch() {
	for {
		// A waiter that does not fit yet keeps its turn. Otherwise small answers would
		// starve a large one.
		if u := g.next(g.each); u != nil && g.used.plus(u.queue[0].bytes).within(g.all) {
			u.admit(&g.used)
			continue
		}
		if u := g.next(g.little); u != nil && g.spareUsed.plus(u.queue[0].bytes).within(g.spare) {
			u.admit(&g.spareUsed)
			continue
		}
		return
	}
}

// next returns the user whose turn it is, among those within their share.
func (g *gate) next(share load) (next *user) {
	for _, u := range g.users {
		if len(u.queue) == 0 || !u.used.plus(u.queue[0].bytes).within(share) {
			continue
		}
		if next == nil || u.used.requests < next.used.requests ||
			u.used.requests == next.used.requests && u.queue[0].turn < next.queue[0].turn {
			next = u
		}
	}
	return next
}

// admit admits the first request in the queue of u, and counts it in pool.
func (u *user) admit(pool *load) {
	w := u.queue[0]
	u.queue[0] = nil
	u.queue = u.queue[1:]
	w.pool = pool
	*pool, u.used = pool.plus(w.bytes), u.used.plus(w.bytes)
	close(w.ready)
}

func (g *gate) drop(uid uint32, u *user, w *waiter) {
	u.queue = slices.DeleteFunc(u.queue, func(x *waiter) bool { return x == w })
	g.forget(uid, u)
}

func (g *gate) forget(uid uint32, u *user) {
	if u.used.requests == 0 && len(u.queue) == 0 && g.users[uid] == u {
		delete(g.users, uid)
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
