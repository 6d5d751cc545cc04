// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Shutdown stops the server. Every request that reached the agent is answered:
//
//  1. Sockets that the agent made lose their name, and their queue is accepted. Inherited
//     sockets are not accepted from any more: their queue is for the next agent.
//  2. Connections without a request are told that none will be read. One in the middle of
//     a request is answered first, and ends with that answer.
//  3. When ctx ends, the remaining connections are cut off. The error has their number.
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
		// is drained.
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
