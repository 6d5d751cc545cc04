// SPDX-License-Identifier: Apache-2.0

package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

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

// socket is one of the two sockets, as one client reaches it.
type socket struct {
	*transport
	endpoint
	set  string // path that the client was given; empty: see path
	into []byte // what the answer of send is appended to
}

// send asks at e and returns at most limit bytes of answer, after to.into. The parameters are pairs of
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
		defer clear(body) // it may contain a secret
	}
	path := to.path(to.set)
	answer, out, err := to.try(ctx, path, e.Method, target, body, to.into, limit)
	if err != nil {
		return nil, fmt.Errorf("ask agentd on %s: %w%s", path, err, to.hint(err))
	}
	if answer.StatusCode == http.StatusOK {
		return out, nil
	}
	if err = problem(answer, out[len(to.into):]); !errors.As(err, new(*api.Problem)) {
		err = fmt.Errorf("ask agentd on %s: %w", path, err)
	}
	return nil, err
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

// problem returns the error that an answer other than 200 means.
func problem(answer *http.Response, b []byte) error {
	var p api.Problem
	if answer.Header.Get("Content-Type") == api.ProblemType && strictjson.DecodeForeign(b, len(b), &p) == nil && p.Code != "" {
		return &p
	}
	return fmt.Errorf("unexpected HTTP status %d: is another program listening on this socket?", answer.StatusCode)
}
