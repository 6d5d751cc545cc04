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
	"sync"
	"time"

	"github.com/go-json-experiment/json"
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

// path is where the socket lies: where set says, if it does.
func (e endpoint) path(set string) string { return cmp.Or(set, os.Getenv(e.variable), e.usual) }

// dialKey carries the path of the socket to the dialer, which HTTP knows only hosts for.
type dialKey struct{}

func (t *transport) client() *http.Client {
	t.once.Do(func() {
		t.http = &http.Client{
			Transport: &http.Transport{
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					path, _ := ctx.Value(dialKey{}).(string)
					var d net.Dialer
					return d.DialContext(ctx, "unix", path)
				},
				MaxIdleConnsPerHost: 64,
				IdleConnTimeout:     30 * time.Second, // less than the agent's, so that it is we who close
				DisableCompression:  true,
			},
			// The agent redirects nowhere; whoever answers with one is not followed.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	})
	return t.http
}

func (t *transport) close() { t.client().CloseIdleConnections() }

// do sends one request to the socket at e, or where set says, and reads at most limit
// bytes of the answer.
func (t *transport) do(ctx context.Context, e endpoint, set, method, target string, body any, limit int64) ([]byte, error) {
	socket := e.path(set)
	out, err := t.try(context.WithValue(ctx, dialKey{}, socket), method, target, body, limit)
	if err != nil {
		var p *api.Problem
		if errors.As(err, &p) {
			return nil, p
		}
		return nil, fmt.Errorf("ask agentd on %s: %w%s", socket, err, e.hint(err))
	}
	return out, nil
}

// hint says what to do about the failures that happen before the agent is reached.
func (e endpoint) hint(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return " (is agentd running? " + e.variable + " names another socket)"
	case errors.Is(err, fs.ErrPermission):
		return " (is this user in the group of the socket?)"
	}
	return ""
}

func (t *transport) try(ctx context.Context, method, target string, body any, limit int64) ([]byte, error) {
	var reader io.Reader
	if body != nil {
		b, err := strictjson.Encode(body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		reader = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://agentd"+target, reader)
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	// Every request may be sent twice without harm; at worst a root has one version more. An empty list says so to net/http,
	// which then tries again when an idle connection was closed by an agent that
	// restarts, and sends no header.
	r.Header["Idempotency-Key"] = nil
	answer, err := t.client().Do(r)
	if err != nil {
		return nil, unwrapURL(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("answer of more than %d bytes", limit)
	}
	if answer.StatusCode == http.StatusOK {
		return b, nil
	}
	return nil, problem(answer, b)
}

// problem is the error that an answer other than 200 stands for.
func problem(answer *http.Response, b []byte) error {
	var p api.Problem
	if answer.Header.Get("Content-Type") == api.ProblemType && json.Unmarshal(b, &p) == nil && p.Code != "" {
		return &p
	}
	return fmt.Errorf("answer with status %s that is no problem of agentd: is something else listening there?", answer.Status)
}

// unwrapURL takes off the invented URL, which would only confuse.
func unwrapURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// decode reads an answer. Members that this version does not know are passed over, as
// the rules of evolution in package api ask of clients.
func decode[T any](b []byte, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("decode answer of agentd: %w", err)
	}
	return v, nil
}
