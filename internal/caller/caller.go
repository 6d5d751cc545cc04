// SPDX-License-Identifier: Apache-2.0

// Package caller says who is at the other end of a connection to the agent, and what
// follows from that. It holds the rules; reading credentials and processes from the
// kernel is done by whoever implements [Identifier].
//
// # Rules
//
// Who a caller is, is established once, when the connection is accepted, and holds
// for every request on it. The boundary is systemd system unit and uid:
//
//   - uid and gid are those the kernel froze at connect (SO_PEERCRED). A process that
//     changes its uid afterwards stays who it was; root of a user namespace is the
//     user who made the namespace.
//   - The process that connected must be there at accept and at each request. A
//     connection outlives a parent that forked and went away; the kernel's frozen
//     credentials then speak of nobody, and the agent refuses.
//   - The unit is the first part of the cgroup path that is no slice, see [UnitOf].
//   - The executable is an observation. A process can connect, hand the descriptor to
//     another and exec something trusted: no interface of the kernel stops it. Nothing
//     is ever permitted on the ground of an executable.
package caller

import (
	"context"
	"errors"
	"net"

	"github.com/cvm-agentd/agentd/evidence"
)

// Errors of an Identifier, told apart with errors.Is.
var (
	// ErrGone: the process that connected has ended.
	ErrGone = errors.New("the process that connected has ended")
	// ErrUnknown: the kernel does not say who connected, or not in a way to rely on.
	ErrUnknown = errors.New("cannot establish who connected")
)

// An Identifier establishes who connected. Identify runs in the accept loop and must
// not wait for anything that a caller controls.
type Identifier interface {
	Identify(c *net.UnixConn) (*Peer, error)
}

// A Peer is who connected, fixed at accept.
type Peer struct {
	PID        int // as the agent sees it; for log lines only, it may be another process's by now
	UID        uint32
	GID        uint32
	Unit       string // systemd system unit, or ""
	UnitReason string // why Unit is ""
	Method     evidence.Method
	Process    Process
}

// A Process is a hold on the process that connected, which no other process that is
// given the same number later can be mistaken for.
type Process interface {
	// Running is nil, or wraps ErrGone.
	Running() error
	// Executable is the image the process was seen to run, opened right after accept
	// and hashed when first asked for. Covered is left false. It never fails: what cannot be read is
	// evidence.ExecutableUnreadable.
	Executable(ctx context.Context) *evidence.Executable
	Close() error
}

// Apps knows the declared applications.
type Apps interface {
	// ByUnit is the application whose unit and user these are.
	ByUnit(unit string, uid uint32) (name string, ok bool)
	// Covers reports whether the manifest of app lists exactly this content.
	Covers(app string, d evidence.Digest) bool
}

// Caller is what stands of p in a statement. The application is looked up now, since
// declarations may have been read again since accept; unit and uid are those of accept.
func (p *Peer) Caller(ctx context.Context, apps Apps) evidence.Caller {
	c := evidence.Caller{UID: p.UID, GID: p.GID, Unit: p.Unit, Method: p.Method}
	if p.Unit != "" {
		if name, ok := apps.ByUnit(p.Unit, p.UID); ok {
			c.App = name
		}
	}
	if x := p.Process.Executable(ctx); x != nil {
		seen := *x
		seen.Covered = c.App != "" && seen.Digest != nil && apps.Covers(c.App, *seen.Digest)
		c.Executable = &seen
	}
	return c
}
