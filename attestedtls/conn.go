// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cvm-agentd/agentd/verify"
)

// Conn is one end of a connection. Handshake and exchange take place with the first use of it, or
// with [Conn.Handshake]. Until both ends have accepted each other, no byte of the application is
// sent or given out. Its methods may be called by many goroutines at once.
type Conn struct {
	end   *end
	inner net.Conn
	tls   *tls.Conn
	local *tls.Certificate // that this end used; the handshake writes it

	verdict atomic.Pointer[Verdict]

	shaking sync.Mutex // guards the three below, and is held while the exchange goes on
	done    bool       // the exchange ended, with err
	err     error
	begun   bool // this end's start was sent, at least in part

	passed atomic.Bool // done, and err is nil

	starting sync.Mutex // guards the three below
	started  bool       // the other end's start was read
	first    frame      // with that start
	wrong    error      // of a message that came and is not that start
	confirm  []byte     // that it must contain; the handshake writes it

	closed atomic.Bool           // Close was called
	saying atomic.Bool           // a refusal is on its way, after which the connection is closed
	why    atomic.Pointer[Error] // why this end closed an open connection
}

// newConn returns the end e of a connection, or one whose handshake fails with err.
func newConn(inner net.Conn, e *end, err error, serverName string) *Conn {
	c := &Conn{end: e, inner: inner, done: err != nil, err: err}
	if err != nil {
		return c
	}
	config := e.tls.Clone()
	if e.role == roleClient {
		if config.ServerName == "" {
			config.ServerName = serverName
		}
		config.GetClientCertificate = c.clientCertificate(e.tls)
		c.tls = tls.Client(whole{inner}, config)
		return c
	}
	if len(config.Certificates) == 1 && config.GetCertificate == nil {
		c.local = &config.Certificates[0]
	} else {
		config.Certificates, config.GetCertificate = nil, c.serverCertificate(e.tls)
	}
	c.tls = tls.Server(whole{inner}, config)
	return c
}

// errCut is returned when the connection ended below TLS.
var errCut = fmt.Errorf("attested TLS: the connection broke off, without the end that TLS has: %w", io.ErrUnexpectedEOF)

// whole is a connection below TLS whose end is an error. Package crypto/tls takes an end between two
// records for that of the stream, also without a close_notify. An attacker in the network could then
// have a program take the first part of what was sent for all of it (RFC 8446, section 6.1).
type whole struct{ net.Conn }

func (w whole) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if err == io.EOF {
		err = errCut
	}
	return n, err
}

// clientCertificate returns what chooses the certificate of a client as crypto/tls does, and notes
// which one it was.
func (c *Conn) clientCertificate(config *tls.Config) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(r *tls.CertificateRequestInfo) (chosen *tls.Certificate, err error) {
		if config.GetClientCertificate != nil {
			chosen, err = config.GetClientCertificate(r)
		} else {
			for i := range config.Certificates {
				if r.SupportsCertificate(&config.Certificates[i]) == nil {
					chosen = &config.Certificates[i]
					break
				}
			}
		}
		if chosen == nil && err == nil {
			chosen = new(tls.Certificate) // none
		}
		c.local = chosen
		return chosen, err
	}
}

// serverCertificate does the same for a server.
func (c *Conn) serverCertificate(config *tls.Config) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(h *tls.ClientHelloInfo) (chosen *tls.Certificate, err error) {
		if config.GetCertificate != nil && (len(config.Certificates) == 0 || h.ServerName != "") {
			chosen, err = config.GetCertificate(h)
		}
		for i := 0; i < len(config.Certificates) && chosen == nil && err == nil; i++ {
			if h.SupportsCertificate(&config.Certificates[i]) == nil {
				chosen = &config.Certificates[i]
			}
		}
		if chosen == nil && err == nil && len(config.Certificates) > 0 {
			chosen = &config.Certificates[0]
		}
		c.local = chosen
		return chosen, err
	}
}

// Handshake has both ends accept each other, if that was not done yet. Its error is an [*Error] if
// one of them refused. The connection is then closed.
func (c *Conn) Handshake(ctx context.Context) error {
	if c.passed.Load() {
		return nil
	}
	first, err := c.handshakeOnce(ctx)
	if first && c.end.ended != nil {
		c.end.ended(c, err)
	}
	return err
}

