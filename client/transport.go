// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// transport is HTTP over one unix socket. Its zero value is ready for use.
type transport struct {
	once sync.Once
	http *http.Client
}

// endpoint is one of the two sockets.
type endpoint struct {
	variable string // environment variable that names another path
	usual    string // path without it
}

var (
	clientSocket = endpoint{api.SocketEnv, api.Socket}
	adminSocket  = endpoint{api.AdminEnv, api.AdminSocket}
)

// path returns the path of the socket: set, or the value of the variable, or the usual path.
func (e endpoint) path(set string) string { return cmp.Or(set, os.Getenv(e.variable), e.usual) }

// dialKey carries the path of the socket to the dialer: HTTP knows only hosts.
type dialKey struct{}

func (t *transport) client() *http.Client {
	t.once.Do(func() {
		t.http = &http.Client{
			Transport: &http.Transport{
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					path, _ := ctx.Value(dialKey{}).(string)
					return dial(ctx, path)
				},
				MaxIdleConnsPerHost: 64,
				IdleConnTimeout:     30 * time.Second, // less than the agent's, so that the client closes first
				DisableCompression:  true,
			},
			// The agent never redirects. A redirect of another program is not followed.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	})
	return t.http
}

func (t *transport) close() { t.client().CloseIdleConnections() }

// socket is one of the two sockets, as one client reaches it.
type socket struct {
	*transport
	endpoint
	set string // path that the client was given; empty: see path
}

// send asks at e and returns at most limit bytes of answer. The parameters are pairs of
// name and value. They replace a segment of the path in braces, or go into the query.
func send[Request, Answer any](ctx context.Context, to socket, e api.Endpoint[Request, Answer], r Request, limit int64, parameters ...string) ([]byte, error) {
	target, query := e.Path, url.Values{}
	for i := 0; i < len(parameters); i += 2 {
		if braces := "{" + parameters[i] + "}"; strings.Contains(target, braces) {
			target = strings.Replace(target, braces, url.PathEscape(parameters[i+1]), 1)
		} else if parameters[i+1] != "" {
			query.Set(parameters[i], parameters[i+1])
		}
	}
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	var body []byte
	if _, none := any(r).(api.None); !none {
		var err error
		if body, err = strictjson.Encode(r); err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
	}
	path := to.path(to.set)
	out, err := to.try(context.WithValue(ctx, dialKey{}, path), e.Method, target, body, limit)
	if err != nil {
		if p, ok := errors.AsType[*api.Problem](err); ok {
			return nil, p
		}
		return nil, fmt.Errorf("ask agentd on %s: %w%s", path, err, to.hint(err))
	}
	return out, nil
}

// call asks at e and decodes the answer. Members that this version does not know are
// ignored, as the rules of evolution in package api ask of clients.
func call[Request, Answer any](ctx context.Context, to socket, e api.Endpoint[Request, Answer], r Request, parameters ...string) (*Answer, error) {
	b, err := send(ctx, to, e, r, maxAnswer, parameters...)
	if err != nil {
		return nil, err
	}
	defer clear(b) // it may contain a secret
	return decode[Answer](b)
}

func decode[T any](b []byte) (*T, error) {
	v := new(T)
	if err := strictjson.DecodeForeign(b, len(b), v); err != nil {
		return nil, fmt.Errorf("decode the answer of agentd: %w", err)
	}
	return v, nil
}

// hint says what to do about the failures that happen before the agent is reached.
func (e endpoint) hint(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return " (is agentd running? " + e.variable + " names another socket)"
	case errors.Is(err, unix.EAGAIN):
		return " (so many programs connect at once that the queue of the socket stays full: try again later)"
	case errors.Is(err, fs.ErrPermission):
		return " (is this user in the group of the socket?)"
	}
	return ""
}

func (t *transport) try(ctx context.Context, method, target string, body []byte, limit int64) ([]byte, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://agentd"+target, reader)
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	// Every request may be sent twice without harm; at worst a root has one version more.
	// An empty list tells net/http so, which then tries again when an agent that restarts
	// closed an idle connection. It sends no header.
	r.Header["Idempotency-Key"] = nil
	answer, err := t.client().Do(r)
	if err != nil {
		return nil, unwrapURL(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("the answer is longer than %d bytes", limit)
	}
	if answer.StatusCode == http.StatusOK {
		return b, nil
	}
	return nil, problem(answer, b)
}

// problem returns the error that an answer other than 200 means.
func problem(answer *http.Response, b []byte) error {
	var p api.Problem
	if answer.Header.Get("Content-Type") == api.ProblemType && strictjson.DecodeForeign(b, len(b), &p) == nil && p.Code != "" {
		return &p
	}
	return fmt.Errorf("unexpected HTTP status %d: is another program listening on this socket?", answer.StatusCode)
}

// unwrapURL removes the invented URL, which would only confuse.
func unwrapURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
