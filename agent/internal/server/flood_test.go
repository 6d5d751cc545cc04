// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
)

// case 8: a thousand connections that never finish a request delay neither other users nor
// their own user.
func TestHalfOpen(t *testing.T) {
	// Nothing times out while the test runs: an answer that comes waited for no timeout.
	limits := Limits{
		Connections: 300, ConnectionsEach: 200,
		HeaderTimeout: time.Hour, BodyTimeout: time.Hour, IdleTimeout: time.Hour,
	}
	for name, first := range map[string]string{
		"nothing":    "",
		"half":       "POST /v1/evidence HTTP/1.1\r\nHost: a\r\n",
		"no body":    "POST /v1/evidence HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n",
		"idle after": "GET /v1/self HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, &fake{}, limits, nil)
			for range 1000 {
				c, err := dial(r.client, 1000)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				io.WriteString(c, first)
			}
			for _, uid := range []uint32{1001, 1000} {
				c := as(r.client, uid)
				c.Timeout = patience
				if status, b, _ := ask(t, c, "POST", api.CallEvidence.Path, nonceBody(1)); status != 200 {
					t.Errorf("uid %d: %d %s", uid, status, b)
				}
			}
			r.shares[Client].conns.mu.Lock()
			defer r.shares[Client].conns.mu.Unlock()
			if r.shares[Client].conns.counted > limits.ConnectionsEach+1 {
				t.Errorf("%d connections are held", r.shares[Client].conns.counted)
			}
		})
	}
}

// Connections that are answering are not evicted.
func TestTooManyConnections(t *testing.T) {
	go_ := make(chan struct{})
	r := run(t, &fake{attest: func(ctx context.Context, q api.EvidenceRequest, c evidence.Caller) ([]byte, error) {
		<-go_
		return answerFor(q, c), nil
	}}, Limits{Connections: 6, ConnectionsEach: 4, Requests: 12, RequestsEach: 6}, nil)
	var wg sync.WaitGroup
	busy := func(uid uint32, n int) {
		for range n {
			wg.Go(func() {
				if status, b, _, err := try(as(r.client, uid), "POST", api.CallEvidence.Path, nonceBody(1)); status != 200 {
					t.Errorf("uid %d: %d %s %v", uid, status, b, err)
				}
			})
		}
	}
	busy(1000, 4)
	eventually(t, "four are answered", func() bool { return r.fake.calls.Load() == 4 })
	if _, b, p := ask(t, as(r.client, 1000), "GET", api.CallSelf.Path, ""); p == nil || p.Code != api.CodeConnections || p.RetryAfter < 1 {
		t.Errorf("fifth: %s", b)
	}
	busy(1001, 2)
	eventually(t, "six are answered", func() bool { return r.fake.calls.Load() == 6 })
	if _, b, p := ask(t, as(r.client, 1002), "GET", api.CallSelf.Path, ""); p == nil || p.Code != api.CodeConnections {
		t.Errorf("seventh: %s", b)
	}
	close(go_)
	wg.Wait()
}

// case 11: one uid asks with all it has; another is answered as if it were alone, give
// or take the one request that is in progress.
func TestFlood(t *testing.T) {
	const work = 2 * time.Millisecond
	// Counted in requests of the flood that begin between the quiet one's arrival and
	// its own turn, which no load of the machine changes for long: as its requests take
	// a place of their own, there are hardly any. In one queue for all it would
	// come after the 50 that wait.
	var begun, arrival atomic.Int64
	var behind []int64
	f := &fake{attest: func(ctx context.Context, q api.EvidenceRequest, c evidence.Caller) ([]byte, error) {
		if c.UID == 1001 {
			behind = append(behind, begun.Load()-arrival.Load())
		} else {
			begun.Add(1)
		}
		time.Sleep(work)
		return answerFor(q, c), nil
	}}
	r := run(t, f, Limits{Requests: 4, RequestsEach: 3, WaitingEach: 50}, func(c *Config) {
		c.Identifier = arrivals{fakeIdentifier{}, func(uid uint32) {
			if uid == 1001 {
				arrival.Store(begun.Load())
			}
		}}
	})
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var answered, busy atomic.Int64
	flood := as(r.client, 1000)
	for n := range 100 {
		wg.Go(func() {
			for ctx.Err() == nil {
				status, _, p, err := try(flood, "POST", api.CallEvidence.Path, nonceBody(n))
				switch {
				case err == nil && status == 200:
					answered.Add(1)
				case err == nil && p != nil && p.Code == api.CodeBusy && p.RetryAfter > 0:
					busy.Add(1)
				default:
					t.Errorf("flood: %d %v %v", status, p, err)
					return
				}
			}
		})
	}
	eventually(t, "the flood is there", func() bool { return answered.Load() > 20 && busy.Load() > 0 })
	quiet := as(r.client, 1001)
	const rounds = 50
	for n := range rounds {
		if status, b, _ := ask(t, quiet, "POST", api.CallEvidence.Path, nonceBody(n)); status != 200 {
			t.Fatalf("the quiet one: %d %s", status, b)
		}
	}
	stop()
	wg.Wait()
	slices.Sort(behind)
	median := behind[rounds/2]
	t.Logf("flood: %d answered, %d told to come back; the quiet one came after %d of them, %d at worst", answered.Load(), busy.Load(), median, behind[rounds-1])
	if median > 20 {
		t.Errorf("the quiet one came after %d", median)
	}
}

