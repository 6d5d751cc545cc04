// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// stranger is an Identifier that takes each connection for one of a user whom it is told, and identifies
// one when it may.
type stranger struct {
	mu         sync.Mutex
	next       []uint32 // whom the connections are of, in the order in which they come
	of         map[*net.UnixConn]uint32
	may        chan struct{}
	identified []uint32
}

func (s *stranger) UID(c *net.UnixConn) (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	uid := s.next[0]
	s.next = s.next[1:]
	s.of[c] = uid
	return uid, nil
}

func (s *stranger) Identify(c *net.UnixConn) (*caller.Peer, error) {
	<-s.may
	s.mu.Lock()
	defer s.mu.Unlock()
	s.identified = append(s.identified, s.of[c])
	return nil, errors.New("it is not known") // so that it is turned away
}

// TestUsersAreIdentifiedInTurn: of connections that wait to be identified, a user's only one is next,
// however many another user has, who came before.
func TestUsersAreIdentifiedInTurn(t *testing.T) {
	const many = 20
	who := &stranger{of: map[*net.UnixConn]uint32{}, may: make(chan struct{})}
	who.next = append(slices.Repeat([]uint32{1}, many), 2, 3)
	r := run(t, &fake{}, Limits{}, func(c *Config) { c.Identifier = who })
	for range many + 2 {
		c, err := net.Dial("unix", r.client)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	waiting := func() int { return r.shares[Client].identifying.Stats().Waiting[turn.Inquiry] }
	eventually(t, "all but one wait", func() bool { return waiting() == many+1 })
	for range many + 2 {
		who.may <- struct{}{}
	}
	eventually(t, "all are identified", func() bool { return r.shares[Client].identifying.Used() == 0 && waiting() == 0 })
	who.mu.Lock()
	defer who.mu.Unlock()
	if got := who.identified[:4]; slices.Index(got, 2) < 0 || slices.Index(got, 3) < 0 {
		t.Errorf("the first are of %v, want each of the other users among them", got)
	}
}

// TestUnidentifiedEnd: a server that shuts down identifies all that wait for it.
func TestUnidentifiedEnd(t *testing.T) {
	who := &stranger{of: map[*net.UnixConn]uint32{}, may: make(chan struct{}), next: slices.Repeat([]uint32{1}, 8)}
	r := run(t, &fake{}, Limits{}, func(c *Config) { c.Identifier = who })
	for range 8 {
		c, err := net.Dial("unix", r.client)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	eventually(t, "all but one wait", func() bool { return r.shares[Client].identifying.Stats().Waiting[turn.Inquiry] == 7 })
	done := make(chan error)
	go func() { done <- r.Shutdown(t.Context()) }()
	for range 8 {
		who.may <- struct{}{}
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	if n := len(who.identified); n != 8 {
		t.Errorf("%d are identified, want 8: each gets an answer", n)
	}
}
