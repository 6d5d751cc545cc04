// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/metrics"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// codeOK stands for the code of a request that was not refused.
const codeOK api.Code = "ok"

// counts are what happened on one socket since the agent started. Nothing is counted by uid:
// each uid would be a name in memory for ever, and in every answer.
type counts struct {
	shed      atomic.Uint64 // connections of users who opened them too fast
	throttled atomic.Uint64 // requests of users who asked too often

	mu       sync.Mutex // guards the two below
	requests map[outcome]uint64
	turned   map[api.Code]uint64 // connections that were refused otherwise
}

// outcome is a kind of request and its result. Both are words of this program.
type outcome struct {
	class turn.Class
	code  api.Code
}

func (c *counts) request(class turn.Class, code api.Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[outcome{class, code}]++
}

// turnAway refuses a connection, and counts that.
func (s *shares) turnAway(c *net.UnixConn, p *api.Problem) {
	s.counts.mu.Lock()
	s.counts.turned[p.Code]++
	s.counts.mu.Unlock()
	s.conns.turnAway(c, p)
}

// metricsText is the answer of GET /v1/metrics.
type metricsText struct {
	text  []byte
	media string
}

// metrics returns what the agent counts: on the client socket, only what each user may know of
// all others. Requests and limits tell what others do, so they are for the administrator.
func (s *Server) metrics(c *call, _ api.None) (job, error) {
	format, media := metrics.Prometheus, api.MetricsType
	if strings.Contains(c.accept, "application/openmetrics-text") { // as Prometheus asks, which also reads the other one
		format, media = metrics.OpenMetrics, api.OpenMetricsType
	}
	bytes := int64(small)
	if c.socket == Admin {
		bytes = ofMetrics
	}
	return job{bytes: bytes, run: func(context.Context) (any, error) {
		var set metrics.Set
		s.Config.Shared.Metrics(&set)
		if c.socket == Admin {
			s.Config.Metrics.Metrics(&set)
			for _, socket := range []Socket{Client, Admin} {
				s.shares[socket].metrics(&set, metrics.Label{Name: "socket", Value: string(socket)})
			}
		}
		return metricsText{set.Text(format), media}, nil
	}}, nil
}

// metrics adds the figures of one socket.
func (s *shares) metrics(to *metrics.Set, socket metrics.Label) {
	l := s.limits
	s.counts.metrics(to, socket)
	gate, bodies := s.gate.Stats(), s.bodies.Stats()
	gate.Metrics(to, "answers", socket)
	bodies.Metrics(to, "bodies", socket)
	processors := s.processors.Stats()
	processors.Metrics(to, "processors", socket)
	identifying := s.identifying.Stats()
	identifying.Metrics(to, "identifying", socket)
	open, most, evicted := s.conns.counts()
	to.Counter("agentd_connections_evicted", "Connections without a request that gave way to another one.", float64(evicted), socket)
	refused := s.counts.refused()
	busy, _ := gate.Refused()
	busyBodies, leftBodies := bodies.Refused()
	for _, x := range []struct {
		name    string
		value   float64
		used    float64 // negative if nothing is in use
		refused uint64
	}{
		{"connections", float64(l.Connections), float64(open), refused},
		{"connections_per_user", float64(l.ConnectionsEach), float64(most), refused},
		{"connections_per_second_per_user", l.OpenEach, -1, s.counts.shed.Load()},
		{"requests", float64(l.Requests), float64(gate.Active), 0},
		{"requests_per_user", float64(l.RequestsEach), -1, 0},
		{"requests_per_second_per_user", l.RateEach, -1, s.counts.throttled.Load()},
		{"waiting_per_user", float64(l.WaitingEach), float64(max(gate.Longest, bodies.Longest)), busy + busyBodies},
		{"answer_bytes", float64(l.Bytes), float64(gate.Used), 0},
		{"answer_bytes_per_user", float64(l.BytesEach), -1, 0},
		{"body_bytes", float64(l.BodyBytes), float64(bodies.Used), leftBodies},
	} {
		Limit(to, x.name, x.value, x.used, x.refused, socket)
	}
}

// Limit adds the figures of one limit of the configuration, named by its key. A negative used
// says that nothing is counted as in use.
func Limit(to *metrics.Set, key string, value, used float64, refused uint64, labels ...metrics.Label) {
	of := append([]metrics.Label{{Name: "limit", Value: key}}, labels...)
	to.Gauge("agentd_limit", "Value of a limit, by its key in [limits] of config.toml.", value, of...)
	if used >= 0 {
		to.Gauge("agentd_limit_used", "How much of a limit is in use; of a limit for each user, by the user with the most.", used, of...)
	}
	to.Counter("agentd_limit_refused", "What was refused because of a limit. What waits is in agentd_turn_waiting.", float64(refused), of...)
}

func newCounts() *counts {
	return &counts{requests: make(map[outcome]uint64), turned: make(map[api.Code]uint64)}
}

// refused returns how many connections were refused because there were too many.
func (c *counts) refused() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.turned[api.CodeConnections]
}

func (c *counts) metrics(to *metrics.Set, socket metrics.Label) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range sortedBy(c.requests, func(a, b outcome) int { return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.code, b.code)) }) {
		to.Counter("agentd_requests", "Requests, by class of the route and code of the answer (docs/api.md).", float64(c.requests[o]),
			socket, metrics.Label{Name: "class", Value: o.class.String()}, metrics.Label{Name: "code", Value: string(o.code)})
	}
	for _, code := range sortedBy(c.turned, cmp.Compare) {
		to.Counter("agentd_connections_refused", "Connections that were refused, by code.", float64(c.turned[code]), socket, metrics.Label{Name: "code", Value: string(code)})
	}
}

func sortedBy[K comparable](m map[K]uint64, compare func(a, b K) int) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compare)
	return keys
}

// counts returns how many connections are open, how many of them the user with the most has, and
// how many gave way to another one since the start.
func (t *connections) counts() (open, most int, evicted uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.users {
		most = max(most, n)
	}
	return t.counted, most, t.evicted
}