// Two users whose requests all wait for reports that a host delays do not keep a third
// from being answered, nor an administrator: an app that is measured before its start.
func TestFloodOfFresh(t *testing.T) {
	held := make(chan struct{})
	f := &fake{attest: func(ctx context.Context, q api.EvidenceRequest, c evidence.Caller) ([]byte, error) {
		if q.Freshness == evidence.Fresh {
			<-held
		}
		return answerFor(q, c), nil
	}}
	r := run(t, f, Limits{Connections: 1024, Requests: 128, WaitingEach: 50}, nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(held)
	for n := range 200 {
		wg.Go(func() { // some are told to come back: more than may work and wait
			try(as(r.client, 2000+uint32(n%2)), "POST", api.CallEvidence.Path, nonceBody(n))
		})
	}
	eventually(t, "all places are taken", func() bool { return f.calls.Load() == 128 })
	anchored := strings.Replace(nonceBody(1), "}", `,"freshness":"anchored"}`, 1)
	for _, x := range []struct{ path, method, target, body string }{
		{r.client, "GET", api.CallSelf.Path, ""},
		{r.client, "POST", api.CallEvidence.Path, anchored},
		{r.admin, "GET", api.CallStatus.Path, ""},
		{r.admin, "POST", strings.Replace(api.CallMeasure.Path, "{name}", "billing", 1), ""},
	} {
		c := as(x.path, 1000)
		c.Timeout = patience
		if status, b, _ := ask(t, c, x.method, x.target, x.body); status != 200 {
			t.Errorf("%s %s: %d %s", x.method, x.target, status, b)
		}
	}
}

// arrivals tells of every request when it is begun to be answered.
type arrivals struct {
	fakeIdentifier
	arrived func(uid uint32)
}

func (a arrivals) Identify(c *net.UnixConn) (*caller.Peer, error) {
	p, err := a.fakeIdentifier.Identify(c)
	if err == nil {
		p.Process = arriving{p.Process, func() { a.arrived(p.UID) }}
	}
	return p, err
}

type arriving struct {
	caller.Process
	arrived func()
}

// Running is what the server asks first.
func (a arriving) Running() error {
	a.arrived()
	return a.Process.Running()
}

func TestThrottle(t *testing.T) {
	r := run(t, &fake{}, Limits{RateEach: 1e-4, BurstEach: 2}, nil)
	c := as(r.client, 1000)
	for range 2 {
		if status, b, _ := ask(t, c, "GET", api.CallSelf.Path, ""); status != 200 {
			t.Fatal(string(b))
		}
	}
	answer, err := c.Get("http://agentd" + api.CallSelf.Path)
	if err != nil || answer.StatusCode != http.StatusTooManyRequests || answer.Header.Get("Retry-After") == "" {
		t.Errorf("got %v %v", answer, err)
	}
	if status, b, _ := ask(t, as(r.client, 1001), "GET", api.CallSelf.Path, ""); status != 200 {
		t.Errorf("another uid: %s", b)
	}
}

// A user who does not read an answer uses only their own share for the write timeout.
func TestSlowReader(t *testing.T) {
	big := make([]byte, 8<<20)
	for i := range big {
		big[i] = ' '
	}
	f := &fake{records: make([]byte, 8<<20), attest: func(context.Context, api.EvidenceRequest, evidence.Caller) ([]byte, error) { return big, nil }}
	request := fmt.Sprintf("POST /v1/evidence HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(nonceBody(1)), nonceBody(1))
	slow := func(r *running) {
		for range 4 {
			c, err := dial(r.client, 1000)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			io.WriteString(c, request)
		}
	}
	r := run(t, f, Limits{Bytes: 64 << 20, WriteTimeout: time.Hour}, nil)
	slow(r)
	eventually(t, "the first is at work", func() bool { return f.calls.Load() > 0 })
	if status, b, _ := ask(t, as(r.client, 1001), "POST", api.CallEvidence.Path, nonceBody(1)); status != 200 {
		t.Errorf("another uid: %d %.100s", status, b)
	}
	if n := f.calls.Load(); n != 2 {
		t.Errorf("%d answers of 32 MiB each, one of them to another, are being written within a share of 32 MiB", n)
	}

	f.calls.Store(0)
	slow(run(t, f, Limits{Bytes: 64 << 20, WriteTimeout: 100 * time.Millisecond}, nil))
	eventually(t, "the slow ones are cut off in turn", func() bool { return f.calls.Load() == 4 })
}
