// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/boottime"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/durable"
)

// processRoutes are the routes about processes other than the caller.
var processRoutes = []route{handle(api.CallProcess, (*Server).process)}

// process answers who a process is. Whether the caller may ask comes first: a refusal tells nothing of
// the process.
func (s *Server) process(c *call, _ api.None) (job, error) {
	if refused := s.asker(c); refused != nil {
		return job{}, refused
	}
	pid, err := strconv.ParseUint(c.query.Get(api.QueryPID), 10, 31)
	if err != nil || pid == 0 {
		return job{}, problem.Invalid(api.QueryPID, "want the number of a process, in decimal")
	}
	return job{bytes: small, brief: true, run: func(ctx context.Context) (any, error) {
		if err := s.Apps.Await(ctx); err != nil { // otherwise no application would seem to be declared
			return nil, err
		}
		p, err := s.Processes.Find(int(pid))
		if err != nil {
			return nil, notFound(pid, err)
		}
		defer p.Process.Close()
		out := s.who(ctx, p)
		if err := p.Process.Running(); err != nil { // after everything was read
			return nil, notFound(pid, err)
		}
		return out, nil
	}}, nil
}

// asker returns why a caller may not ask about other processes. Uid 0 on the client socket grants
// nothing: root of a container has it as well. A caller that knows processes by other numbers would
// get an answer about the wrong one.
func (s *Server) asker(c *call) *api.Problem {
	refuse := func(format string, args ...any) *api.Problem {
		return problem.New(api.CodeProcessNotPermitted, fmt.Sprintf(format, args...))
	}
	if c.socket == Client {
		switch {
		case s.Apps.Beside(c.peer) || s.Apps.Container(c.peer) != nil:
			return refuse("process %d is in a measured container, or in the control group of one", c.peer.PID)
		case c.peer.Unit == "":
			return refuse("process %d is in no system unit: %s", c.peer.PID, c.peer.UnitReason)
		case !slices.Contains(s.Askers, c.peer.Unit):
			return refuse("processes.askers does not name the unit %s", c.peer.Unit)
		}
	}
	if err := s.Processes.Numbers(c.peer); err != nil {
		return refuse("%v", err)
	}
	return nil
}

// notFound returns the problem of a process that cannot be identified.
func notFound(pid uint64, err error) error {
	switch {
	case durable.Short(err): // it has a code of its own, and the next try may succeed
		return err
	case errors.Is(err, caller.ErrGone):
		return problem.New(api.CodeNoSuchProcess, fmt.Sprintf("process %d: %v", pid, err))
	case errors.Is(err, caller.ErrUnknown):
		return problem.New(api.CodeProcessUnknown, fmt.Sprintf("process %d: %v", pid, err))
	}
	return err
}

// who returns what the agent knows of p.
func (s *Server) who(ctx context.Context, p *caller.Peer) api.Process {
	id := p.Caller(ctx, s.Apps)
	out := api.Process{
		PID: id.PID, Started: id.Started, UID: id.UID, GID: id.GID, Unit: id.Unit, UnitReason: p.UnitReason,
		App: id.App, Container: id.Container, Executable: id.Executable,
	}
	app := s.listed(id)
	out.Measured, out.Covered = s.measured(id, app)
	switch {
	case !out.Measured.Yes:
		out.SinceStart = out.Measured
	case id.Container != nil:
		out.Digest, out.SinceStart = &id.Container.Root, out.Measured
	default:
		out.Digest, out.SinceStart = app.Digest, sinceStart(id, app)
	}
	return out
}

// sinceStart reports whether the log vouches for the files of an app for as long as a process of it can
// have run them: it was measured before the first process of its unit started, was covered since, and did
// not change. Times have the resolution of the kernel's start times, so that of two in one tick the process
// is taken for the earlier.
func sinceStart(id evidence.Caller, app *api.App) api.Finding {
	start := id.Started
	if id.UnitStarted != nil {
		start = *id.UnitStarted
	}
	before := func(at uint64) bool { return at/boottime.Tick < start/boottime.Tick }
	switch {
	case app.Covered == nil:
		return api.Finding{Reason: "the app is not covered"}
	case !before(app.Covered.Since):
		return api.Finding{Reason: fmt.Sprintf("the app is covered since record %d, and a process of its unit started before that", app.Covered.Record)}
	case !before(app.Changed):
		return api.Finding{Reason: "the files of the app changed after a process of its unit started, which may run what they were"}
	}
	return api.Finding{Yes: true, Reason: "the app was measured before its unit started, and is covered and unchanged since"}
}
