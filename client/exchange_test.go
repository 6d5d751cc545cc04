// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
)

const (
	empty = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
	busy  = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: " + api.ProblemType + "\r\nConnection: close\r\nContent-Length: 28\r\n\r\n{\"status\":503,\"code\":\"busy\"}"
)

// script listens on a socket. It handles the connection of number n, from 0, with steps[n], or
// the last step. It returns the path, and the number of connections so far.
func script(t *testing.T, steps ...func(c *net.UnixConn, request func() error)) (path string, count *atomic.Int32) {
	t.Helper()
	path, count = filepath.Join(t.TempDir(), "s"), new(atomic.Int32)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			step := steps[min(int(count.Add(1)), len(steps))-1]
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				step(c, func() error {
					q, err := http.ReadRequest(r)
					if err == nil {
						_, err = io.Copy(io.Discard, q.Body)
					}
					return err
				})
			}()
		}
	}()
	return path, count
}

// serving answers every request of a connection.
func serving(c *net.UnixConn, request func() error) {
	for request() == nil {
		io.WriteString(c, empty)
	}
}

// once answers one request, and then does after.
func once(text string, after func(c *net.UnixConn, request func() error)) func(*net.UnixConn, func() error) {
	return func(c *net.UnixConn, request func() error) {
		if request() == nil {
			io.WriteString(c, text)
			after(c, request)
		}
	}
}

// TestConnections checks how many connections two requests take, and whether both are answered,
// for each way in which the agent can end a connection.
func TestConnections(t *testing.T) {
	nothing := func(*net.UnixConn, func() error) {}
	read := func(_ *net.UnixConn, request func() error) { request() }
	for _, c := range []struct {
		name        string
		first       func(*net.UnixConn, func() error)
		connections int32
		one, two    bool // answered
	}{
		{"kept", serving, 1, true, true},
		{"closed while idle", once(empty, nothing), 2, true, true},
		{"not read from while idle", once(empty, func(c *net.UnixConn, request func() error) { c.CloseRead(); io.Copy(io.Discard, c) }), 2, true, true},
		{"closed before the second answer", once(empty, read), 2, true, true},
		{"cut off in the second answer", once(empty, once(empty[:len(empty)-1], nothing)), 1, true, false},
		{"closed as announced", once(strings.Replace(empty, "\r\n", "\r\nConnection: close\r\n", 1), serving), 2, true, true},
		{"more than the answer", once(empty+"x", serving), 2, true, true},
		{"new one closed before the answer", read, 2, false, true},
		{"headers without an end", once("HTTP/1.1 200 OK\r\n"+strings.Repeat("X: "+strings.Repeat("y", 1<<10)+"\r\n", 8<<10), nothing), 2, false, true},
		{"not HTTP", once("SSH-2.0-x\r\n", nothing), 2, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, count := script(t, c.first, serving)
			a := &Client{Socket: path}
			defer a.Close()
			_, one := a.Self(t.Context())
			_, two := a.Self(t.Context())
			if (one == nil) != c.one || (two == nil) != c.two || count.Load() != c.connections {
				t.Errorf("%d connections, %v, %v", count.Load(), one, two)
			}
		})
	}
}

// TestRefusedUnread: the agent answers connections that it has no place for, and closes them
// without reading. The client reports that answer, although it could not send its request.
func TestRefusedUnread(t *testing.T) {
	path, _ := script(t, func(c *net.UnixConn, _ func() error) {
		io.WriteString(c, busy)
		c.CloseRead()
	})
	for range 100 { // in some of them the request is sent before the answer
		if _, err := (&Client{Socket: path}).Self(t.Context()); !errors.Is(err, api.CodeBusy) {
			t.Fatal(err)
		}
	}
}

// TestLeft: a request whose context ended leaves no connection that a later one would use.
func TestLeft(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	path, count := script(t, func(c *net.UnixConn, request func() error) { request(); leave(); request() }, serving)
	a := &Client{Socket: path}
	defer a.Close()
	if _, err := a.Self(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := a.Self(t.Context()); err != nil || count.Load() != 2 {
		t.Errorf("%d connections, %v", count.Load(), err)
	}
	if _, err := a.Self(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that had ended: %v", err)
	}
}

// TestReap: connections that no request uses are closed, and the timer ends with the last.
func TestReap(t *testing.T) {
	path, _ := script(t, serving)
	a := &Client{Socket: path}
	if _, err := a.Self(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept := func() (n int, reaping bool) {
		a.transport.mu.Lock()
		defer a.transport.mu.Unlock()
		return len(a.transport.idle), a.transport.reaping
	}
	a.transport.reap()
	if n, reaping := kept(); n != 1 || !reaping {
		t.Errorf("%d connections, reaping %v: closed too early", n, reaping)
	}
	a.transport.idle[0].used = time.Now().Add(-idleTime)
	a.transport.reap()
	if n, reaping := kept(); n != 0 || reaping {
		t.Errorf("%d connections, reaping %v", n, reaping)
	}
}

// TestMostKept: a burst of requests leaves no more connections than are kept.
func TestMostKept(t *testing.T) {
	var a transport
	for i := range maxIdle + 3 {
		one, other := net.Pipe()
		defer other.Close()
		a.put(&connection{Conn: one, path: fmt.Sprint(i)})
	}
	if len(a.idle) != maxIdle {
		t.Errorf("%d connections kept, want %d", len(a.idle), maxIdle)
	}
	if c := a.get("another path"); c != nil || len(a.idle) != 0 {
		t.Errorf("a connection to another path was used: %v, %d left", c, len(a.idle))
	}
}

// A document is appended to what the caller has, in its room if it fits, whether the answer says
// how long it is or not. A refusal is read from the right place, and changes nothing.
func TestAppend(t *testing.T) {
	const document = `{"type":"document"}`
	sized := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(document), document)
	chunked := fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(document), document)
	for name, answer := range map[string]string{"sized": sized, "chunked": chunked} {
		path, _ := script(t, func(c *net.UnixConn, request func() error) {
			for request() == nil {
				io.WriteString(c, answer)
			}
		})
		c := Client{Socket: path}
		room := append(make([]byte, 0, 1000), "before"...)
		for _, b := range [][]byte{nil, []byte("before"), room} {
			got, err := c.AppendEvidence(t.Context(), b, api.EvidenceRequest{})
			if err != nil || string(got) != string(b)+document {
				t.Errorf("%s, after %q: %q, %v", name, b, got, err)
			}
			if cap(b) == 1000 && &got[0] != &b[0] {
				t.Errorf("%s: the room of the caller is not used", name)
			}
		}
		c.Close()
	}
	path, _ := script(t, once(busy, func(*net.UnixConn, func() error) {}))
	c := Client{Socket: path}
	defer c.Close()
	if got, err := c.AppendEvidence(t.Context(), []byte("before"), api.EvidenceRequest{}); got != nil || !errors.Is(err, api.CodeBusy) {
		t.Errorf("refused: %q, %v", got, err)
	}
}
