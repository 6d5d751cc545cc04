// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/simulated/relying"
	"github.com/cvm-agentd/agentd/verify"
)

// The load: every tenth request wants a report of its own, and the host lets a
// report through five times a second.
const (
	clients  = 100
	requests = 10000
	fresh    = 10
	throttle = "200ms"
	foreign  = 10 // every so many answers are held against another client's nonce in full
)

// TestEveryAnswerIsItsOwn: 100 clients, 10,000 requests, fresh and anchored mixed,
// on a platform that throttles. Each answer verifies for the nonce of its request
// and for no other. Case 42.
func TestEveryAnswerIsItsOwn(t *testing.T) {
	if testing.Short() {
		t.Skip("10,000 requests: not with -short")
	}
	m := start(t)
	v := newVerifier(t, m)
	var next, freshAnswers, anchoredAnswers atomic.Int64
	answers := make(chan answer, clients)
	var asking, checking sync.WaitGroup
	begin := time.Now()
	for range clients {
		asking.Go(func() {
			c := &client.Client{Socket: m.Socket()} // a connection of its own
			defer c.Close()
			for n := next.Add(1); n <= requests && !t.Failed(); n = next.Add(1) {
				document, err := ask(t.Context(), c, n)
				if err != nil {
					t.Errorf("request %d: %v", n, err)
					return
				}
				answers <- answer{n, document}
			}
		})
	}
	for range 2 {
		checking.Go(func() {
			for a := range answers {
				if v.check(t, a) {
					freshAnswers.Add(1)
				} else {
					anchoredAnswers.Add(1)
				}
			}
		})
	}
	asking.Wait()
	close(answers)
	checking.Wait()
	took := time.Since(begin)

	st, err := m.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d clients, %d requests in %v with every answer verified: %d fresh, %d anchored, %d batches with a report, %d on an anchor, %d failed",
		clients, requests, took.Round(time.Millisecond), freshAnswers.Load(), anchoredAnswers.Load(), st.Batches.Fresh, st.Batches.Anchored, st.Batches.Failed)
	if got := freshAnswers.Load() + anchoredAnswers.Load(); got != requests {
		t.Errorf("%d answers were verified, want %d", got, requests)
	}
	if freshAnswers.Load() < requests/fresh || anchoredAnswers.Load() == 0 {
		t.Error("fresh and anchored answers were not mixed")
	}
}

type answer struct {
	n        int64
	document []byte
}

// nonce is that of request n.
func nonce(n int64) []byte {
	h := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("load"), uint64(n)))
	return h[:]
}

// ask asks until the agent has room: being told to wait is not a failure.
func ask(ctx context.Context, c *client.Client, n int64) ([]byte, error) {
	r := api.EvidenceRequest{Nonce: nonce(n), Freshness: evidence.Anchored, Log: api.LogWhole}
	if n%fresh == 0 {
		r.Freshness = evidence.Fresh
	}
	for {
		document, err := c.Evidence(ctx, r)
		var p *api.Problem
		if errors.As(err, &p) && p.RetryAfter > 0 && (p.Code == api.CodeBusy || p.Code == api.CodeThrottled) {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Duration(p.RetryAfter) * time.Second / 10):
				continue
			}
		}
		return document, err
	}
}

func start(t *testing.T) *simulated.Machine {
	t.Helper()
	return simulated.Run(t, "--fault", "throttle="+throttle)
}

// verifier is what all appraisals share.
type verifier struct {
	*verify.Verifier
	at time.Time
}

func newVerifier(t *testing.T, m *simulated.Machine) *verifier {
	t.Helper()
	v, err := verify.New(relying.Policy(t, m), relying.Trust(t, m))
	if err != nil {
		t.Fatal(err)
	}
	return &verifier{v, time.Now()}
}

// check appraises one answer, and tells whether its report was made for its batch.
func (v *verifier) check(t *testing.T, a answer) (isFresh bool) {
	expect := verify.Expect{Nonce: nonce(a.n)}
	p, err := v.Appraise(a.document, expect, v.at)
	if err != nil {
		t.Errorf("answer %d: %v", a.n, err)
		return false
	}
	claims, err := p.Claims()
	if err != nil {
		t.Errorf("answer %d: %v", a.n, err)
		return false
	}
	if !bytes.Equal(claims.Statement.Nonce, expect.Nonce) {
		t.Errorf("answer %d holds another nonce", a.n)
	}
	if p.Freshness == verify.AnchoredReport && a.n%fresh == 0 {
		t.Errorf("answer %d is anchored, a fresh one was asked for", a.n)
	}
	if a.n%foreign == 0 {
		expect.Nonce = nonce(a.n%requests + 1)
		if p, err := v.Appraise(a.document, expect, v.at); err != nil || p.Verdict != verify.Fail || p.Check("statement.nonce").Verdict != verify.Fail {
			t.Errorf("answer %d passes for request %d", a.n, a.n%requests+1)
		}
	}
	return p.Freshness == verify.FreshReport
}
