// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// conn is an admitted connection and its peer.
type conn struct {
	*net.UnixConn
	peer    *caller.Peer
	socket  Socket
	shares  *shares
	since   time.Time    // accepted, or last answered
	busy    bool         // a complete request is being answered
	class   turn.Class   // of the last request whose route was found
	retired atomic.Bool  // no further request will be read; no longer counted
	evicted atomic.Bool  // retired because another connection needs its place
	partial atomic.Bool  // something of the next request was read
	state   atomic.Int32 // http.ConnState
	holding bool         // Write keeps what it gets: see writeParts
	held    []byte       // what it keeps
	once    sync.Once
}

type connKey struct{}

// Read also records that a request has begun: net/http says so only when it has all
// headers.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.UnixConn.Read(b)
	if n > 0 {
		c.partial.Store(true)
	}
	return n, err
}

// SetWriteDeadline gives an evicted connection less time. Otherwise a peer that does not
// read its answer could keep the connection, outside all limits, for the write timeout.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if c.evicted.Load() {
		if end := time.Now().Add(c.shares.conns.patience); t.IsZero() || t.After(end) {
			t = end
		}
	}
	return c.UnixConn.SetWriteDeadline(t)
}

// Close also releases the process.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.shares.conns.remove(c)
		c.peer.Process.Close()
	})
	return c.UnixConn.Close()
}

// connections counts connections, in all and by uid.
type connections struct {
	mu        sync.Mutex
	all, each int
	open      map[*conn]struct{}
	evicted   uint64 // connections that gave way to another one
	counted   int    // open and not retired; the others are ending
	users     map[uint32]int
	away      chan struct{} // connections being turned away
	patience  time.Duration
	grace     time.Duration
}

func newConnections(l Limits) *connections {
	return &connections{
		all: l.Connections, each: l.ConnectionsEach, open: map[*conn]struct{}{}, users: map[uint32]int{},
		away: make(chan struct{}, 64), patience: min(l.HeaderTimeout, 2*time.Second),
		grace: defaultGrace,
	}
}

// add counts c. If the uid has its share already, or all connections are taken, it evicts
// the connection that has waited longest for its own request: one of the same uid, or one
// of the uid with the most connections.
func (t *connections) add(c *conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	uid := c.peer.UID
	switch {
	case t.users[uid] >= t.each:
		if !t.evict(uid) {
			return false
		}
	case t.counted >= t.all:
		largest, most := uid, t.users[uid]
		for u, n := range t.users {
			if n > most {
				largest, most = u, n
			}
		}
		if !t.evict(largest) {
			return false
		}
	}
	c.since = time.Now()
	t.open[c] = struct{}{}
	t.counted++
	t.users[uid]++
	return true
}

func (t *connections) remove(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.open[c]; !ok {
		return
	}
	delete(t.open, c)
	if !c.retired.Load() {
		t.discount(c)
	}
}

func (t *connections) discount(c *conn) {
	t.counted--
	if t.users[c.peer.UID]--; t.users[c.peer.UID] == 0 {
		delete(t.users, c.peer.UID)
	}
}

// evict ends the connection of uid that has been without a request for the longest time.
func (t *connections) evict(uid uint32) bool {
	var oldest *conn
	for c := range t.open {
		if c.peer.UID == uid && !c.busy && !c.retired.Load() && (oldest == nil || c.since.Before(oldest.since)) {
			oldest = c
		}
	}
	if oldest == nil {
		return false
	}
	oldest.evicted.Store(true)
	t.evicted++
	if lingering := len(t.open) - t.counted; lingering >= max(16, t.all/4) {
		// Too many evicted connections have not ended: their peers do not read the answers.
		oldest.retired.Store(true)
		t.discount(oldest)
		oldest.UnixConn.Close()
		return true
	}
	oldest.UnixConn.SetWriteDeadline(time.Now().Add(t.patience))
	t.retire(oldest)
	return true
}

// retire ends reading from c. What the kernel has received is still read, so that a request
// that arrived is answered. A later write of the peer fails with EPIPE before any of it was
// read, which tells the peer to try again on a new connection. Closing c instead would lose
// a request that has just arrived.
func (t *connections) retire(c *conn) {
	c.retired.Store(true)
	t.discount(c)
	c.CloseRead()
}

// begin records that a complete request of c is being answered, end that it was.
func (t *connections) begin(c *conn) {
	t.mu.Lock()
	c.busy = true
	t.mu.Unlock()
}

func (t *connections) end(c *conn) {
	t.mu.Lock()
	c.busy, c.since = false, time.Now()
	c.partial.Store(false)
	t.mu.Unlock()
}

// defaultGrace is how long a connection may take for its first request when the agent stops.
// A peer that has just connected is about to write. A client whose new connection breaks
// does not try again by itself, as it does with a kept one.
const defaultGrace = 500 * time.Millisecond

// drain retires every connection that waits for a request of which nothing has arrived. It
// returns how many connections are left in all.
func (t *connections) drain() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.open {
		if c.busy || c.partial.Load() || c.retired.Load() {
			continue
		}
		switch http.ConnState(c.state.Load()) {
		case http.StateNew:
			if time.Since(c.since) < t.grace {
				continue
			}
		case http.StateIdle:
		default:
			continue
		}
		if pending(c.UnixConn) == 0 {
			t.retire(c)
		}
	}
	return len(t.open)
}

// pending returns how many bytes the peer has written that were not read yet.
func pending(c *net.UnixConn) int {
	n := 0
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n
}

// turnAway answers the first request on c with p and closes c. That costs little: the peer
// gets two seconds, and a few kilobytes are read. If too many connections are being turned
// away, it writes the answer without reading.
func (t *connections) turnAway(c *net.UnixConn, p *api.Problem) {
	answer := rawProblem(p)
	select {
	case t.away <- struct{}{}:
	default:
		unread(c, answer)
		return
	}
	go func() {
		defer func() { <-t.away }()
		defer c.Close()
		c.SetDeadline(time.Now().Add(t.patience))
		// If the answer came before the request, some clients would still be writing, and
		// report a broken pipe instead of the reason.
		readHeader(c)
		c.Write(answer)
		c.CloseWrite()
		io.Copy(io.Discard, io.LimitReader(c, api.CallEvidence.Body))
	}()
}

// unread writes an answer, for which a new connection has room, without waiting, and closes c.
func unread(c *net.UnixConn, answer []byte) {
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	// Without a deadline, which a busy machine can let pass before anything is written.
	raw.Control(func(fd uintptr) { unix.SendmsgN(int(fd), answer, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL) })
}

// readHeader reads up to the empty line that ends the headers, at most 8 KiB.
func readHeader(r io.Reader) {
	buf := make([]byte, 0, 8<<10)
	for len(buf) < cap(buf) {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil || bytes.Contains(buf, []byte("\r\n\r\n")) {
			return
		}
	}
}

func rawProblem(p *api.Problem) []byte {
	body, err := strictjson.Encode(p)
	if err != nil {
		body = []byte("{}")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nCache-Control: no-store\r\n", p.Status, http.StatusText(p.Status), api.ProblemType)
	if p.RetryAfter > 0 {
		fmt.Fprintf(&b, "Retry-After: %d\r\n", p.RetryAfter)
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	return b.Bytes()
}
