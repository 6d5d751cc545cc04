// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/sealing"
)

// Upgrades moves the store to another image, for administrators. What it returns is secret from
// all but the successor, and so is not secret here.
type Upgrades interface {
	Status(ctx context.Context) (api.UpgradeStatus, error)
	PinReleaseKey(ctx context.Context, r api.ReleaseKeyRequest) (api.UpgradeStatus, error)
	Prepare(ctx context.Context, r api.PrepareRequest) (api.PreparedUpgrade, error)
	// Request makes evidence on behalf of c.
	Request(ctx context.Context, r api.SuccessorRequest, c evidence.Caller) (api.SuccessorMessage, error)
	Answer(ctx context.Context, r api.HandOverRequest) (api.HandedOver, error)
	Accept(ctx context.Context, answer []byte, key sealing.StoreKey) (api.AcceptedUpgrade, error)
	Abort(ctx context.Context) (api.AbortedUpgrade, error)
	Finish(ctx context.Context) (api.UpgradeStatus, error)
}

// message is the budget of a request or an answer with a message of the largest size: in base64,
// decoded, and copies on the way.
const message = 24 << 20

// upgradeRoutes are the routes for an upgrade.
var upgradeRoutes = []route{
	answer(api.CallUpgrade, small, func(ctx context.Context, s *Server, _ api.None) (api.UpgradeStatus, error) {
		return s.Upgrades.Status(ctx)
	}),
	answer(api.CallPinReleaseKey, small, func(ctx context.Context, s *Server, r api.ReleaseKeyRequest) (api.UpgradeStatus, error) {
		return s.Upgrades.PinReleaseKey(ctx, r)
	}),
	answer(api.CallPrepareUpgrade, wholeStore, func(ctx context.Context, s *Server, r api.PrepareRequest) (api.PreparedUpgrade, error) {
		return s.Upgrades.Prepare(ctx, r)
	}),
	handle(api.CallSuccessor, func(s *Server, c *call, r api.SuccessorRequest) (job, error) {
		return job{bytes: message + s.withLog(), run: func(ctx context.Context) (any, error) {
			return s.Upgrades.Request(ctx, r, c.peer.Caller(ctx, s.Apps))
		}}, nil
	}),
	answer(api.CallHandOver, message, func(ctx context.Context, s *Server, r api.HandOverRequest) (api.HandedOver, error) {
		return s.Upgrades.Answer(ctx, r)
	}),
	handle(api.CallAcceptUpgrade, func(s *Server, _ *call, r api.AcceptUpgradeRequest) (job, error) {
		key, err := sealing.ParseStoreKey(r.StoreKey)
		if err != nil {
			return job{}, problem.Invalid("/storeKey", err.Error())
		}
		return job{bytes: message, run: func(ctx context.Context) (any, error) { return s.Upgrades.Accept(ctx, r.Answer, key) }}, nil
	}),
	answer(api.CallAbortUpgrade, small, func(ctx context.Context, s *Server, _ api.None) (api.AbortedUpgrade, error) {
		return s.Upgrades.Abort(ctx)
	}),
	answer(api.CallFinishUpgrade, small, func(ctx context.Context, s *Server, _ api.None) (api.UpgradeStatus, error) {
		return s.Upgrades.Finish(ctx)
	}),
}
