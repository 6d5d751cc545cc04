// SPDX-License-Identifier: Apache-2.0

package test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collected is what a collector of traces got.
type collected struct {
	url string

	mu    sync.Mutex
	spans []*trace.Span // with mu
	raw   []byte        // with mu
}

func collect(t *testing.T) *collected {
	t.Helper()
	c := new(collected)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		var q collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(b, &q)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw = append(c.raw, b...)
		for _, x := range q.ResourceSpans {
			for _, y := range x.ScopeSpans {
				c.spans = append(c.spans, y.Spans...)
			}
		}
	}))
	t.Cleanup(s.Close)
	c.url = s.URL + "/v1/traces"
	return c
}

// request returns the traces of requests of a name.
func (c *collected) requests(name string) (all []*trace.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.Name == name && len(s.ParentSpanId) == 0 {
			all = append(all, s)
		}
	}
	return all
}

// parts are the names of what is directly below a span.
func (c *collected) parts(of *trace.Span) (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if string(s.ParentSpanId) == string(of.SpanId) && string(s.TraceId) == string(of.TraceId) {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return names
}

func said(s *trace.Span) map[string]string {
	out := map[string]string{}
	for _, a := range s.Attributes {
		out[a.Key] = a.Value.GetStringValue()
		if a.Value.GetStringValue() == "" {
			out[a.Key] = fmt.Sprint(a.Value.GetIntValue())
		}
	}
	return out
}

const (
	clientTrace = "0af7651916cd43dd8448eb211c80319c"
	canary      = "canary-of-the-client"
)

// send asks for an appraisal as a client that has traces of its own.
func (w *worker) send(nonce []byte) {
	w.t.Helper()
	r, err := http.NewRequest("POST", w.url+"/v1/appraisals", strings.NewReader(string(evidence(w.t, nonce, nil))))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("traceparent", "00-"+clientTrace+"-b7ad6b7169203331-01")
	r.Header.Set("tracestate", "x="+canary)
	r.Header.Set("User-Agent", canary)
	answer, err := w.client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 200 {
		w.t.Fatalf("%s", answer.Status)
	}
}

// TestTraces: a collector learns what a request did, in a trace of its own, and nothing that the client
// wrote.
func TestTraces(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		c := collect(t)
		b.tracing = fmt.Sprintf("endpoint = %q\npercent = 100\n", c.url)
		w := b.start("one")
		w.put(b.alice(), "default", easy, "", nil)
		nonce := w.challenge("")
		w.send(nonce)
		if code, err := ask(w.client, "POST", w.url+"/p/"+canary+"/v1/challenges", nil, nil); err != nil || code != 404 {
			t.Errorf("%d, %v", code, err)
		}
		w.Process.Signal(t, syscall.SIGTERM) // it sends the last traces before it ends
		if err := w.Process.Wait(t); err != nil {
			t.Fatalf("%v\n%s", err, w.Output())
		}
		for name, want := range map[string]struct {
			said  map[string]string
			parts []string
		}{
			"/v1/challenges":                {map[string]string{"agentd.policy": "default", "http.response.status_code": "200"}, []string{"ask which policy is in force", "keep a challenge", "read a policy"}},
			"/v1/appraisals":                {map[string]string{"agentd.policy": "default", "agentd.verdict": "pass", "http.response.status_code": "200"}, []string{"append a record", "ask which policy is in force", "read a known log", "take a challenge"}},
			"PUT /admin/v1/policies/{name}": {map[string]string{"http.response.status_code": "200"}, []string{"put a policy"}},
		} {
			all := c.requests(name)
			if len(all) == 0 {
				t.Errorf("%s: no trace", name)
				continue
			}
			s := all[0]
			if got := said(s); fmt.Sprint(got) != fmt.Sprint(want.said) {
				t.Errorf("%s: %v, want %v", name, got, want.said)
			}
			if got := c.parts(s); !slices.Equal(got, want.parts) {
				t.Errorf("%s: %q, want %q", name, got, want.parts)
			}
			if name == "/v1/appraisals" && (len(s.Links) != 1 || hex.EncodeToString(s.Links[0].TraceId) != clientTrace || hex.EncodeToString(s.TraceId) == clientTrace) {
				t.Errorf("the trace of the client: %v, in %x", s.Links, s.TraceId)
			}
		}
		if refused := c.requests("/v1/challenges"); len(refused) != 2 || said(refused[1])["http.response.status_code"] != "404" || said(refused[1])["agentd.policy"] != "" {
			t.Errorf("of a policy that is not there: %v", refused)
		}
		for _, s := range []string{canary, string(nonce), hex.EncodeToString(nonce), base64.StdEncoding.EncodeToString(nonce), "user", "alice"} {
			if strings.Contains(string(c.raw), s) {
				t.Errorf("traces contain %q", s)
			}
		}
	})
}

// TestFewTraces: a client that asks to be traced is not for that.
func TestFewTraces(t *testing.T) {
	b := newBed(t, false)
	c := collect(t)
	b.tracing = fmt.Sprintf("endpoint = %q\npercent = 0\n", c.url)
	w := b.start("one")
	w.put(b.alice(), "default", easy, "", nil)
	w.send(w.challenge(""))
	if err := w.Process.Stop(t); err != nil {
		t.Error(err)
	}
	if len(c.spans) != 0 {
		t.Errorf("%v", c.spans)
	}
}

// TestCollectorAway: a collector that is away, or takes nothing, costs its traces, and one line in the
// log.
func TestCollectorAway(t *testing.T) {
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }))
	t.Cleanup(refuses.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	for name, url := range map[string]string{"refuses": refuses.URL, "away": gone.URL} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, false)
			b.tracing = fmt.Sprintf("endpoint = %q\npercent = 100\n", url+"/v1/traces")
			w := b.start("one")
			w.put(b.alice(), "default", easy, "", nil)
			for range 20 {
				w.send(w.challenge(""))
			}
			if err := w.Process.Stop(t); err != nil {
				t.Errorf("%v\n%s", err, w.Output())
			}
			if n := strings.Count(w.Output(), "does not take them"); n < 1 || n > 2 {
				t.Errorf("%d lines\n%s", n, w.Output())
			}
		})
	}
}