// handshakeOnce does it, or waits for the goroutine that does. First reports whether it was this
// one.
func (c *Conn) handshakeOnce(ctx context.Context) (first bool, err error) {
	c.shaking.Lock()
	defer c.shaking.Unlock()
	if c.done {
		return false, c.err
	}
	ctx, cancel := context.WithTimeout(ctx, c.end.timeout)
	defer cancel()
	c.err = c.shake(ctx)
	c.done = true
	if c.err == nil {
		c.passed.Store(true)
	} else {
		c.giveUp()
	}
	return true, c.err
}

// shake takes a turn, and does TLS's handshake and the exchange.
func (c *Conn) shake(ctx context.Context) error {
	if turns := c.end.turns; turns != nil {
		select {
		case turns <- struct{}{}:
			defer func() { <-turns }()
		default:
			return refuse(CodeBusy, "%d exchanges are under way", cap(turns))
		}
	}
	if err := c.tls.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			return interrupted(ctx)
		}
		if ended(err) {
			return refuse(CodeTruncated, "the connection ended in the handshake of TLS: %w", err)
		}
		return refuse(CodeTLS, "%w", err)
	}
	state := c.tls.ConnectionState()
	if c.end.plain && (state.NegotiatedProtocol == "" || state.NegotiatedProtocol == "http/1.1") {
		c.starting.Lock()
		c.started = true
		c.starting.Unlock()
		return nil
	}
	ctx, slow := context.WithCancelCause(ctx)
	defer slow(nil)
	interrupting := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupting)
		c.tls.SetDeadline(time.Unix(1, 0)) // ends reads and writes
	})
	x := &exchange{c: c, e: c.end, state: &state, slow: slow}
	err := x.run(ctx)
	if !stop() {
		<-interrupting // what is sent next sets another deadline
		return interrupted(ctx)
	}
	if err != nil {
		return asError(err)
	}
	if c.end.verifier != nil {
		c.end.verifier.remember(x)
		c.end.verifier.keep(c, x.ruling)
	}
	return nil
}

