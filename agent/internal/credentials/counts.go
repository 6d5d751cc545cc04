// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/metrics"
)

// counts are what became of connections since the agent started. Nothing is counted by unit or by
// name: an address is a claim, and each claim would be a name in memory for ever.
type counts struct {
	mu      sync.Mutex // guards the two below
	given   map[Kind]uint64
	refused map[refusedFor]uint64
}

// refusedFor is a kind of refusal. Both are words of this program.
type refusedFor struct {
	kind Kind // empty if the address says neither
	code api.Code
}

func newCounts() *counts {
	return &counts{given: map[Kind]uint64{}, refused: map[refusedFor]uint64{}}
}

func (c *counts) gave(k Kind) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.given[k]++
}

func (c *counts) refuse(k Kind, code api.Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[refusedFor{k, code}]++
}

// Counts returns how many answers were handed out, and how many connections were refused.
func (s *Server) Counts() (given, refused uint64) {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	for _, n := range s.counts.given {
		given += n
	}
	for _, n := range s.counts.refused {
		refused += n
	}
	return given, refused
}

// Metrics adds these figures. They tell what units of others do, so they are for administrators.
func (s *Server) Metrics(to *metrics.Set) {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	for _, k := range []Kind{Credential, Volume} {
		to.Counter("agentd_credentials_given", "Credentials of units and keys of volumes that were handed to systemd.", float64(s.counts.given[k]), metrics.Label{Name: "kind", Value: string(k)})
	}
	order := func(a, b refusedFor) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.code, b.code)) }
	for _, x := range slices.SortedFunc(maps.Keys(s.counts.refused), order) {
		to.Counter("agentd_credentials_refused", "Connections for them that were refused, by the code of the refusal (docs/api.md).", float64(s.counts.refused[x]),
			metrics.Label{Name: "kind", Value: cmp.Or(string(x.kind), "unknown")}, metrics.Label{Name: "code", Value: string(x.code)})
	}
}
