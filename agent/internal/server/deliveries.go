// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
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
