// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// bufferSize is how much is read at once in one direction. A record of TLS has at most 16 KiB.
const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// stream is one side of a connection: its end can be sent without closing it.
type stream interface {
	net.Conn
	CloseWrite() error
}

// pipe passes bytes between two sides, each of which has its own socket below.
type pipe struct {
	outer, inner stream     // outer: the side that was accepted; inner: the one that was connected to
	sockets      []net.Conn // below both sides

	began time.Time
	last  atomic.Int64  // when a byte passed, after began
	up    atomic.Uint64 // bytes from outer to inner
	down  atomic.Uint64 // bytes from inner to outer
	total *figures      // of all pipes

	once sync.Once
	why  error // why it was cut off; written once, read after both directions ended
}

// Reasons for which a pipe is cut off.
var (
	errIdle    = errors.New("no byte passed for the idle timeout")
	errStopped = errors.New("the tunnel was stopped")
)

// cut breaks both sides off. Their peers see a reset, not an end: what they got is not whole.
func (p *pipe) cut(why error) {
	p.once.Do(func() {
		p.why = why
		for _, s := range p.sockets {
			reset(s)
		}
	})
}

// run passes bytes until both directions ended, and returns nil if both ended in order. Both sides
// are closed then.
func (p *pipe) run(idle time.Duration) error {
	p.began = time.Now()
	done := make(chan struct{})
	go p.watch(idle, done)
	var both sync.WaitGroup
	both.Go(func() { p.copy(p.inner, p.outer, &p.up, &p.total.up) })
	both.Go(func() { p.copy(p.outer, p.inner, &p.down, &p.total.down) })
	both.Wait()
	close(done)
	p.once.Do(func() {}) // what comes later has nothing to cut
	p.outer.Close()
	p.inner.Close()
	return p.why
}

// watch cuts the pipe off when no byte has passed for so long.
func (p *pipe) watch(idle time.Duration, done <-chan struct{}) {
	t := time.NewTimer(idle)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
		}
		quiet := time.Since(p.began) - time.Duration(p.last.Load())
		if quiet >= idle {
			p.cut(errIdle)
			return
		}
		t.Reset(idle - quiet)
	}
}

// copy passes one direction, and its end.
func (p *pipe) copy(to, from stream, count, total *atomic.Uint64) {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	for {
		n, err := from.Read(buffer[:])
		if n > 0 {
			p.last.Store(int64(time.Since(p.began)))
			if _, err := to.Write(buffer[:n]); err != nil {
				p.cut(err)
				return
			}
			count.Add(uint64(n))
			total.Add(uint64(n))
			p.last.Store(int64(time.Since(p.began)))
		}
		switch {
		case err == io.EOF: // not an error that wraps it, which no end of a stream has
			if err := to.CloseWrite(); err != nil {
				p.cut(err)
			}
			return
		case err != nil:
			p.cut(err)
			return
		}
	}
}

// reset closes a socket so that the peer sees that the connection broke off. On a unix socket the
// peer sees an end all the same.
func reset(c net.Conn) {
	if t, is := c.(*net.TCPConn); is {
		t.SetLinger(0)
	}
	c.Close()
}
