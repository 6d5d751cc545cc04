// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Shutdown stops so that no request that reached the agent goes unanswered:
//
//  1. Own sockets lose their name; what is in their queue is accepted. Inherited ones
//     are only no longer accepted from: their queue is for the agent that comes next.
//  2. Connections without a request are told that none will be read. One that is in
//     the middle of a request is answered first, and that answer ends it.
//  3. Once ctx ends, what is left is cut off, and its number is in the error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining.Store(true)
	listeners := s.listeners
	s.mu.Unlock()
	var errs []error
	for _, l := range listeners {
		errs = append(errs, l.drain())
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		// In this order: the last connection of a queue is counted before its listener
		// calls itself drained.
		queues := allDrained(listeners)
		left := s.conns.drain()
		if left == 0 && queues {
			break
		}
		select {
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("stop serving: %d connections were cut off: %w", left, ctx.Err()))
			return errors.Join(append(errs, s.http.Close())...)
		case <-tick.C:
		}
	}
	return errors.Join(append(errs, s.http.Close())...)
}

func allDrained(listeners []*listener) bool {
	for _, l := range listeners {
		if !l.drained.Load() {
			return false
		}
	}
	return true
}
