// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"reflect"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/api"
)

// A route is one row of the permission table: an endpoint of package api, and what
// answers it. Only what has a row is served, and no handler checks again.
type route struct {
	api.Route
	request, answer reflect.Type // types in openapi.json
	prepare         func(*Server, *call) (job, error)
}

// handle returns the row of e. The body is decoded strictly before prepare sees it.
func handle[Request, Answer any](e api.Endpoint[Request, Answer], prepare func(*Server, *call, Request) (job, error)) route {
	return route{e.Route, reflect.TypeFor[Request](), reflect.TypeFor[Answer](), func(s *Server, c *call) (job, error) {
		var r Request
		if _, none := any(r).(api.None); !none {
			if err := decode(c.body, &r); err != nil {
				return job{}, err
			}
		}
		return prepare(s, c, r)
	}}
}

// answer returns the row of e if the answer needs only the request. bytes is the budget of
// the answer.
func answer[Request, Answer any](e api.Endpoint[Request, Answer], bytes int64, run func(context.Context, *Server, Request) (Answer, error)) route {
	return handle(e, func(s *Server, _ *call, r Request) (job, error) {
		return job{bytes: bytes, run: func(ctx context.Context) (any, error) { return run(ctx, s, r) }}, nil
	})
}

// brief returns r for requests that mostly take time of the processors.
func (r route) brief() route {
	prepare := r.prepare
	r.prepare = func(s *Server, c *call) (job, error) {
		j, err := prepare(s, c)
		j.brief = true
		return j, err
	}
	return r
}

// routes is the permission table.
var routes = slices.Concat(agentRoutes, processRoutes, keyRoutes, eventRoutes, storeRoutes, diskRoutes, containerRoutes, upgradeRoutes, deliveryRoutes)

// serves reports whether a connection of socket may use a route.
func (r *route) serves(socket Socket) bool {
	return r.On == api.OnBoth || string(r.On) == string(socket)
}

// match returns the row for method and path, with the segment that matches the braces.
// If only the method is wrong, allow lists those that are right.
func match(method, path string) (r *route, segment string, allow []string) {
	for i := range routes {
		value, ok := matchPath(routes[i].Path, path)
		if !ok {
			continue
		}
		if routes[i].Method == method {
			return &routes[i], value, nil
		}
		allow = append(allow, routes[i].Method)
	}
	return nil, "", allow
}

func matchPath(pattern, path string) (segment string, ok bool) {
	before, rest, braces := strings.Cut(pattern, "{")
	if !braces {
		return "", pattern == path
	}
	_, after, _ := strings.Cut(rest, "}")
	middle, ok := strings.CutPrefix(path, before)
	if !ok {
		return "", false
	}
	segment, ok = strings.CutSuffix(middle, after)
	return segment, ok && segment != "" && !strings.Contains(segment, "/")
}
