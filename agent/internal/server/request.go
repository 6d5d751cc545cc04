// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// A call is one request that passed the table.
type call struct {
	peer    *caller.Peer
	socket  Socket // on which it came
	segment string // value of the braces of the path
	query   url.Values
	body    []byte
	accept  string // header Accept
}

// A job is the work for a call. Its expected size decides when it may begin.
type job struct {
	bytes int64 // expected bytes in memory until the answer is written
	run   func(ctx context.Context) (any, error)

	// brief says that run mostly takes time of the processors, and has a turn of them.
	brief bool
	// make makes the answer of what run returned, in a turn of the processors and without
	// waiting for anything. It may be nil.
	make func(any) (raw, error)
}

// raw is an answer that is encoded already.
type raw []byte

// sensitive is an answer with a secret, which is overwritten after it was sent. Copies in
// buffers of net/http and of the encoder are not overwritten.
type sensitive struct {
	answer any
	secret []byte
}

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	c, _ := r.Context().Value(connKey{}).(*conn)
	defer c.shares.conns.end(c)
	defer func() {
		if x := recover(); x != nil {
			s.Logger.Error("fault while answering", "method", r.Method, "uid", c.peer.UID, "panic", x, "stack", string(debug.Stack()))
			c.shares.counts.request(c.class, api.CodeInternal)
			s.refuse(w, problem.New(api.CodeInternal, "the log of the agent has the reason"))
		}
	}()
	if r.ContentLength != 0 {
		// Also for a body that is ignored: net/http waits for its end. It removes the
		// deadline when the body was read.
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.Limits.BodyTimeout))
	}
	c.class = turn.Inquiry
	err := s.answer(w, r, c)
	if err == nil {
		c.shares.counts.request(c.class, codeOK)
		return
	}
	p := s.problem(err)
	c.shares.counts.request(c.class, p.Code)
	s.refuse(w, p)
}

// answer does one request in the order in which refusing costs least.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, c *conn) error {
	if err := s.still(c); err != nil {
		w.Header().Set("Connection", "close")
		return err
	}
	if wait, ok := c.shares.rates.take(c.peer.UID, time.Now()); !ok {
		c.shares.counts.throttled.Add(1)
		if take(c.shares.slowed) {
			slow(r.Context(), c.shares.slowed)
		}
		return problem.After(problem.New(api.CodeThrottled, fmt.Sprintf("uid %d may ask %g times a second", c.peer.UID, s.Limits.RateEach)), wait)
	}
	route, segment, allow := match(r.Method, r.URL.Path)
	switch {
	case route == nil && allow == nil:
		return problem.New(api.CodeNoSuchPath, "docs/api.md lists what is served")
	case route == nil:
		w.Header().Set("Allow", strings.Join(allow, ", "))
		return problem.New(api.CodeMethod, "want "+strings.Join(allow, " or "))
	case !route.serves(c.socket):
		return problem.New(api.CodeNotPermitted, fmt.Sprintf("only the %[3]s socket serves %[1]s %[2]s", route.Method, route.Path, route.On))
	case c.socket == Admin && carrying(c.peer, route) != nil:
		return carrying(c.peer, route)
	}
	who := route.who(c)
	c.class = who.Class
	query, err := parseQuery(r.URL.RawQuery, route.Query)
	if err != nil {
		return err
	}
	body, done, err := s.readBody(w, r, c, route)
	if err != nil {
		return err
	}
	defer done()
	j, err := route.prepare(s, &call{peer: c.peer, socket: c.socket, segment: segment, query: query, body: body, accept: r.Header.Get("Accept")})
	if err != nil {
		return err
	}
	c.shares.conns.begin(c)
	ctx, cancel := s.context(r, c, route)
	defer cancel()
	ctx = turn.With(ctx, who)
	leave, err := c.shares.gate.Enter(ctx, max(j.bytes, c.shares.least))
	if errors.Is(err, turn.ErrBusy) && take(c.shares.slowed) {
		c.shares.conns.end(c) // another connection may have its place meanwhile
		slow(r.Context(), c.shares.slowed)
	}
	if err != nil {
		return err
	}
	defer leave()
	v, err := j.inTurn(ctx, c.shares.processors)
	if err != nil {
		return err
	}
	return s.deliver(w, c, v)
}

// still returns why a peer may not ask any more. Which containers run the agent learns from the log,
// which it may read after it accepted a connection.
func (s *Server) still(c *conn) error {
	if err := c.peer.Process.Running(); err != nil {
		return err
	}
	if c.socket == Admin {
		if refused := s.outside(c.peer); refused != nil {
			return refused
		}
	}
	return nil
}

