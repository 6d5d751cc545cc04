// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// slots bounds how many goroutines work at once, in all and for one user, so that a user
// whose files never answer delays no other user.
type slots struct {
	all  *semaphore.Weighted
	each int64

	mu     sync.Mutex // guards owners, and the refs of each
	owners map[uint32]*owner
}

// owner is one user's share of the slots.
type owner struct {
	own  *semaphore.Weighted
	refs int // goroutines that work or wait; at none the entry is dropped
}

func newSlots(all, each int64) *slots {
	return &slots{all: semaphore.NewWeighted(all), each: each, owners: map[uint32]*owner{}}
}

// take waits for a slot of uid, then for one of all.
func (s *slots) take(ctx context.Context, uid uint32) (release func(), err error) {
	s.mu.Lock()
	o := s.owners[uid]
	if o == nil {
		o = &owner{own: semaphore.NewWeighted(s.each)}
		s.owners[uid] = o
	}
	o.refs++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if o.refs--; o.refs == 0 {
			delete(s.owners, uid)
		}
	}
	if err := o.own.Acquire(ctx, 1); err != nil {
		leave()
		return nil, err
	}
	if err := s.all.Acquire(ctx, 1); err != nil {
		o.own.Release(1)
		leave()
		return nil, err
	}
	return func() { s.all.Release(1); o.own.Release(1); leave() }, nil
}
