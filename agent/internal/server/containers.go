// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/caller"
)

// Containers measures containers before their first program runs.
type Containers interface {
	// Record measures a container that is being created; hook is the process that asks.
	Record(ctx context.Context, hook *caller.Peer, r api.ContainerRequest) (api.Container, error)
	List() []api.Container
}

// containerRoutes are the routes for engines of containers.
var containerRoutes = []route{
	answer(api.CallContainers, withContainers, func(_ context.Context, s *Server, _ api.None) (api.Containers, error) {
		return api.Containers{Containers: s.Containers.List()}, nil
	}),
	handle(api.CallRecordContainer, func(s *Server, c *call, r api.ContainerRequest) (job, error) {
		return job{bytes: small, run: func(ctx context.Context) (any, error) { return s.Containers.Record(ctx, c.peer, r) }}, nil
	}),
}

// withContainers is the budget of a list of containers, of which few run.
const withContainers = 1 << 20

// outside refuses administration to root of a container: its uid is root's outside of it too. What
// left the container's mount namespace stays in its control group.
func (s *Server) outside(p *caller.Peer) *api.Problem {
	if c := s.Apps.Container(p); c != nil {
		return problem.New(api.CodeNotPermitted, fmt.Sprintf("process %d is in container %s of %s, and nothing in a container administers the agent", p.PID, c.ID, c.Engine))
	}
	if s.Apps.Beside(p) {
		return problem.New(api.CodeNotPermitted, fmt.Sprintf("process %d is in the control group of a measured container, and nothing in one administers the agent", p.PID))
	}
	return nil
}

// ownerIn returns the app that a process in a measured container may act for: that of the image, for
// the user of the container's first process.
func ownerIn(c *caller.Container, p *caller.Peer, what string) (Owner, *api.Problem) {
	switch {
	case c.App == nil:
		return Owner{}, problem.New(api.CodeNoApp, fmt.Sprintf("container %s of %s is of no declared app, or the declaration is another one since it started", c.ID, c.Engine))
	case c.App.UID != p.UID:
		return Owner{}, problem.New(api.CodeNoApp, fmt.Sprintf("app %s has %s for the user of the container's first process alone, uid %d of the machine, and not for uid %d", c.App.Name, what, c.App.UID, p.UID))
	}
	return Owner{App: c.App.Name, UID: p.UID, Container: &c.Container}, nil
}
