// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/internal/metrics"
	"github.com/cvm-agentd/agentd/internal/version"
	"github.com/cvm-agentd/agentd/relying"
)

// figures are what a worker counts.
type figures struct {
	mu       sync.Mutex
	requests map[[2]string]float64 // by path and status; with mu
	verdicts map[[2]string]float64 // by policy and verdict; with mu
	times    map[string]*metrics.Histogram
	faults   float64
}

// maxVerdicts is how many pairs of a policy and a verdict have figures of their own.
const maxVerdicts = 200

func (f *figures) answered(path string, code int, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.requests == nil {
		f.requests, f.times = map[[2]string]float64{}, map[string]*metrics.Histogram{}
	}
	f.requests[[2]string{path, strconv.Itoa(code)}]++
	h := f.times[path]
	if h == nil {
		h = metrics.NewHistogram(metrics.Seconds...)
		f.times[path] = h
	}
	h.Observe(took.Seconds())
}

// appraised counts a record, and returns the verdict that it is counted under.
func (f *figures) appraised(policy string, r *relying.Record) (verdict string) {
	verdict = string(r.Appraisal.Verdict)
	if r.Code != "" {
		verdict = string(r.Code)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.verdicts == nil {
		f.verdicts = map[[2]string]float64{}
	}
	key := [2]string{policy, verdict}
	if _, known := f.verdicts[key]; !known && len(f.verdicts) >= maxVerdicts {
		key[0] = "others"
	}
	f.verdicts[key]++
	return verdict
}

func (f *figures) fault() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults++
}

// Metrics adds the figures to a set.
func (f *figures) Metrics(s *metrics.Set) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range sorted(f.requests) {
		s.Counter("agentd_verifier_requests", "Requests of clients that were answered.", f.requests[k], metrics.Label{Name: "path", Value: k[0]}, metrics.Label{Name: "status", Value: k[1]})
	}
	for _, path := range slices.Sorted(maps.Keys(f.times)) {
		s.Histogram("agentd_verifier_request_seconds", "Time from a request to its answer.", f.times[path], metrics.Label{Name: "path", Value: path})
	}
	for _, k := range sorted(f.verdicts) {
		s.Counter("agentd_verifier_appraisals", "Appraisals that were recorded.", f.verdicts[k], metrics.Label{Name: "policy", Value: k[0]}, metrics.Label{Name: "verdict", Value: k[1]})
	}
	s.Counter("agentd_verifier_faults", "Faults of the service, which its log names.", f.faults)
}

func sorted(m map[[2]string]float64) [][2]string {
	return slices.SortedFunc(maps.Keys(m), func(a, b [2]string) int {
		return strings.Compare(a[0]+"\x00"+a[1], b[0]+"\x00"+b[1])
	})
}

// monitoring answers with the figures.
func (w *Worker) monitoring(out http.ResponseWriter, r *http.Request) {
	s := new(metrics.Set)
	w.figures.Metrics(s)
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	h, err := w.store.Head(ctx)
	s.Flag("agentd_verifier_database_up", "Whether the database answers.", err == nil)
	if err == nil {
		s.Gauge("agentd_verifier_records", "Records in the chain, of all workers.", float64(h.Sequence))
	}
	s.Gauge("agentd_verifier_appraisals_running", "Requests for appraisals that are read or appraised at the moment.", float64(w.now().shares.Busy()))
	s.Flag("agentd_verifier_draining", "Whether the worker is about to end.", w.draining.Load())
	s.Gauge("agentd_verifier_build_info", "Version of the program.", 1, metrics.Label{Name: "version", Value: version.Version})
	head(out, "text/plain; version=0.0.4; charset=utf-8")
	_, _ = out.Write(s.Text(metrics.Prometheus)) // the client is gone
}
