// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/delivery"
)

// Deliveries takes in secrets that relying parties encrypted, for administrators. None of what goes
// in or comes out is secret from an administrator.
type Deliveries interface {
	// Ticket makes evidence on behalf of c.
	Ticket(ctx context.Context, r api.TicketRequest, c evidence.Caller) (api.DeliveryTicket, error)
	Receive(ctx context.Context, sealed []byte) (api.ReceivedSecret, error)
}

// deliveryRoutes are the routes for secrets that relying parties deliver.
var deliveryRoutes = []route{
	handle(api.CallTicket, func(s *Server, c *call, r api.TicketRequest) (job, error) {
		return job{bytes: message + s.withLog(), run: func(ctx context.Context) (any, error) {
			return s.Deliveries.Ticket(ctx, r, c.peer.Caller(ctx, s.Apps))
		}}, nil
	}),
	answer(api.CallReceive, withSecret, func(ctx context.Context, s *Server, r api.ReceiveRequest) (api.ReceivedSecret, error) {
		return s.Deliveries.Receive(ctx, r.Sealed)
	}),
}

// carried are the routes that the unit between the network and the admin socket needs.
var carried = []string{api.CallTicket.Path, api.CallReceive.Path}

// carrying refuses all other administration to that unit: an attacker who takes it over, from the
// network, can make tickets and give messages.
func carrying(p *caller.Peer, r *route) *api.Problem {
	if p.Unit != delivery.Unit || slices.Contains(carried, r.Path) {
		return nil
	}
	return problem.New(api.CodeNotPermitted, fmt.Sprintf("unit %s may make tickets and give messages, and nothing else of administration", delivery.Unit))
}
