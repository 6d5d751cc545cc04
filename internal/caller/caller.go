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
//   - A process is in a container that the agent measured if it is in the control group that
//     the container's first process was in then, or below it, and in the mount namespace of
//     that process, which still runs. Both are those of accept. Such a process is only ever
//     the application of that image, whatever unit is around it.
//   - A process in such a control group that is not in the container, since it made a mount
//     namespace for itself or the first process ended, is not an application, whatever unit is
//     around it.
//   - The executable is an observation. A process can connect, hand the descriptor to
//     another and exec something trusted: no interface of the kernel stops it. Nothing
//     is ever permitted because of an executable.
package caller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/unitname"
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
	// UID returns the user who connected, at next to no cost.
	UID(c *net.UnixConn) (uint32, error)
	Identify(c *net.UnixConn) (*Peer, error)
}

// A Finder identifies processes that another program names by their numbers. What Find returns of a
// process is what Identify would if it connected now.
type Finder interface {
	// Find returns the process that has this number. Close its Process after use. Errors wrap ErrGone
	// or ErrUnknown.
	Find(pid int) (*Peer, error)
	// Numbers returns nil if p knows processes by the same numbers as the agent.
	Numbers(p *Peer) error
}

// A Kernel knows connections and processes.
type Kernel interface {
	Identifier
	Finder
}

