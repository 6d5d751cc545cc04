// SPDX-License-Identifier: Apache-2.0

package server

import "time"

// patience is how long a test waits for what must come, and a server under test for
// its clients: it ends only a test that fails.
const patience = 2 * time.Minute

// newPatient is [New] with times that a client which gets no processor for seconds
// does not run into. Those that a test sets stay.
func newPatient(c Config) *Server {
	after := func(p *time.Duration) {
		if *p <= 0 {
			*p = patience
		}
	}
	after(&c.Limits.HeaderTimeout)
	after(&c.Limits.BodyTimeout)
	after(&c.Limits.IdleTimeout)
	after(&c.Limits.WriteTimeout)
	if c.Limits.Patience <= 0 {
		c.Limits.Patience = 10
	}
	s := New(c)
	s.shares[Client].conns.patience = patience
	return s
}
