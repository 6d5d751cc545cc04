// SPDX-License-Identifier: Apache-2.0

// Package caller contains the rules for which program is at the other end of a connection to
// the agent, and what follows from that. An [Identifier] reads credentials and processes from
// the kernel.
//
// # Rules
//
// The identity of a caller is established once, when the connection is accepted, for every
// request on it. The boundary is systemd system unit and uid:
//
//   - uid and gid are those the kernel froze at connect (SO_PEERCRED). A process that
//     changes its uid afterwards keeps the old one here; root of a user namespace is the
//     user who made the namespace.
//   - The process that connected must be there at accept and at each request. A
//     connection outlives a parent that forked and ended; the kernel's frozen
//     credentials then belong to no process, and the agent refuses.
//   - The unit is the first part of the cgroup path that is not a slice, see [UnitOf].
//   - The executable is an observation. A process can connect, hand the descriptor to
//     another and exec something trusted: no interface of the kernel stops it. Nothing
//     is ever permitted on the ground of an executable.
package caller

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
)

// Errors of an Identifier, for errors.Is.
var (
	// ErrGone is returned if the process that connected has ended.
	ErrGone = errors.New("the process that connected has ended")
	// ErrUnknown is returned if the kernel does not say which process connected, or not
	// reliably.
	ErrUnknown = errors.New("cannot establish who connected")
)

// An Identifier establishes who connected. Identify runs in the accept loop and must
// not wait for anything that a caller controls.
type Identifier interface {
	Identify(c *net.UnixConn) (*Peer, error)
}

// A Peer is the program that connected, fixed at accept.
type Peer struct {
	PID        int // as the agent sees it; for log lines only, another process may have it by now
	UID        uint32
	GID        uint32
	Unit       string // systemd system unit, or ""
	UnitReason string // why Unit is ""
	Method     evidence.Method
	Process    Process
}

// A Process is the process that connected. No process that gets the same number later can be
// mistaken for it.
type Process interface {
	// Running returns nil, or an error that wraps ErrGone.
	Running() error
	// Executable returns the image that the process was seen to run, opened right after
	// accept and hashed when first asked for. Covered is left false. It never fails: the
	// state of what cannot be read is evidence.ExecutableUnreadable.
	Executable(ctx context.Context) *evidence.Executable
	Close() error
}

// Apps knows the declared applications.
type Apps interface {
	// ByUnit returns the application whose unit and user these are.
	ByUnit(unit string, uid uint32) (name string, ok bool)
	// Covers reports whether the manifest of app lists exactly this content.
	Covers(app string, d evidence.Digest) bool
}

// Caller returns what a statement says of p. The application is looked up now, since
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

// deleted is what the kernel adds to the target of /proc/PID/exe when the name was removed.
const deleted = " (deleted)"

// Image returns the executable that link, the target of /proc/PID/exe, and links, the number
// of hard links of its file, describe. The name alone does not distinguish a file that is
// called "x (deleted)" from a replaced one: it counts as replaced unless something
// contradicts that, which does no harm.
func Image(link string, links uint64) evidence.Executable {
	x := evidence.Executable{State: evidence.ExecutableFile}
	path, gone := strings.CutSuffix(link, deleted)
	switch {
	case strings.HasPrefix(path, "/memfd:") && links == 0:
		x.State = evidence.ExecutableMemfd
	case gone || links == 0:
		x.State = evidence.ExecutableReplaced
	default:
		path = link
	}
	x.Path = Printable(path)
	return x
}

// Printable returns path as a statement may contain it. A name that is not [text.Plain] is
// quoted as in Go, one that is too long is left out. A caller chooses the names of its files:
// it must neither mislead a reader of a screen nor fail the batch that it shares with other callers.
func Printable(path string) string {
	if !text.Plain(path) {
		path = strconv.QuoteToASCII(path)
	}
	if len(path) > evidence.MaxPath {
		return ""
	}
	return path
}