// A Peer is the program that connected, fixed at accept, or one that another program named by its
// number.
type Peer struct {
	PID        int // as the agent sees it; another process may have it by now
	UID        uint32
	GID        uint32
	Started    uint64 // when the process started: CLOCK_BOOTTIME in milliseconds
	Unit       string // systemd system unit, or ""
	Invocation []byte // systemd's id of this run of Unit, 16 bytes, or nil
	// UnitStarted returns when the earliest process of this run of Unit started that the
	// agent saw, never later than Started. If it is nil, that is Started.
	UnitStarted func() uint64
	UnitReason  string // why Unit is ""
	Group       string // path of its control group; empty if the agent cannot read it
	// MountNamespace is the number of its mount namespace; 0 if the agent cannot read it.
	MountNamespace uint64
	Method         evidence.Method
	Process        Process
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

// An App is a declared application.
type App struct {
	Name string
	Unit string // as declared: the unit of its processes, or the template of their units
	User string // that the unit runs as, as declared; processes of further users have no keys
	UID  uint32 // of User; of a dynamic user that which the caller has; of a container, of its first process as the machine sees it

	Dynamic bool   // systemd gives User a uid at each start of the unit
	Engine  string // of an application that is an image; otherwise empty
}

// A Container is a container that the agent measured before its first process ran.
type Container struct {
	evidence.Container
	App *App // that it is, by the declarations of now as when it was measured; nil if it is none
}

// Apps knows the declared applications, and the containers that were measured.
type Apps interface {
	// Container returns the measured container that p is in, nil if it is in none.
	Container(p *Peer) *Container
	// Beside reports whether p is in the control group of a measured container, in it or not.
	Beside(p *Peer) bool
	// ByUnit returns the application that is declared for this unit, or for its template, and for
	// this user.
	ByUnit(unit string, uid uint32) (app App, ok bool)
	// Settle makes the log say what the agent was told of the files of app.
	Settle(ctx context.Context, app string)
	// Covers reports whether the manifest of app lists exactly this content.
	Covers(app string, d evidence.Digest) bool
}

// Caller returns what a statement says of p. The application is looked up now, since
// declarations may have been read again since accept; unit and uid are those of accept.
func (p *Peer) Caller(ctx context.Context, apps Apps) evidence.Caller {
	c := evidence.Caller{UID: p.UID, GID: p.GID, PID: uint32(p.PID), Started: p.Started, Unit: p.Unit, Method: p.Method}
	if p.Unit != "" {
		c.Invocation, c.UnitStarted = p.Invocation, new(p.Started)
		if p.UnitStarted != nil {
			*c.UnitStarted = p.UnitStarted()
		}
	}
	in := apps.Container(p)
	if in != nil {
		c.Container = &in.Container
		if in.App != nil {
			c.App = in.App.Name
		}
	} else if p.Unit != "" && !apps.Beside(p) {
		if app, ok := apps.ByUnit(p.Unit, p.UID); ok {
			c.App = app.Name
		}
	}
	x := p.Process.Executable(ctx)
	if c.App != "" && in == nil { // at last, so that what was told before the caller asked has arrived
		apps.Settle(ctx, c.App)
	}
	if x != nil {
		seen := *x
		seen.Covered = c.App != "" && in == nil && seen.Digest != nil && apps.Covers(c.App, *seen.Digest)
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

// Printable returns path as a statement may contain it. A name that is not [text.Shown] is
// quoted as in Go, one that is too long is left out. A caller chooses the names of its files:
// it must neither mislead a reader of a screen nor fail the batch that it shares with other callers.
func Printable(path string) string {
	if !text.Shown(path) {
		path = strconv.QuoteToASCII(path)
	}
	if len(path) > evidence.MaxPath {
		return ""
	}
	return path
}

// ErrNoUnit is returned for a cgroup path that names no system unit.
var ErrNoUnit = errors.New("no systemd system unit")

// UnitOf returns the systemd system unit of the processes in the cgroup path, as
// /proc/PID/cgroup shows it: the first component, from the root, that is not a slice.
//
// Only the system manager makes cgroups up to that depth. The unit may own what is below,
// and can give it any name. A service "billing.service" of a user's own manager lies below
// "user@1000.service", and its unit is the latter.
//
// Names are read as systemd writes them: one leading underscore is an escape and is
// removed (systemd escapes names that begin with "_" or "." or with the name of a
// controller). A path with ".." comes from outside the agent's cgroup namespace, and no
// kernel writes an empty component: both name no unit.
func UnitOf(path string) (string, error) {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return "", fmt.Errorf("%w: cgroup path does not begin with /", ErrNoUnit)
	}
	if rest == "" {
		return "", fmt.Errorf("%w: the process is in the root cgroup", ErrNoUnit)
	}
	// All components are checked first: a ".." further down would make the ones before it
	// meaningless.
	for part := range strings.SplitSeq(rest, "/") {
		if part == "" || part == "." || part == ".." {
			return "", fmt.Errorf("%w: cgroup path leads outside the agent's cgroup namespace", ErrNoUnit)
		}
	}
	for part := range strings.SplitSeq(rest, "/") {
		name := strings.TrimPrefix(part, "_")
		if isSlice(name) {
			continue
		}
		if _, err := unitname.Running(name); err == nil {
			return name, nil
		}
		return "", fmt.Errorf("%w: the first cgroup below the slices has no name of a unit", ErrNoUnit)
	}
	return "", fmt.Errorf("%w: the process is in a slice itself", ErrNoUnit)
}

// isSlice reports whether name is that of a slice, of which there are no templates.
func isSlice(name string) bool {
	n, err := unitname.Parse(name)
	return err == nil && n.Type == "slice" && !n.Template && n.Instance == ""
}

// MaxCgroup is how many bytes of /proc/PID/cgroup are read: one line of at most
// PATH_MAX for each of a handful of hierarchies.
const MaxCgroup = 64 << 10

// Hierarchy says which line of /proc/PID/cgroup contains systemd's units. It is found once,
// from what is mounted, and not from the lines: on a unified system a container tool may
// mount a "name=systemd" hierarchy of its own.
type Hierarchy string

const (
	Unified Hierarchy = "0::"            // cgroup v2, alone or with v1 controllers
	Legacy  Hierarchy = ":name=systemd:" // cgroup v1
)

// Path returns the cgroup path of h in the content of /proc/PID/cgroup (cgroups(7): lines of
// hierarchy number, controllers and path, parted by colons). The kernel lets no cgroup
// have a line break in its name, so a line is a line.
func (h Hierarchy) Path(content []byte) (string, error) {
	var found []string
	for line := range bytes.SplitSeq(content, []byte("\n")) {
		switch h {
		case Unified:
			if path, ok := bytes.CutPrefix(line, []byte(h)); ok {
				found = append(found, string(path))
			}
		case Legacy:
			number, path, ok := bytes.Cut(line, []byte(h))
			if ok && len(bytes.Trim(number, "0123456789")) == 0 {
				found = append(found, string(path))
			}
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%w: %d lines %q in /proc/PID/cgroup, want one", ErrNoUnit, len(found), string(h))
	}
	return found[0], nil
}
