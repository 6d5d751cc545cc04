// SPDX-License-Identifier: Apache-2.0

// Package peer establishes which process is at the other end of a unix socket, or has a
// number that another program names: its credentials, its systemd unit, and the executable that
// it was seen to run. The rules are those of package caller; this package asks the kernel.
//
// A process is identified by a pidfd that the kernel gives for the socket itself
// (SO_PEERPIDFD, Linux 6.5). On older kernels it is found by its number, and its start time
// is read before and after everything else: that leaves the moment between connect and
// accept, in which the number may have passed to another process. Every statement says
// which of the two was done.
package peer

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/boottime"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/durable"
	"golang.org/x/sys/unix"
)

// Options say where the interfaces of the kernel are, and what observing an executable may
// cost. Zero values are the defaults.
type Options struct {
	Proc          string        // default "/proc"
	Cgroup        string        // default "/sys/fs/cgroup"
	Units         string        // where systemd keeps the ids of runs of units, default "/run/systemd/units"
	MaxExecutable int64         // bytes of an executable that is hashed, default 256 MiB
	Timeout       time.Duration // after which an executable counts as unreadable, default 2 s
	Now           func() time.Time
}

// Identifier implements caller.Kernel.
type Identifier struct {
	proc      string
	units     string
	hierarchy caller.Hierarchy
	cgroup    string // directory of the root control group
	runs      runs
	overflow  uint32 // uid in the place of those that the agent's user namespace cannot name
	foreign   bool   // there may be such uids
	images    *images
	pidfd     func(fd int) (int, error) // SO_PEERPIDFD
}

var _ caller.Kernel = (*Identifier)(nil)

// New returns an Identifier for the machine as it is set up now.
func New(o Options) (*Identifier, error) {
	i := &Identifier{
		proc: cmp.Or(o.Proc, "/proc"), units: cmp.Or(o.Units, "/run/systemd/units"), images: newImages(o), pidfd: peerPidfd,
		runs: runs{earliest: make(map[string]uint64)},
	}
	i.hierarchy, i.cgroup = hierarchy(cmp.Or(o.Cgroup, "/sys/fs/cgroup"))
	if err := i.readUIDMap(); err != nil {
		return nil, err
	}
	return i, nil
}

// readUIDMap reads whether the agent sees all users. Inside a user namespace, all uids
// outside its map look like one, usually 65534: two users would be mistaken for each other
// (user_namespaces(7)).
func (i *Identifier) readUIDMap() error {
	b, err := durable.ReadFile(filepath.Join(i.proc, "self/uid_map"), 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a kernel without user namespaces
	}
	if err != nil {
		return fmt.Errorf("read which uids the agent can name: %w", err)
	}
	if f := strings.Fields(string(b)); len(f) == 3 && f[0] == "0" && f[1] == "0" && f[2] == "4294967295" {
		return nil
	}
	i.foreign, i.overflow = true, 65534
	if b, err := durable.ReadFile(filepath.Join(i.proc, "sys/kernel/overflowuid"), 32); err == nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32); err == nil {
			i.overflow = uint32(n)
		}
	}
	return nil
}