// interrupted returns the error of an exchange whose context ended.
func interrupted(ctx context.Context) error {
	switch err := context.Cause(ctx); {
	case errors.Is(err, errSlow):
		return refuse(CodeTimeout, "%w: want at least %d bytes in a second", err, largeLeastSpeed)
	case !errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return refuse(CodeTimeout, "the time for handshake and exchange is over: %w", context.DeadlineExceeded)
}

// asError returns err as a refusal.
func asError(err error) error {
	if e := (*Error)(nil); errors.As(err, &e) || errors.Is(err, context.Canceled) {
		return err
	}
	if e := (*net.OpError)(nil); errors.As(err, &e) && (e.Op == "remote error" || e.Op == "local error") {
		return refuse(CodeTLS, "%w", err) // an alert
	}
	return refuse(CodeTruncated, "the connection ended before the exchange did: %w", err)
}

// Times of the end of a refused connection.
const (
	sayTime    = time.Second // to tell the other end why
	lingerTime = time.Second // for the other end to read it: data left unread would make the kernel discard what was sent
	lingerMost = 64 << 10    // bytes that are read meanwhile
)

// giveUp tells the other end why, and closes the connection.
func (c *Conn) giveUp() {
	var e *Error
	if !errors.As(c.err, &e) || e.Remote || c.begun || !e.Code.sent() || !c.tls.ConnectionState().HandshakeComplete || c.tls.ConnectionState().NegotiatedProtocol != Protocol {
		c.inner.Close()
		return
	}
	c.say(e.Code)
}

// say sends a refusal, and closes the connection in the background when the other end has read it.
func (c *Conn) say(code Code) {
	c.saying.Store(true)
	c.tls.SetDeadline(time.Now().Add(sayTime))
	if b, err := encode(&refused{Type: kindRefused, Code: code}); err == nil {
		c.tls.Write(b)
		c.tls.CloseWrite()
	}
	go func() {
		c.inner.SetReadDeadline(time.Now().Add(lingerTime))
		io.CopyN(io.Discard, c.inner, lingerMost)
		c.inner.Close()
	}()
}

// closeFor closes an open connection that is refused after all.
func (c *Conn) closeFor(err error) {
	e := (*Error)(nil)
	if !errors.As(err, &e) {
		e = refuse(CodeBlocked, "%w", err)
	}
	c.why.Store(e)
	c.end.verifier.drop(c)
	c.inner.Close() // at once: an end of TLS would have to wait for an end that does not read
}

// awaitStart reads the start of the other end, which comes before its first application data. A
// deadline may interrupt it, and the next call goes on. What came in place of the start is refused
// by each call. The other end is not told why: after this end's start it would take a message for
// application data.
func (c *Conn) awaitStart() error {
	c.starting.Lock()
	defer c.starting.Unlock()
	if c.started || c.wrong != nil {
		return c.wrong
	}
	b, err := c.first.read(c.tls, maxMessage, nil)
	if err == nil {
		var m start
		if _, err = decode(b, &m); err == nil && !bytes.Equal(m.Confirm, c.confirm) {
			err = refuse(CodeEarlyData, "the other end's start does not contain what this end's verdict did")
		}
	}
	if e := (*Error)(nil); errors.As(err, &e) {
		c.wrong, c.first = e, frame{}
		c.why.CompareAndSwap(nil, e)
		c.Close()
		return e
	}
	if ended(err) {
		return refuse(CodeTruncated, "the connection ended before the other end's start: %w", io.ErrUnexpectedEOF)
	}
	if err == nil {
		c.started, c.first = true, frame{}
	}
	return err
}

// Read reads application data. Like all methods that use the connection, it begins with the
// handshake.
func (c *Conn) Read(b []byte) (int, error) {
	if err := c.Handshake(context.Background()); err != nil {
		return 0, err
	}
	if err := c.awaitStart(); err != nil {
		return 0, c.because(err)
	}
	n, err := c.tls.Read(b)
	return n, c.because(err)
}

// Write writes application data.
func (c *Conn) Write(b []byte) (int, error) {
	if err := c.Handshake(context.Background()); err != nil {
		return 0, err
	}
	n, err := c.tls.Write(b)
	return n, c.because(err)
}

// because replaces the error of a connection that this end closed by the reason.
func (c *Conn) because(err error) error {
	if why := c.why.Load(); err != nil && why != nil {
		return why
	}
	return err
}

// CloseWrite ends the stream of this end's data. The other end can still send.
func (c *Conn) CloseWrite() error {
	if !c.passed.Load() {
		return errors.New("attested TLS: the handshake is not complete")
	}
	return c.tls.CloseWrite()
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.closed.Store(true)
	if c.end != nil && c.end.verifier != nil {
		c.end.verifier.drop(c)
	}
	switch {
	case c.saying.Load():
		return nil // it is closed when the other end has read why
	case !c.passed.Load():
		return c.inner.Close() // interrupts a handshake
	}
	return c.tls.Close()
}

// ConnectionState returns what TLS says about the connection, after the handshake. It is zero if
// the handshake failed.
func (c *Conn) ConnectionState() tls.ConnectionState {
	if c.Handshake(context.Background()) != nil {
		return tls.ConnectionState{}
	}
	return c.tls.ConnectionState()
}

// Verdict returns the verdict on the other end's evidence, or nil if there is none: this end does
// not verify, or the handshake did not succeed. If JudgeOpen is set, it is the last one, also after
// that closed the connection.
func (c *Conn) Verdict() *Verdict {
	if !c.passed.Load() {
		return nil
	}
	return c.verdict.Load()
}

// Claims returns the claims of the other end's accepted evidence, or nil.
func (c *Conn) Claims() *verify.Claims {
	if v := c.Verdict(); v != nil {
		return v.Claims
	}
	return nil
}

// LocalAddr returns the address of this end.
func (c *Conn) LocalAddr() net.Addr { return c.inner.LocalAddr() }

// RemoteAddr returns the address of the other end.
func (c *Conn) RemoteAddr() net.Addr { return c.inner.RemoteAddr() }

// SetDeadline sets the deadlines for reading and writing. They also interrupt the handshake, which
// then fails.
func (c *Conn) SetDeadline(t time.Time) error { return c.inner.SetDeadline(t) }

// SetReadDeadline sets the deadline for reading. See [Conn.SetDeadline].
func (c *Conn) SetReadDeadline(t time.Time) error { return c.inner.SetReadDeadline(t) }

// SetWriteDeadline sets the deadline for writing. See [Conn.SetDeadline].
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.inner.SetWriteDeadline(t) }

// String names the ends, for logs.
func (c *Conn) String() string {
	return fmt.Sprintf("attested TLS from %v to %v", c.LocalAddr(), c.RemoteAddr())
}
