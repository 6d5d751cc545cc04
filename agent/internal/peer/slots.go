// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"sync"
)

// slots bounds how many goroutines work at once, in all and for one user, so that a
// user whose files never answer holds up nobody else.
type slots struct {
	all    chan struct{}
	each   int
	mu     sync.Mutex
	owners map[uint32]*owner
}

type owner struct {
	held chan struct{}
	refs int // those that hold or wait; at none the entry is dropped
}

func newSlots(all, each int) *slots {
	return &slots{all: make(chan struct{}, all), each: each, owners: map[uint32]*owner{}}
}

// take waits for a slot of uid, then for one of all.
func (s *slots) take(ctx context.Context, uid uint32) (release func(), err error) {
	s.mu.Lock()
	o := s.owners[uid]
	if o == nil {
		o = &owner{held: make(chan struct{}, s.each)}
		s.owners[uid] = o
	}
	o.refs++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		if o.refs--; o.refs == 0 {
			delete(s.owners, uid)
		}
		s.mu.Unlock()
	}
	select {
	case o.held <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
	select {
	case s.all <- struct{}{}:
	case <-ctx.Done():
		<-o.held
		leave()
		return nil, ctx.Err()
	}
	return func() { <-s.all; <-o.held; leave() }, nil
}
