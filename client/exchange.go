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
	"slices"
	"strconv"
	"sync"
	"time"
)

// transport is HTTP/1.1 over one unix socket, with connections that are kept. Its zero value is
// ready for use.
//
// It does not use http.Transport, which has two goroutines for each connection, so that each
// request passes through three of them, and takes most of the time that a caller spends on
// evidence. Here the caller writes its request and reads its answer itself. The standard
// library parses the answer.
type transport struct {
	mu      sync.Mutex    // guards the two below
	idle    []*connection // the one that was used last is the last
	reaping bool          // reap will be called
}

// connection is one connection to the agent. One request at a time uses it.
type connection struct {
	net.Conn
	path   string
	left   int64         // bytes that may be read until the next request
	reader *bufio.Reader // through Read of the connection
	used   time.Time     // end of the last request
}

const (
	maxIdle    = 64
	idleTime   = 30 * time.Second // less than the agent's, so that the client closes first
	maxHeader  = 64 << 10         // bytes of an answer before its body
	unsentTime = time.Second      // for the answer to a request that could not be sent
	readBuffer = 16 << 10         // so that an answer with evidence is usually read in one piece
)

var errTooLong = errors.New("the answer is too long")

// Read reads at most what is left.
func (c *connection) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooLong
	}
	n, err := c.Conn.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	return n, err
}

// get returns a connection to path that is kept, or nil.
func (t *transport) get(path string) *connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.idle) > 0 {
		c := t.idle[len(t.idle)-1]
		t.idle[len(t.idle)-1] = nil
		t.idle = t.idle[:len(t.idle)-1]
		if c.path == path && time.Since(c.used) < idleTime {
			return c
		}
		c.Close()
	}
	return nil
}

// put keeps c for a later request.
func (t *transport) put(c *connection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.idle) == maxIdle {
		c.Close()
		return
	}
	c.used = time.Now()
	t.idle = append(t.idle, c)
	if !t.reaping {
		t.reaping = true
		time.AfterFunc(idleTime, t.reap)
	}
}

// reap closes the connections that were not used for too long. It comes back while one is left.
func (t *transport) reap() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.idle = slices.DeleteFunc(t.idle, func(c *connection) bool {
		old := time.Since(c.used) >= idleTime
		if old {
			c.Close()
		}
		return old
	})
	if t.reaping = len(t.idle) > 0; t.reaping {
		time.AfterFunc(idleTime, t.reap)
	}
}

// close closes the connections that are kept.
func (t *transport) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.idle {
		c.Close()
	}
	t.idle = nil
}

// try sends one request and returns the status, the media type and at most limit bytes of the
// body of its answer, appended to into.
//
// Every request may be sent twice without harm; at worst a root has one version more. So if a
// kept connection breaks before anything of the answer came, for example because the agent was
// started again, try sends the request on another one. A new connection that breaks is an error.
func (t *transport) try(ctx context.Context, path, method, target string, body, into []byte, limit int64) (*http.Response, []byte, error) {
	request := encodeRequest(method, target, body)
	defer clear(request) // it may contain a secret
	for {
		c := t.get(path)
		kept := c != nil
		if !kept {
			conn, err := dial(ctx, path)
			if err != nil {
				return nil, nil, err
			}
			c = &connection{Conn: conn, path: path}
			c.reader = bufio.NewReaderSize(c, readBuffer)
		}
		answer, b, err := t.exchange(ctx, c, request, into, method, limit)
		if _, broken := errors.AsType[*brokenError](err); broken && kept && ctx.Err() == nil {
			continue
		}
		return answer, b, err
	}
}

// encodeRequest returns the bytes of a request, so that one write sends it. Method is one of the
// table of endpoints, and target is escaped.
func encodeRequest(method, target string, body []byte) []byte {
	b := make([]byte, 0, 160+len(target)+len(body))
	b = append(b, method...)
	b = append(b, ' ')
	b = append(b, target...)
	b = append(b, " HTTP/1.1\r\nHost: agentd\r\n"...)
	if body != nil {
		b = append(b, "Content-Type: application/json\r\n"...)
	}
	if body != nil || method != http.MethodGet {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(body)), 10)
		b = append(b, "\r\n"...)
	}
	b = append(b, "\r\n"...)
	return append(b, body...)
}

// brokenError is returned if a connection ended before anything of the answer was read.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// exchange sends one request over c and reads the answer. It keeps c, or closes it.
func (t *transport) exchange(ctx context.Context, c *connection, request, into []byte, method string, limit int64) (answer *http.Response, b []byte, err error) {
	stop := func() bool { return true }
	if ctx.Done() != nil {
		// A deadline in the past ends what goes on, and all that follows.
		stop = context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	}
	answer, b, err = c.exchange(request, into, method, limit)
	undisturbed := stop()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	// More than the answer is the answer to no request.
	if err == nil && undisturbed && !answer.Close && c.reader.Buffered() == 0 {
		t.put(c)
	} else {
		c.Close()
	}
	return answer, b, err
}

func (c *connection) exchange(request, into []byte, method string, limit int64) (*http.Response, []byte, error) {
	c.left = maxHeader + limit + 1
	_, sent := c.Write(request)
	if sent != nil {
		if !c.used.IsZero() { // ended by the agent, as idle connections are
			return nil, nil, &brokenError{sent}
		}
		// The agent answers some new connections and closes them without reading.
		c.SetReadDeadline(time.Now().Add(unsentTime))
	}
	if _, err := c.reader.Peek(1); err != nil {
		if sent != nil {
			err = sent
		} else if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, nil, &brokenError{err}
	}
	answer, err := http.ReadResponse(c.reader, &http.Request{Method: method})
	if err != nil {
		return nil, nil, fmt.Errorf("read the answer: %w", err)
	}
	defer answer.Body.Close()
	b, err := readBody(answer, into, limit)
	if err != nil {
		return nil, nil, err
	}
	if sent != nil {
		answer.Close = true
	}
	return answer, b, nil
}

// readBody reads the body of an answer, at most limit bytes, and appends it to into.
func readBody(answer *http.Response, into []byte, limit int64) (b []byte, err error) {
	b = into
	if size := answer.ContentLength; 0 <= size && size <= limit {
		b = slices.Grow(b, int(size))[:len(b)+int(size)]
		_, err = io.ReadFull(answer.Body, b[len(into):])
	} else if size < 0 {
		b, err = io.ReadAll(io.LimitReader(answer.Body, limit+1))
		b = append(into, b...)
	}
	if err != nil && !errors.Is(err, errTooLong) {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if answer.ContentLength > limit || int64(len(b)-len(into)) > limit || err != nil {
		return nil, fmt.Errorf("the answer is longer than %d bytes", limit)
	}
	return b, nil
}
