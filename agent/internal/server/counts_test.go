// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/metrics/metricstest"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// scrape reads the metrics as an administrator.
func scrape(t *testing.T, r *running) (text string, samples map[string]float64) {
	t.Helper()
	c := as(r.admin, 1000)
	defer c.CloseIdleConnections()
	answer, err := c.Get("http://agentd" + api.CallMetrics.Path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if got := answer.Header.Get("Content-Type"); answer.StatusCode != http.StatusOK || got != api.MetricsType {
		t.Fatalf("status %d, type %q", answer.StatusCode, got)
	}
	if samples, err = metricstest.Parse(b); err != nil {
		t.Fatal(err)
	}
	return string(b), samples
}

// Each request and each refusal is counted once, by class and code, and by its limit. What a
// client sends is in no name and no label, and neither is its uid.
func TestCounts(t *testing.T) {
	r := run(t, &fake{}, Limits{Connections: 3, ConnectionsEach: 2, RateEach: 1e-4, BurstEach: 5, OpenEach: 1e-4, OpenBurst: 4}, nil)
	const uid = 424242
	c := as(r.client, uid)
	for _, x := range []struct {
		method, target, body string
		want                 int
	}{
		{"POST", api.CallEvidence.Path, nonceBody(1), 200},
		{"POST", api.CallEvidence.Path, nonceBody(2), 200},
		{"POST", api.CallEvidence.Path, "{", 400},
		{"GET", "/v1/planted", "", 404},
		{"GET", api.CallApps.Path, "", 403},
		{"GET", api.CallSelf.Path, "", 429}, // beyond the burst
	} {
		if status, b, _ := ask(t, c, x.method, x.target, x.body); status != x.want {
			t.Fatalf("%s %s: %d %s, want %d", x.method, x.target, status, b, x.want)
		}
	}
	c.CloseIdleConnections()
	eventually(t, "the connection is over", func() bool { open, _, _ := r.shares[Client].conns.counts(); return open == 0 })
	for range 3 { // the last one gives way to none: it replaces the first
		x, err := dial(r.client, uid)
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
	}
	eventually(t, "one gave way", func() bool { _, _, evicted := r.shares[Client].conns.counts(); return evicted == 1 })
	shed, err := dial(r.client, uid) // the fifth connection: beyond the burst
	if err != nil {
		t.Fatal(err)
	}
	defer shed.Close()
	eventually(t, "it is shed", func() bool { return r.shares[Client].counts.shed.Load() == 1 })
	if _, err := dial(r.admin, uid); err != nil { // may not use it
		t.Fatal(err)
	}
	eventually(t, "it is refused", func() bool {
		r.shares[Admin].counts.mu.Lock()
		defer r.shares[Admin].counts.mu.Unlock()
		return r.shares[Admin].counts.turned[api.CodeNotPermitted] == 1
	})

	if status, _, _ := ask(t, as(r.admin, 1000), "GET", api.CallApps.Path, ""); status != http.StatusOK {
		t.Fatal(status)
	}
	eventually(t, "that request is counted", func() bool { // after its answer was written
		r.shares[Admin].counts.mu.Lock()
		defer r.shares[Admin].counts.mu.Unlock()
		return r.shares[Admin].counts.requests[outcome{turn.Admin, codeOK}] == 1
	})
	text, samples := scrape(t, r)
	for name, want := range map[string]float64{
		`fake`: 7, `shared`: 8,
		`agentd_requests_total{socket="client",class="evidence",code="ok"}`:                   2,
		`agentd_requests_total{socket="client",class="evidence",code="malformed-json"}`:       1,
		`agentd_requests_total{socket="client",class="inquiry",code="no-such-path"}`:          1,
		`agentd_requests_total{socket="client",class="inquiry",code="not-permitted"}`:         1,
		`agentd_requests_total{socket="client",class="inquiry",code="throttled"}`:             1,
		`agentd_requests_total{socket="admin",class="admin",code="ok"}`:                       1, // of the request before
		`agentd_connections_refused_total{socket="admin",code="not-permitted"}`:               1,
		`agentd_connections_evicted_total{socket="client"}`:                                   1,
		`agentd_limit{limit="connections",socket="client"}`:                                   3,
		`agentd_limit{limit="connections",socket="admin"}`:                                    adminConnections,
		`agentd_limit_used{limit="connections",socket="client"}`:                              2,
		`agentd_limit_used{limit="connections_per_user",socket="client"}`:                     2,
		`agentd_limit_used{limit="connections",socket="admin"}`:                               2,
		`agentd_limit_used{limit="requests",socket="admin"}`:                                  1,
		`agentd_limit_refused_total{limit="connections_per_second_per_user",socket="client"}`: 1,
		`agentd_limit_refused_total{limit="requests_per_second_per_user",socket="client"}`:    1,
		`agentd_limit_refused_total{limit="requests_per_second_per_user",socket="admin"}`:     0,
		`agentd_turn_granted_total{resource="answers",socket="client",class="evidence"}`:      2,
		`agentd_turn_active{resource="answers",socket="client"}`:                              0,
		`agentd_turn_capacity{resource="answers",socket="client"}`:                            (256 + 32) << 20,
		`agentd_turn_capacity{resource="bodies",socket="admin"}`:                              8 << 20,
		`agentd_limit{limit="requests_per_second_per_user",socket="client"}`:                  1e-4,
	} {
		if got, there := samples[name]; !there || got != want {
			t.Errorf("%s is %v (%v), want %v", name, got, there, want)
		}
	}
	for _, word := range []string{"424242", "planted", "uid", "billing"} {
		if strings.Contains(text, word) {
			t.Errorf("the metrics contain %q", word)
		}
	}
	// Another user learns nothing of all this.
	if status, b, _ := ask(t, as(r.client, 1001), "GET", api.CallMetrics.Path, ""); status != http.StatusOK || string(b) != "# HELP shared For each user.\n# TYPE shared gauge\nshared 8\n" {
		t.Errorf("on the client socket: status %d, %q", status, b)
	}
}

// Prometheus says which formats it reads, and gets OpenMetrics if that is one of them.
func TestMetricsFormat(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	c := as(r.client, 1000)
	defer c.CloseIdleConnections()
	const plain, open = "# HELP shared For each user.\n# TYPE shared gauge\nshared 8\n", "application/openmetrics-text"
	for accept, want := range map[string][2]string{
		"":           {api.MetricsType, plain},
		"*/*":        {api.MetricsType, plain},
		"text/plain": {api.MetricsType, plain},
		open + ";version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1": {api.OpenMetricsType, plain + "# EOF\n"},
	} {
		request, err := http.NewRequest("GET", "http://agentd"+api.CallMetrics.Path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if request.Header.Set("Accept", accept); accept == "" {
			request.Header.Del("Accept")
		}
		answer, err := c.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(answer.Body)
		if err := errors.Join(err, answer.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if got := [2]string{answer.Header.Get("Content-Type"), string(b)}; got != want {
			t.Errorf("accept %q: %q, want %q", accept, got, want)
		}
	}
}
