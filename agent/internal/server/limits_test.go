// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/turn"
)

func TestRates(t *testing.T) {
	r := newRates(10, 3)
	now := time.Unix(1e9, 0)
	for range 3 {
		if _, ok := r.take(1, now); !ok {
			t.Fatal("within the burst")
		}
	}
	wait, ok := r.take(1, now)
	if ok || wait <= 0 || wait > 100*time.Millisecond {
		t.Errorf("beyond the burst: %v %v", wait, ok)
	}
	if _, ok := r.take(2, now); !ok {
		t.Error("another uid pays")
	}
	if _, ok := r.take(1, now.Add(100*time.Millisecond)); !ok {
		t.Error("refused requests used up tokens")
	}
	for uid := range uint32(10 * maxBuckets) {
		r.take(uid, now.Add(time.Duration(uid)*time.Second))
	}
	if len(r.buckets) > maxBuckets+1 {
		t.Errorf("%d buckets", len(r.buckets))
	}
}

// held is an attester that answers only when it is let.
func held(let <-chan struct{}) func(context.Context, api.EvidenceRequest, evidence.Caller) ([]byte, error) {
	return func(ctx context.Context, r api.EvidenceRequest, c evidence.Caller) ([]byte, error) {
		select {
		case <-let:
			return answerFor(r, c), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Clients of any uid, 0 included, who take all that the client socket has, keep nothing
// from the admin socket.
func TestAdminSocketHasItsOwn(t *testing.T) {
	let := make(chan struct{})
	limits := Limits{Connections: 64, Requests: 16, WaitingEach: 8, RateEach: 1e6, BurstEach: 1e6}
	r := run(t, &fake{attest: held(let)}, limits, nil)
	var all sync.WaitGroup
	for _, uid := range []uint32{0, 1000, 1001, 1002} { // 1000 is the administrator here
		for range 40 {
			all.Go(func() { try(as(r.client, uid), "POST", api.CallEvidence.Path, nonceBody(1)) })
		}
		for range 40 { // half-open ones
			if c, err := dial(r.client, uid); err == nil {
				defer c.Close()
				io.WriteString(c, "GET /v1/self HT")
			}
		}
	}
	gate := r.shares[Client].gate
	eventually(t, "the client socket is full", func() bool { return gate.Used() >= r.Limits.Bytes })
	for range 20 {
		c := as(r.admin, 1000)
		c.Timeout = patience
		if status, b, _ := ask(t, c, "POST", "/v1/apps/billing/measure", ""); status != 200 {
			t.Fatalf("measure: %d %s", status, b)
		}
	}
	close(let)
	all.Wait()
}

// Eight uids of equal demand, more than there is room for: least and most served differ by
// at most a factor of two, in any order of arrival.
func TestUsersAreServedEqually(t *testing.T) {
	limits := Limits{Connections: 1024, ConnectionsEach: 512, Requests: 4, RequestsEach: 4, WaitingEach: 100, RateEach: 1e6, BurstEach: 1e6}
	attester := &fake{attest: func(ctx context.Context, q api.EvidenceRequest, c evidence.Caller) ([]byte, error) {
		timer := time.NewTimer(2 * time.Millisecond) // the device
		defer timer.Stop()
		<-timer.C
		return answerFor(q, c), nil
	}}
	r := run(t, attester, limits, nil)
	var served [8]atomic.Int64
	total := atomic.Int64{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	for uid := range served {
		for range 2 + 6*uid { // from 2 to 44 clients each
			all.Go(func() {
				c := as(r.client, 1000+uint32(uid))
				for ctx.Err() == nil {
					if status, _, _, err := try(c, "POST", api.CallEvidence.Path, nonceBody(1)); err == nil && status == 200 {
						served[uid].Add(1)
						if total.Add(1) == 2000 {
							cancel()
						}
					}
				}
			})
		}
	}
	all.Wait()
	least, most := served[0].Load(), served[0].Load()
	text := ""
	for uid := range served {
		n := served[uid].Load()
		least, most = min(least, n), max(most, n)
		text += fmt.Sprintf(" %d", n)
	}
	t.Logf("served:%s", text)
	if least == 0 || most > 2*least {
		t.Errorf("served:%s: want at most a factor of two between least and most", text)
	}
}

// slowly identifies callers as slowly as a busy kernel does, and counts.
type slowly struct {
	fakeIdentifier
	identified *atomic.Int64
}

func (s slowly) Identify(c *net.UnixConn) (*caller.Peer, error) {
	s.identified.Add(1)
	return s.fakeIdentifier.Identify(c)
}

// A user who opens connections without end is turned away before the agent looks at the
// process, and others are not.
func TestConnectFlood(t *testing.T) {
	var identified atomic.Int64
	limits := Limits{Connections: 64, ConnectionsEach: 16, OpenEach: 0.001, OpenBurst: 32}
	r := run(t, &fake{}, limits, func(c *Config) { c.Identifier = slowly{identified: &identified} })
	refused := 0
	for range 60 {
		c, err := dial(r.client, 1000)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "GET /v1/self HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		c.SetDeadline(time.Now().Add(patience))
		b, err := io.ReadAll(c)
		c.Close()
		if strings.Contains(string(b), string(api.CodeConnections)) {
			refused++
		} else if !strings.Contains(string(b), " 200 OK") {
			t.Fatalf("answer %q, error %v", b, err)
		}
	}
	if n := identified.Load(); n != 32 || refused != 28 {
		t.Errorf("%d of 60 were identified and %d refused, want 32 and the rest", n, refused)
	}
	if status, b, _ := ask(t, as(r.client, 1001), "GET", api.CallSelf.Path, ""); status != 200 {
		t.Errorf("another user: %d %s", status, b)
	}
}

// Every route has the class that docs/architecture.md gives it, on each socket, and the
// admin socket is one party whatever the uid.
func TestWhoseWork(t *testing.T) {
	classes := map[string]turn.Class{api.CallMeasure.Path: turn.Start, api.CallEvidence.Path: turn.Evidence}
	for _, r := range slices.Concat(keyRoutes, eventRoutes) {
		classes[r.Path] = turn.Keys
	}
	for i := range routes {
		r := &routes[i]
		want := turn.Who{Class: classes[r.Path], Party: "1000"} // the zero value is an inquiry
		if got := r.who(&conn{socket: Client, peer: &caller.Peer{UID: 1000}}); got != want {
			t.Errorf("%s on the client socket: %v, want %v", r.Path, got, want)
		}
		want = turn.Who{Class: max(want.Class, turn.Admin), Party: "admin"}
		if got := r.who(&conn{socket: Admin, peer: &caller.Peer{UID: 0}}); got != want {
			t.Errorf("%s on the admin socket: %v, want %v", r.Path, got, want)
		}
	}
}

// A caller who asks too often waits for the refusal, and those who wait are bounded.
func TestRefusalIsLate(t *testing.T) {
	r := run(t, &fake{}, Limits{RateEach: 0.001, BurstEach: 1}, nil)
	if status, b, _ := ask(t, as(r.client, 1000), "GET", api.CallSelf.Path, ""); status != 200 {
		t.Fatalf("within the rate: %d %s", status, b)
	}
	done := make(chan int, 1)
	go func() {
		status, _, _, _ := try(as(r.client, 1000), "GET", api.CallSelf.Path, "")
		done <- status
	}()
	slowed := r.shares[Client].slowed
	eventually(t, "the refusal waits", func() bool { return len(slowed) == 1 })
	if status := <-done; status != 429 {
		t.Errorf("status %d, want 429", status)
	}
	if len(slowed) != 0 {
		t.Error("its place is not given back")
	}
	for take(slowed) { // as many as may wait do: the next is refused all the same
	}
	if status, b, _ := ask(t, as(r.client, 1000), "GET", api.CallSelf.Path, ""); status != 429 {
		t.Errorf("status %d, want 429: %s", status, b)
	}
}

// A caller who has as many requests waiting as it may also waits for the refusal, and other
// connections can have the place of its connection meanwhile.
func TestRefusalOfWaitingIsLate(t *testing.T) {
	let := make(chan struct{})
	attester := &fake{attest: func(ctx context.Context, q api.EvidenceRequest, c evidence.Caller) ([]byte, error) {
		<-let
		return answerFor(q, c), nil
	}}
	r := run(t, attester, Limits{Connections: 16, Requests: 1, RequestsEach: 1, WaitingEach: 1}, nil)
	answers := make(chan int)
	ask := func() {
		status, _, _, _ := try(as(r.client, 1000), "POST", api.CallEvidence.Path, nonceBody(1))
		answers <- status
	}
	busy := func() (n int) {
		conns := r.shares[Client].conns
		conns.mu.Lock()
		defer conns.mu.Unlock()
		for c := range conns.open {
			if c.busy {
				n++
			}
		}
		return n
	}
	for n := range 2 {
		go ask()
		eventually(t, "a request is in progress or waits", func() bool { return busy() == n+1 })
	}
	slowed := r.shares[Client].slowed
	go ask()
	eventually(t, "the refusal waits", func() bool { return len(slowed) == 1 })
	if n := busy(); n != 2 {
		t.Errorf("%d connections count as answering while a refusal waits, want 2", n)
	}
	if status := <-answers; status != 503 {
		t.Errorf("status %d, want 503", status)
	}
	close(let)
	for range 2 {
		if status := <-answers; status != 200 {
			t.Errorf("status %d, want 200", status)
		}
	}
}
