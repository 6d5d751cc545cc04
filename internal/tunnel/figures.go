// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/internal/metrics"
)

// figures are what an end counts.
type figures struct {
	up, down  atomic.Uint64 // bytes
	exchanges *metrics.Histogram

	mu       sync.Mutex // guards the four below
	ended    map[Result]uint64
	refusals map[refusal]uint64
	warned   map[attestedtls.Code]uint64
	reloads  map[bool]uint64 // whether the new settings came into force
}

// refusal is what refusals are counted by.
type refusal struct {
	code  attestedtls.Code
	other bool // the other end refused
}

func newFigures() *figures {
	return &figures{
		exchanges: metrics.NewHistogram(metrics.Seconds...),
		ended:     map[Result]uint64{}, refusals: map[refusal]uint64{}, warned: map[attestedtls.Code]uint64{}, reloads: map[bool]uint64{},
	}
}

// note counts a connection that ended.
func (f *figures) note(r *Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended[r.Result]++
	switch {
	case r.Result == Refused || r.Result == Withdrawn:
		code := r.Code
		if !slices.ContainsFunc(attestedtls.Codes(), func(c attestedtls.CodeInfo) bool { return c.Code == code }) {
			code = "other" // what the other end sends does not make series
		}
		f.refusals[refusal{code, r.Other}]++
	case r.Verdict == verdictWarned:
		f.warned[r.Code]++
	}
}

// reloaded counts a reload.
func (f *figures) reloaded(worked bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reloads[worked]++
}

// words are the labels of a flag.
var words = map[bool][2]string{false: {"this", "kept"}, true: {"other", "replaced"}}

// metrics adds what is counted.
func (t *tunnel) metrics(s *metrics.Set) {
	f := t.figures
	t.mu.Lock()
	open := t.open
	t.mu.Unlock()
	s.Gauge("agentd_tunnel_connections", "Connections that are open.", float64(open))
	s.Gauge("agentd_tunnel_connections_limit", "Connections that may be open.", float64(t.now.Load().Limits.Connections))
	s.Counter("agentd_tunnel_bytes", "Bytes that passed.", float64(f.up.Load()), metrics.Label{Name: "direction", Value: "up"})
	s.Counter("agentd_tunnel_bytes", "Bytes that passed.", float64(f.down.Load()), metrics.Label{Name: "direction", Value: "down"})
	s.Counter("agentd_tunnel_access_lines_lost", "Lines of the access log that could not be written.", float64(t.access.lost.Load()))
	s.Histogram("agentd_tunnel_exchange_seconds", "Time until a connection was attested.", f.exchanges)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range []Result{Closed, Broken, Idle, Stopped, Withdrawn, Refused, Unreachable, Web, Limited} {
		s.Counter("agentd_tunnel_connections_ended", "Connections that ended, by what became of them.", float64(f.ended[r]), metrics.Label{Name: "result", Value: string(r)})
	}
	for _, k := range slices.SortedFunc(maps.Keys(f.refusals), func(a, b refusal) int {
		return strings.Compare(string(a.code)+words[a.other][0], string(b.code)+words[b.other][0])
	}) {
		s.Counter("agentd_tunnel_refusals", "Connections that an end refused, by code and end.", float64(f.refusals[k]),
			metrics.Label{Name: "code", Value: string(k.code)}, metrics.Label{Name: "end", Value: words[k.other][0]})
	}
	for _, c := range slices.Sorted(maps.Keys(f.warned)) {
		s.Counter("agentd_tunnel_warned", "Connections that passed though the policy refuses them, by code.", float64(f.warned[c]), metrics.Label{Name: "code", Value: string(c)})
	}
	for _, worked := range []bool{false, true} {
		s.Counter("agentd_tunnel_reloads", "Reloads, by whether new settings came into force.", float64(f.reloads[worked]), metrics.Label{Name: "settings", Value: words[worked][1]})
	}
}

// Limits of the server of metrics: monitoring asks once every few seconds.
const (
	figuresTime   = 5 * time.Second
	figuresHeader = 8 << 10 // bytes
	figuresAtOnce = 8       // connections
)

// serveFigures answers GET /metrics on l, until the result is called.
func (t *tunnel) serveFigures(l net.Listener) (stop func()) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		format, media := metrics.Prometheus, api.MetricsType
		if strings.Contains(r.Header.Get("Accept"), "application/openmetrics-text") { // as Prometheus asks, which also reads the other one
			format, media = metrics.OpenMetrics, api.OpenMetricsType
		}
		var set metrics.Set
		t.metrics(&set)
		w.Header().Set("Content-Type", media)
		w.Write(set.Text(format))
	})
	s := &http.Server{
		Handler: mux, ReadTimeout: figuresTime, WriteTimeout: figuresTime, IdleTimeout: figuresTime, MaxHeaderBytes: figuresHeader,
		ErrorLog: silent,
	}
	go s.Serve(&few{Listener: l, places: make(chan struct{}, figuresAtOnce)})
	return func() { s.Close() }
}
