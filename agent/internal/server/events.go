// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"strconv"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/pcr"
)

// Events records what apps say of themselves.
type Events interface {
	// Emit records an event of o, whose process is in unit: of a template, that is an instance.
	Emit(ctx context.Context, o Owner, unit string, r api.EventRequest) (api.RecordedEvent, error)
	// Events returns those from record start on, in a domain or, if that is empty, in all.
	Events(ctx context.Context, o Owner, start uint64, domain string) (api.Events, error)
}

// withEvents is the budget of an answer with events: each of 1 KiB and a domain of 128 bytes, in
// base64 and JSON, decoded, and one copy on the way.
const withEvents = small + 4*api.MaxListedEvents*(pcr.MaxEmitted+6*pcr.MaxDomain)

// eventRoutes are the routes for what an app says of itself.
var eventRoutes = []route{
	handle(api.CallEmit, (*Server).emit).brief(),
	handle(api.CallEvents, (*Server).events).brief(),
}

func (s *Server) emit(c *call, r api.EventRequest) (job, error) {
	if err := pcr.CheckDomain(r.Domain); err != nil {
		return job{}, problem.Invalid("/domain", err.Error())
	}
	if err := pcr.CheckSaid(r.Content, r.Digest); err != nil {
		return job{}, problem.Invalid("/content", err.Error())
	}
	return s.forOwner(c, small, "events", func(ctx context.Context, o Owner) (any, error) {
		return s.Events.Emit(ctx, o, c.peer.Unit, r)
	}), nil
}

func (s *Server) events(c *call, _ api.None) (job, error) {
	start, err := number(c, api.QueryStart)
	if err != nil {
		return job{}, err
	}
	return s.forOwner(c, withEvents, "events", func(ctx context.Context, o Owner) (any, error) {
		return s.Events.Events(ctx, o, start, c.query.Get(api.QueryDomain))
	}), nil
}

// number returns the value of a parameter that is the number of a record, 0 if it is absent.
func number(c *call, name string) (uint64, error) {
	given := c.query.Get(name)
	if given == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(given, 10, 53) // as in JSON, below 2^53
	if err != nil {
		return 0, problem.Invalid(name, "want a decimal number of a record")
	}
	return n, nil
}
