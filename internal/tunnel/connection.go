// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/cvm-agentd/agentd/attestedtls"
)

// handle carries one connection from its beginning to its end.
func (t *tunnel) handle(ctx context.Context, accepted net.Conn) {
	began, s := time.Now(), t.now.Load()
	r := &Record{ID: newID(), Role: s.Role, Peer: address(accepted.RemoteAddr()), To: s.To.String()}
	p := party(accepted.RemoteAddr())
	if err := t.enter(p, s.Limits); err != nil {
		reset(accepted)
		r.ended(Limited, err)
	} else {
		if s.Role == Serve {
			t.serve(ctx, s, accepted, r)
		} else {
			t.connect(ctx, s, accepted, r)
		}
		t.leave(p)
	}
	r.Time, r.Duration = time.Now(), time.Since(began).Milliseconds()
	t.record(r)
}

// newID returns a name for a connection, which records of both ends of a program can share.
func newID() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// serve is the end inside the machine: the service hears of a connection only after both ends have
// accepted each other.
func (t *tunnel) serve(ctx context.Context, s *setup, accepted net.Conn, r *Record) {
	outer, began := s.server.Conn(accepted), time.Now()
	if err := outer.Handshake(ctx); err != nil {
		outer.Close()
		r.ended(failedBy(ctx, Refused), err)
		return
	}
	if s.WellKnown && outer.ConnectionState().NegotiatedProtocol != attestedtls.Protocol {
		s.answerWeb(ctx, outer)
		r.ended(Web, nil)
		return
	}
	t.figures.exchanges.Observe(time.Since(began).Seconds())
	r.judged(outer.Verdict())
	inner, err := dial(ctx, s)
	if err == nil {
		err = s.introduce(inner, outer, r)
	}
	if err != nil {
		reset(accepted)
		outer.Close() // so that its verifier forgets it
		r.ended(failedBy(ctx, Unreachable), err)
		return
	}
	t.pass(ctx, s, &pipe{outer: outer, inner: inner.(stream), sockets: []net.Conn{accepted, inner}, total: t.figures}, r)
}

// connect is the end outside: not a byte of the program leaves before the other end was accepted.
func (t *tunnel) connect(ctx context.Context, s *setup, accepted net.Conn, r *Record) {
	socket, err := dial(ctx, s)
	if err != nil {
		reset(accepted)
		r.ended(failedBy(ctx, Unreachable), err)
		return
	}
	name := s.ServerName
	if name == "" {
		name = s.To.Host()
	}
	inner, began := s.client.Conn(socket, name), time.Now()
	if err := inner.Handshake(ctx); err != nil {
		inner.Close()
		reset(accepted)
		r.ended(failedBy(ctx, Refused), err)
		return
	}
	t.figures.exchanges.Observe(time.Since(began).Seconds())
	r.judged(inner.Verdict())
	t.pass(ctx, s, &pipe{outer: accepted.(stream), inner: inner, sockets: []net.Conn{accepted, socket}, total: t.figures}, r)
}

// failedBy returns why a connection failed: the tunnel may have been stopped meanwhile.
func failedBy(ctx context.Context, result Result) Result {
	if ctx.Err() != nil {
		return Stopped
	}
	return result
}

// dial connects to what the settings say.
func dial(ctx context.Context, s *setup) (net.Conn, error) {
	d := net.Dialer{Timeout: s.Limits.Connect}
	c, err := d.DialContext(ctx, s.To.Network, s.To.Name)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", s.To, err)
	}
	return c, nil
}

// introduce tells the service of a connection, if it is to hear of it. It closes the connection to the
// service if that fails.
func (s *setup) introduce(service net.Conn, c *attestedtls.Conn, r *Record) error {
	if !s.ProxyProtocol {
		return nil
	}
	header, err := proxyHeader(c, r)
	if err == nil {
		service.SetWriteDeadline(time.Now().Add(s.Limits.Connect))
		_, err = service.Write(header)
		service.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		reset(service)
		return fmt.Errorf("tell %s of the connection: %w", s.To, err)
	}
	return nil
}

// pass passes bytes until the end, or until ctx ends.
func (t *tunnel) pass(ctx context.Context, s *setup, p *pipe, r *Record) {
	defer context.AfterFunc(ctx, func() { p.cut(errStopped) })()
	err := p.run(s.Limits.Idle)
	r.Up, r.Down = p.up.Load(), p.down.Load()
	switch e, refused := errors.AsType[*attestedtls.Error](err); {
	case err == nil:
		r.ended(Closed, nil)
	case err == errIdle:
		r.ended(Idle, nil)
	case err == errStopped:
		r.ended(Stopped, nil)
	case refused && e.Code == attestedtls.CodeTruncated:
		r.ended(Broken, err)
	case refused && e.Verdict != nil:
		r.ended(Withdrawn, err)
	case refused:
		r.ended(Refused, err)
	default:
		r.ended(Broken, err)
	}
}

// record says what became of a connection.
func (t *tunnel) record(r *Record) {
	t.figures.note(r)
	t.access.write(r)
	switch r.Result {
	case Refused, Withdrawn, Unreachable, Limited:
		if t.told.Allow() {
			t.Log(fmt.Sprintf("connection %s of %s: %s: %s", r.ID, orLocal(r.Peer), r.Result, r.Error))
		}
	}
}

// orLocal returns the name of a peer, which programs on unix sockets have none of.
func orLocal(peer string) string {
	if peer == "unix:" || peer == "" {
		return "a local program"
	}
	return peer
}
