// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
)

// case 84: a request that is being answered when the agent stops is answered; the name
// of the socket is gone at once.
func TestShutdownAnswers(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	r := run(t, &fake{attest: func(_ context.Context, q api.EvidenceRequest, c evidence.Caller) ([]byte, error) {
		close(begun)
		<-finish
		return answerFor(q, c), nil
	}}, Limits{}, nil)
	type result struct {
		answer *http.Response
		err    error
	}
	got := make(chan result)
	go func() {
		answer, err := as(r.client, 1000).Post("http://agentd"+api.CallEvidence.Path, "", strings.NewReader(nonceBody(1)))
		got <- result{answer, err}
	}()
	<-begun
	idle, err := dial(r.client, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	done := make(chan error)
	go func() { done <- r.Shutdown(t.Context()) }()
	eventually(t, "the name is gone", func() bool { _, err := os.Lstat(r.client); return os.IsNotExist(err) })
	// One that has asked nothing is let go of without waiting for it.
	idle.SetReadDeadline(time.Now().Add(patience))
	if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("idle connection: %v", err)
	}
	select {
	case err := <-done:
		t.Fatalf("shutdown returned before the answer was given: %v", err)
	default:
	}
	close(finish)
	x := <-got
	if x.err != nil || x.answer.StatusCode != 200 || !x.answer.Close {
		t.Errorf("got %v %v", x.answer, x.err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	r.served.Wait()
}

// case 84: a connection of which half a request has arrived when the agent stops is read
// to the end of it, and answered.
func TestShutdownReadsOn(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	r.shares[Client].conns.mu.Lock()
	r.shares[Client].conns.grace = 0 // only what has arrived counts
	r.shares[Client].conns.mu.Unlock()
	c, err := dial(r.client, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	request := "GET /v1/self HTTP/1.1\r\nHost: a\r\n\r\n"
	io.WriteString(c, request[:10])
	eventually(t, "half of it is read", func() bool {
		r.shares[Client].conns.mu.Lock()
		defer r.shares[Client].conns.mu.Unlock()
		for x := range r.shares[Client].conns.open {
			return x.partial.Load()
		}
		return false
	})
	if left := r.shares[Client].conns.drain(); left != 1 {
		t.Fatalf("%d connections are left", left)
	}
	io.WriteString(c, request[10:])
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || answer.StatusCode != 200 {
		t.Errorf("%v %v", answer, err)
	}
}

// What waits in the queue of a socket that goes away is still answered.
func TestShutdownEmptiesQueue(t *testing.T) {
	accepted, hold := make(chan struct{}, 50), make(chan struct{})
	r := run(t, &fake{}, Limits{}, func(c *Config) {
		c.Identifier = slowIdentifier{fakeIdentifier{}, accepted, hold}
	})
	var wg sync.WaitGroup
	for n := range 50 {
		c, err := dial(r.client, 1000)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "GET /v1/self HTTP/1.1\r\nHost: a\r\n\r\n")
		wg.Go(func() {
			defer c.Close()
			b, err := io.ReadAll(c)
			if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200") {
				t.Errorf("connection %d: %.60q %v", n, b, err)
			}
		})
	}
	<-accepted
	done := make(chan error)
	go func() { done <- r.Shutdown(t.Context()) }()
	eventually(t, "it is stopping", r.draining.Load)
	close(hold)
	if err := <-done; err != nil {
		t.Error(err)
	}
	wg.Wait()
}

type slowIdentifier struct {
	fakeIdentifier
	accepted, hold chan struct{}
}

func (s slowIdentifier) Identify(c *net.UnixConn) (*caller.Peer, error) {
	s.accepted <- struct{}{}
	<-s.hold
	return s.fakeIdentifier.Identify(c)
}

// case 84: the agent is replaced again and again under load, on a socket that outlives
// it. No client notices: no request fails, and none is answered twice or for another.
func TestRestartUnderLoad(t *testing.T) {
	path := filepath.Join(tempDir(t), "s")
	parent, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer parent.Close()
	os.Chmod(path, 0o660)
	f := &fake{attest: func(_ context.Context, q api.EvidenceRequest, c evidence.Caller) ([]byte, error) {
		time.Sleep(time.Millisecond)
		return answerFor(q, c), nil
	}}
	start := func() (*Server, chan error) {
		file, err := parent.File()
		if err != nil {
			t.Fatal(err)
		}
		l, err := Inherit(file, path, 0o660)
		if err != nil {
			t.Fatal(err)
		}
		s := newPatient(Config{Identifier: fakeIdentifier{}, Attester: f, Log: f, Apps: f, Status: f, Enroller: f})
		s.shares[Client].conns.grace = patience // every peer here writes, however late it gets to
		served := make(chan error, 1)
		go func() { served <- s.Serve(l, Client) }()
		return s, served
	}
	s, served := start()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var answered atomic.Int64
	shared := client.Client{Socket: path}
	for worker := range 16 {
		wg.Go(func() {
			own := client.Client{Socket: path}
			for n := 0; ctx.Err() == nil; n++ {
				c := &shared
				if worker%2 == 0 {
					c = &own
				}
				if n%5 == 0 {
					c.Close()
				}
				nonce := []byte(strings.Repeat(string(rune('a'+worker)), 16))
				b, err := c.Evidence(context.WithoutCancel(ctx), api.EvidenceRequest{Nonce: nonce})
				if want := string(answerFor(api.EvidenceRequest{Nonce: nonce}, evidence.Caller{UID: 1000})); err != nil || string(b) != want {
					t.Errorf("worker %d, request %d: %s %v", worker, n, b, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	for range 4 {
		wg.Go(func() { plainClient(ctx, t, path, &answered) })
	}
	for round := range 15 {
		before := answered.Load()
		eventually(t, "requests are answered", func() bool { return answered.Load() > before+50 || t.Failed() })
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if err := <-served; err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		s, served = start()
	}
	stop()
	wg.Wait()
	s.Shutdown(t.Context())
	t.Logf("%d requests over 15 restarts", answered.Load())
}

// plainClient tries nothing twice. A request that could be written is answered; only
// one of which nothing was taken may be sent again.
func plainClient(ctx context.Context, t *testing.T, path string, answered *atomic.Int64) {
	request := fmt.Appendf(nil, "POST /v1/evidence HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(nonceBody(1)), nonceBody(1))
	for ctx.Err() == nil {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Error(err)
			return
		}
		r := bufio.NewReader(c)
		for first := true; ctx.Err() == nil; first = false {
			if _, err := c.Write(request); err != nil {
				if first {
					t.Errorf("a new connection takes nothing: %v", err)
				}
				break
			}
			answer, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Errorf("a request was taken and not answered: %v", err)
				break
			}
			io.Copy(io.Discard, answer.Body)
			answered.Add(1)
			if answer.StatusCode != 200 {
				t.Errorf("status %d", answer.StatusCode)
			}
			if answer.Close {
				break
			}
		}
		c.Close()
	}
}

// What does not end in time is cut off, and counted.
func TestShutdownEnds(t *testing.T) {
	r := run(t, &fake{attest: func(ctx context.Context, _ api.EvidenceRequest, _ evidence.Caller) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}, Limits{}, nil)
	go try(as(r.client, 1000), "POST", api.CallEvidence.Path, nonceBody(1))
	eventually(t, "it is at work", func() bool { return r.fake.calls.Load() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Shutdown(ctx); err == nil || !strings.Contains(err.Error(), "1 connection cut off") {
		t.Errorf("got %v", err)
	}
}
