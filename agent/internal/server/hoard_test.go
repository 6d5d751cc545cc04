// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
)

// A body that is announced and does not come delays no user, not even if no route would
// read it: neither others nor the same user, on neither socket.
func TestBodiesThatNeverCome(t *testing.T) {
	// Nothing times out: an answer that comes waited for no timeout.
	limits := Limits{
		Connections: 40, ConnectionsEach: 20, Requests: 8, RequestsEach: 4,
		HeaderTimeout: time.Hour, BodyTimeout: time.Hour, IdleTimeout: time.Hour,
	}
	for name, head := range map[string]string{
		"no route reads it": "GET " + api.CallSelf.Path,
		"no route":          "GET /v1/nowhere",
		"wrong method":      "PUT " + api.CallSelf.Path,
		"chunked":           "GET " + api.CallSelf.Path,
	} {
		t.Run(name, func(t *testing.T) {
			length := "Content-Length: 10"
			if name == "chunked" {
				length = "Transfer-Encoding: chunked"
			}
			r := run(t, &fake{}, limits, nil)
			for n := range 60 {
				c, err := dial(r.client, 1000+uint32(n%2))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", head, length)
			}
			for _, uid := range []uint32{1002, 1000} {
				for _, path := range []string{r.client, r.admin} {
					c := as(path, uid)
					c.Timeout = patience
					if status, b, p, err := try(c, "GET", api.CallSelf.Path, ""); err != nil || status != 200 && p.Code != api.CodeNotPermitted {
						t.Errorf("uid %d on %s: %d %s %v", uid, path, status, b, err)
					}
				}
			}
		})
	}
}

// Nor does it delay a stop for longer than a body may take.
func TestStopWaitsForNoBody(t *testing.T) {
	var there atomic.Int64
	r := run(t, &fake{}, Limits{BodyTimeout: 50 * time.Millisecond, IdleTimeout: time.Hour, HeaderTimeout: time.Hour}, func(c *Config) {
		c.Identifier = arrivals{fakeIdentifier{}, func(uint32) { there.Add(1) }}
	})
	for _, path := range []string{api.CallSelf.Path, "/v1/nowhere"} {
		c, err := dial(r.client, 1000)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n", path)
	}
	eventually(t, "both have asked", func() bool { return there.Load() == 2 })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// A peer that reads no answers does not stay outside the limits when a newer connection
// took its place.
func TestUnreadAnswers(t *testing.T) {
	limits := Limits{Connections: 40, ConnectionsEach: 20, WriteTimeout: time.Hour, IdleTimeout: time.Hour, HeaderTimeout: time.Hour}
	r := run(t, &fake{}, limits, nil)
	r.shares[Client].conns.mu.Lock()
	r.shares[Client].conns.patience = 100 * time.Millisecond
	r.shares[Client].conns.mu.Unlock()
	// Refusals are written before a request counts as one that is being answered, and
	// those of some thousand requests fill what the kernel buffers for a reader.
	requests := strings.Repeat("GET /v1/self?"+strings.Repeat("%ff", 60)+"=1 HTTP/1.1\r\nHost: a\r\n\r\n", 2000)
	for range 200 {
		c, err := dial(r.client, 1000)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)) // as much as is taken at once
		io.WriteString(c, requests)
	}
	// Not even those that linger: what is written to them has little time.
	eventually(t, "all but the last are closed", func() bool {
		r.shares[Client].conns.mu.Lock()
		defer r.shares[Client].conns.mu.Unlock()
		return len(r.shares[Client].conns.open) <= limits.ConnectionsEach
	})
	if status, b, _ := ask(t, as(r.client, 1001), "GET", api.CallSelf.Path, ""); status != 200 {
		t.Errorf("another: %d %s", status, b)
	}
}

// Large bodies that come slowly take no more than their share of memory, and leave
// others theirs.
func TestSlowBodies(t *testing.T) {
	budget := 4 * api.CallSeal.Body
	limits := Limits{BodyBytes: budget, BodyTimeout: time.Hour, IdleTimeout: time.Hour, HeaderTimeout: time.Hour}
	r := run(t, &fake{}, limits, nil)
	for range 50 {
		c, err := dial(r.client, 1000)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n{", api.CallSeal.Path, api.CallSeal.Body)
	}
	held := r.shares[Client].bodies.Used
	eventually(t, "the share is taken", func() bool { return held() == budget/2 })
	large := `{"name":"` + strings.Repeat("x", 2*smallBody) + `"}`
	c := as(r.client, 1001)
	c.Timeout = patience
	if _, b, p, err := try(c, "POST", api.CallSeal.Path, large); err != nil || p == nil || p.Code == api.CodeBusy {
		t.Errorf("a large body of another: %s %v", b, err)
	}
	if got := held(); got != budget/2 {
		t.Errorf("held afterwards: %d bytes", got)
	}
	// A small one of the same user needs no place.
	c = as(r.client, 1000)
	c.Timeout = patience
	if status, b, _ := ask(t, c, "POST", api.CallEvidence.Path, nonceBody(1)); status != 200 {
		t.Errorf("evidence: %d %s", status, b)
	}
}