// UID returns the user whom the kernel froze at connect (SO_PEERCRED, unix(7)).
func (i *Identifier) UID(c *net.UnixConn) (uint32, error) {
	cred, err := frozen(c)
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

// frozen asks the socket for the credentials of its peer.
func frozen(c *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", caller.ErrUnknown, err)
	}
	var inner error
	err = raw.Control(func(s uintptr) { cred, inner = unix.GetsockoptUcred(int(s), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, inner); err != nil {
		return nil, fmt.Errorf("%w: read peer credentials: %w", caller.ErrUnknown, err)
	}
	return cred, nil
}

// Identify establishes who connected. Errors wrap caller.ErrGone or caller.ErrUnknown.
func (i *Identifier) Identify(c *net.UnixConn) (*caller.Peer, error) {
	cred, pidfd, err := i.credentials(c)
	if err != nil {
		return nil, err
	}
	return i.describe(&process{pid: int(cred.Pid), uid: cred.Uid, socket: c.LocalAddr().String(), pidfd: pidfd}, cred.Gid)
}

// describe reads what the kernel says of p, which it closes if that fails.
func (i *Identifier) describe(p *process, gid uint32) (peer *caller.Peer, err error) {
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	peer = &caller.Peer{PID: p.pid, UID: p.uid, GID: gid, Method: evidence.MethodPidfd, Process: p}
	if p.pidfd == nil {
		peer.Method = evidence.MethodStartTime
	}
	if err := i.open(p); err != nil {
		return nil, err
	}
	if p.start, err = p.startTime(); err != nil {
		return nil, err
	}
	peer.Started = p.start * boottime.Tick
	var group string
	var unread error
	if peer.Group, peer.Unit, group, unread = i.unit(p); durable.Short(unread) {
		// Not that it has no unit: the next connection may be identified.
		return nil, fmt.Errorf("%w: %w", caller.ErrUnknown, unread)
	} else if unread != nil {
		peer.UnitReason = unread.Error()
	}
	if peer.Unit != "" {
		peer.Invocation = i.invocation(peer.Unit)
		peer.UnitStarted = func() uint64 {
			return min(peer.Started, i.runs.of(peer.Unit, peer.Invocation, func() (uint64, bool) { return i.unitStarted(group, peer.Started) }))
		}
	}
	if peer.MountNamespace, err = p.namespace("mnt"); durable.Short(err) {
		return nil, fmt.Errorf("%w: %w", caller.ErrUnknown, err)
	}
	// Only now is it known that all of this was read from the process that connected
	// and not from one that was given its number.
	if err := p.Running(); err != nil {
		return nil, err
	}
	if p.pidfd == nil {
		if err := i.sameNumber(p); err != nil {
			return nil, err
		}
	}
	p.image = i.images.observe(p)
	return peer, nil
}

// open opens the folder of p in /proc, unless that is open.
func (i *Identifier) open(p *process) (err error) {
	if p.dir != nil {
		return nil
	}
	if p.dir, err = openDir(filepath.Join(i.proc, strconv.Itoa(p.pid))); err == nil {
		return nil
	}
	if running := p.Running(); running != nil {
		return running
	}
	if p.pidfd == nil {
		return fmt.Errorf("%w: open process directory: %w", caller.ErrGone, err)
	}
	// Without its start time, no verifier could tell what ran when the process began.
	return fmt.Errorf("%w: the agent cannot see its process in /proc: %w", caller.ErrUnknown, err)
}

// invocation returns the id that systemd gave to the current run of unit, nil if it cannot be
// read. Systemd keeps it as the target of a link whose name is the unit's (systemd.exec(5), at
// INVOCATION_ID).
func (i *Identifier) invocation(unit string) []byte {
	target, err := os.Readlink(filepath.Join(i.units, "invocation:"+unit))
	if err != nil {
		return nil
	}
	id, err := hex.DecodeString(target)
	if err != nil || len(id) != evidence.InvocationSize {
		return nil
	}
	return id
}

// credentials asks the socket: SO_PEERCRED (unix(7)) and, if the kernel has it, SO_PEERPIDFD.
func (i *Identifier) credentials(c *net.UnixConn) (*unix.Ucred, *os.File, error) {
	cred, err := frozen(c)
	if err != nil {
		return nil, nil, err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", caller.ErrUnknown, err)
	}
	var fdErr error
	fd := -1
	if err := raw.Control(func(s uintptr) { fd, fdErr = i.pidfd(int(s)) }); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", caller.ErrUnknown, err)
	}
	var pidfd *os.File
	switch {
	case fdErr == nil:
		pidfd = os.NewFile(uintptr(fd), "pidfd")
	case errors.Is(fdErr, unix.ENOPROTOOPT): // before Linux 6.5
	case errors.Is(fdErr, unix.ESRCH), errors.Is(fdErr, unix.EINVAL):
		return nil, nil, fmt.Errorf("%w: the kernel has no pidfd for it", caller.ErrGone)
	default:
		return nil, nil, fmt.Errorf("%w: ask for the pidfd of the peer: %w", caller.ErrUnknown, fdErr)
	}
	if err := i.nameable(cred); err != nil {
		if pidfd != nil {
			pidfd.Close()
		}
		return nil, nil, err
	}
	return cred, pidfd, nil
}

func (i *Identifier) nameable(cred *unix.Ucred) error {
	if cred.Pid <= 0 {
		return fmt.Errorf("%w: its process is in a pid namespace that the agent cannot see", caller.ErrUnknown)
	}
	if i.foreign && cred.Uid == i.overflow {
		return fmt.Errorf("%w: its uid has no name in the agent's user namespace", caller.ErrUnknown)
	}
	return nil
}

func peerPidfd(fd int) (int, error) {
	return unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
}

// unit returns the control group of p, its system unit and the control group of that. The error says
// why there is none.
func (i *Identifier) unit(p *process) (path, unit, group string, err error) {
	b, err := p.read("cgroup", caller.MaxCgroup)
	if err != nil {
		return "", "", "", fmt.Errorf("the agent cannot read the cgroup of the process: %w", err)
	}
	if path, err = i.hierarchy.Path(b); err != nil {
		return "", "", "", err
	}
	if unit, err = caller.UnitOf(path); err != nil {
		return path, "", "", err
	}
	return path, unit, groupOf(path, unit), nil
}
