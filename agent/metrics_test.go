// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/journal"
	"github.com/cvm-agentd/agentd/internal/metrics/metricstest"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// families returns the names of the families of metrics, and of samples by family.
func families(text string) (names []string) {
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+?)(?:_total)? `).FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}

// The figures of a whole agent: every limit of the configuration has some, so has every queue,
// and work shows in them. No secret, no name of a secret and no uid is in them.
func TestMetrics(t *testing.T) {
	w := newWhole(t, swtpm.Start(t))
	w.options.Log = slog.New(journal.WithoutRepeats(slog.NewTextHandler(io.Discard, nil)))
	w.options.AdminUIDs = []uint32{uint32(os.Getuid())}
	d, stop := w.start()
	defer stop()
	if err := w.seal(d, "name-of-a-secret"); err != nil {
		t.Fatal(err)
	}
	if err := w.evidence(d); err != nil {
		t.Fatal(err)
	}
	admin := &client.Admin{Socket: w.options.Config.Sockets.Admin}
	defer admin.Close()
	if _, err := admin.Measure(t.Context(), "billing"); err != nil {
		t.Fatal(err)
	}
	w.refusedCredential()
	if _, err := d.events.Emit(t.Context(), w.owner, "billing.service", api.EventRequest{Domain: "model", Content: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	b, err := admin.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	samples, err := metricstest.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for limit := range reflect.TypeFor[config.Limits]().Fields() {
		key := limit.Tag.Get("toml")
		if !strings.Contains(text, "\nagentd_limit{limit=\""+key+"\"") || !strings.Contains(text, "\nagentd_limit_refused_total{limit=\""+key+"\"") {
			t.Errorf("limits.%s has no figures", key)
		}
	}
	for _, resource := range []string{"answers", "bodies", "processors", "identifying", "tpm", "log", "platform", "store", "hashing", "events", "executables"} {
		if !strings.Contains(text, "\nagentd_turn_capacity{resource=\""+resource+"\"") {
			t.Errorf("the queue of %s has no figures", resource)
		}
	}
	for name, least := range map[string]float64{
		`agentd_build_info{version="test"}`:                                          1,
		`agentd_evidence_ready`:                                                      1,
		`agentd_apps{state="measured"}`:                                              1,
		`agentd_app_measured{app="billing"}`:                                         1,
		`agentd_app_bytes{app="billing"}`:                                            5,
		`agentd_app_events{app="billing"}`:                                           1,
		`agentd_app_event_bytes{app="billing"}`:                                      100,
		`agentd_app_events_refused_total{app="billing"}`:                             0,
		`agentd_events`:                                                              1,
		`agentd_event_bytes_limit`:                                                   1 << 22,
		`agentd_watch_ok`:                                                            1,
		`agentd_log_records`:                                                         3,
		`agentd_log_synchronised`:                                                    1,
		`agentd_limit{limit="log_bytes"}`:                                            1 << 24,
		`agentd_limit_used{limit="log_bytes"}`:                                       100,
		`agentd_tpm_ok`:                                                              1,
		`agentd_tpm_commands_total`:                                                  20,
		`agentd_platform_ok`:                                                         1,
		`agentd_platform_requests_total{kind="report"}`:                              1,
		`agentd_platform_requests_total{kind="key"}`:                                 1,
		`agentd_evidence_batches_total{lane="fresh"}`:                                1,
		`agentd_turn_granted_total{resource="store",class="keys"}`:                   1,
		`agentd_turn_granted_total{resource="log",class="ledger"}`:                   1,
		`agentd_turn_granted_total{resource="platform",class="evidence"}`:            1,
		`agentd_turn_granted_total{resource="answers",socket="admin",class="start"}`: 1,
		`agentd_requests_total{socket="admin",class="start",code="ok"}`:              1,
		`agentd_container_bytes_total{kind="read"}`:                                  0,
		`agentd_container_bytes_total{kind="kept"}`:                                  0,
		`agentd_credentials_given_total{kind="credential"}`:                          0,
		`agentd_credentials_refused_total{kind="unknown",code="not-systemd"}`:        1,
		`agentd_journal_records_total{level="info"}`:                                 1,
		`process_open_fds`:                                                           3,
		`process_resident_memory_bytes`:                                              1 << 20,
		`go_goroutines`:                                                              5,
		`agentd_keys_ok`:                                                             1,
		`agentd_sealed_blobs`:                                                        1,
		`agentd_evidence_batch_statements_sum{lane="fresh"}`:                         1,
		`agentd_evidence_batch_statements_bucket{lane="fresh",le="1.0"}`:             1,
		`agentd_quote_duration_seconds_count`:                                        1,
		`agentd_quote_duration_seconds_sum`:                                          1e-5,
		`agentd_report_duration_seconds_count`:                                       1,
	} {
		if got, there := samples[name]; !there || got < least {
			t.Errorf("%s is %v (%v), want at least %v", name, got, there, least)
		}
	}
	if got := samples[`agentd_platform_errors_total{kind="report"}`]; got != 0 {
		t.Errorf("%v reports failed", got)
	}
	for _, word := range []string{"name-of-a-secret", "secret", "uid"} {
		if strings.Contains(text, word) {
			t.Errorf("the metrics contain %q", word)
		}
	}

	// On the client socket is only what each user may know.
	user := &client.Client{Socket: w.options.Config.Sockets.Client}
	defer user.Close()
	if b, err = user.Metrics(t.Context()); err != nil {
		t.Fatal(err)
	}
	shared, err := metricstest.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	for name := range shared {
		if _, there := samples[name]; !there {
			t.Errorf("the client socket has %s, the admin socket does not", name)
		}
	}
	for _, word := range []string{"billing", "app=", "socket=", "class=", "code=", "agentd_requests", "agentd_limit", "agentd_turn", "process_", "go_", "journal", "credential"} {
		if strings.Contains(string(b), word) {
			t.Errorf("the metrics of the client socket contain %q", word)
		}
	}
	if len(shared) < 50 || shared["agentd_log_records"] < 3 {
		t.Errorf("the client socket has %d samples", len(shared))
	}

	// docs/operating.md has a row for each family, and for no other.
	doc, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "\n## Metrics\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var documented []string
	for _, m := range regexp.MustCompile("`((?:agentd|process|go)_[a-z_]+)`").FindAllStringSubmatch(section, -1) {
		documented = append(documented, strings.TrimSuffix(m[1], "_total"))
	}
	found := families(text)
	for _, name := range found {
		if !slices.Contains(documented, name) {
			t.Errorf("docs/operating.md does not describe %s", name)
		}
	}
	seldom := []string{"agentd_connections_refused", "agentd_app_reading_seconds", "agentd_metrics_dropped"} // only after what they count
	for _, name := range documented {
		if !slices.Contains(found, name) && !slices.Contains(seldom, name) {
			t.Errorf("docs/operating.md describes %s, which the agent does not have", name)
		}
	}
}

// refusedCredential asks for a credential without an address, as systemd never does.
func (w *whole) refusedCredential() {
	w.t.Helper()
	c, err := net.Dial("unix", w.options.Config.Sockets.CredentialsPath())
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	if b, err := io.ReadAll(c); err != nil || len(b) == 0 {
		w.t.Fatalf("%d bytes, %v", len(b), err)
	}
}

// TestScrapeCost: while programs ask for evidence, a scrape takes less time than one evidence.
// Medians, since both share the processors with all other work of this machine.
func TestScrapeCost(t *testing.T) {
	w := newWhole(t, swtpm.Start(t))
	w.options.AdminUIDs = []uint32{uint32(os.Getuid())}
	d, stop := w.start()
	defer stop()
	if err := w.evidence(d); err != nil {
		t.Fatal(err)
	}
	admin := &client.Admin{Socket: w.options.Config.Sockets.Admin}
	defer admin.Close()
	user := &client.Client{Socket: w.options.Config.Sockets.Client}
	defer user.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ask := func(ctx context.Context) error {
		nonce := make([]byte, 32)
		rand.Read(nonce)
		_, err := user.Evidence(ctx, api.EvidenceRequest{Nonce: nonce, Freshness: evidence.Anchored})
		return err
	}
	var load sync.WaitGroup
	defer load.Wait()
	defer cancel()
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				if err := ask(ctx); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	const tries = 31
	var scrapes, evidences []time.Duration
	for range tries {
		begin := time.Now()
		if _, err := admin.Metrics(ctx); err != nil {
			t.Fatal(err)
		}
		middle := time.Now()
		if err := ask(ctx); err != nil {
			t.Fatal(err)
		}
		scrapes, evidences = append(scrapes, middle.Sub(begin)), append(evidences, time.Since(middle))
	}
	slices.Sort(scrapes)
	slices.Sort(evidences)
	scrape, one := scrapes[tries/2], evidences[tries/2]
	t.Logf("scrape %v, evidence %v", scrape, one)
	if scrape >= one {
		t.Errorf("a scrape takes %v, an evidence %v", scrape, one)
	}
}