// inTurn does the work of j. A turn of the processors ends before the answer is sent: a caller
// may read slowly.
func (j job) inTurn(ctx context.Context, processors *turn.Queue) (any, error) {
	v, err := j.briefly(ctx, processors)
	if err != nil || j.make == nil {
		return v, err
	}
	leave, err := processors.Enter(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer leave()
	return j.make(v)
}

// briefly runs j, in a turn of the processors if it is brief, until it waits.
func (j job) briefly(ctx context.Context, processors *turn.Queue) (any, error) {
	if !j.brief {
		return j.run(ctx)
	}
	return briefly(ctx, processors, j.run)
}

// briefly runs f in a turn of the processors, until it waits.
func briefly[T any](ctx context.Context, processors *turn.Queue, f func(context.Context) (T, error)) (out T, err error) {
	leave, err := processors.Enter(ctx, 1)
	if err != nil {
		return out, err
	}
	leave = sync.OnceFunc(leave)
	defer leave()
	defer time.AfterFunc(briefTurn, leave).Stop()
	return f(turn.Idle(ctx, leave))
}

// encode returns the answer v in JSON.
func encode(v any) (raw, error) {
	b, err := strictjson.Encode(v)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return b, nil
}

// deliver sends an answer that is not a refusal.
func (s *Server) deliver(w http.ResponseWriter, c *conn, v any) error {
	switch v := v.(type) {
	case parts:
		return s.writeParts(w, c, v)
	case metricsText:
		return s.write(w, http.StatusOK, v.media, raw(v.text))
	}
	return s.write(w, http.StatusOK, "application/json", v)
}

// context returns a context that ends with the route's time, or when the peer goes away. It
// does not end when the agent itself stops reading from the connection.
func (s *Server) context(r *http.Request, c *conn, route *route) (context.Context, context.CancelFunc) {
	timeout := time.Duration(float64(route.Timeout) * s.Limits.Patience)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), timeout)
	stop := context.AfterFunc(r.Context(), func() {
		if !c.retired.Load() {
			cancel()
		}
	})
	return ctx, func() { stop(); cancel() }
}

// parseQuery accepts the parameters that a route knows, each at most once and with an
// allowed value.
func parseQuery(query string, known []api.Parameter) (url.Values, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, problem.New(api.CodeUnknownParameter, "the query cannot be parsed")
	}
	for name, v := range values {
		p := problem.New(api.CodeUnknownParameter, "it occurs more than once")
		p.Where = strconv.QuoteToASCII(name[:min(len(name), maxQuoted)])
		if !slices.ContainsFunc(known, func(k api.Parameter) bool { return k.Name == name }) {
			p.Detail = "known here: " + orNone(known)
			return nil, p
		}
		if len(v) != 1 {
			return nil, p
		}
	}
	for _, p := range known {
		switch v := values.Get(p.Name); {
		case p.Required && v == "":
			return nil, problem.Invalid(p.Name, "this parameter is required")
		case v != "" && p.Words != nil && !slices.Contains(p.Words, v):
			return nil, problem.Invalid(p.Name, fmt.Sprintf("want one of %q", p.Words))
		}
	}
	return values, nil
}

// maxQuoted is how many bytes of a caller's text a refusal repeats, before quoting.
const maxQuoted = 64

func orNone(known []api.Parameter) string {
	names := make([]string, len(known))
	for i, p := range known {
		names[i] = p.Name
	}
	return cmp.Or(strings.Join(names, ", "), "none")
}

// write encodes v and sends it within the write timeout.
func (s *Server) write(w http.ResponseWriter, status int, media string, v any) error {
	x, secret := v.(sensitive)
	if secret {
		defer clear(x.secret)
		v = x.answer
	}
	body, ok := v.(raw)
	if !ok {
		var err error
		if body, err = encode(v); err != nil {
			return err
		}
		if secret {
			defer clear(body)
		}
	}
	control := s.writeHeader(w, status, media, len(body))
	w.Write(body) // a peer that went away needs no answer
	// Flushed before the place is given back, so that what is being sent counts.
	control.Flush()
	return nil
}

// writeHeader begins an answer, which is to be sent within the write timeout.
func (s *Server) writeHeader(w http.ResponseWriter, status int, media string, size int) *http.ResponseController {
	h := w.Header()
	h.Set("Content-Type", media)
	h.Set("Cache-Control", "no-store") // identity and nonce are the caller's alone
	h.Set("Content-Length", strconv.Itoa(size))
	if s.draining.Load() {
		h.Set("Connection", "close")
	}
	control := http.NewResponseController(w)
	control.SetWriteDeadline(time.Now().Add(s.Limits.WriteTimeout))
	w.WriteHeader(status)
	return control
}

func (s *Server) refuse(w http.ResponseWriter, p *api.Problem) {
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	if err := s.write(w, p.Status, api.ProblemType, p); err != nil {
		s.Logger.Error("answer with a problem", "error", err)
	}
}
