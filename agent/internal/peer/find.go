// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/durable"
)

// maxStatus is how many bytes of a /proc/PID/status are read: a real one has about two thousand, and
// the list of groups is the longest part.
const maxStatus = 1 << 20

// Find identifies the process that has a number now. Errors wrap caller.ErrGone or caller.ErrUnknown.
//
// The pidfd comes first. All else is read from the folder of that number in /proc, and after that
// the process of the pidfd still runs: so the number was its own all the time. Which process had
// the number before is not known here.
func (i *Identifier) Find(pid int) (*caller.Peer, error) {
	if pid <= 0 || pid > maxPID {
		return nil, fmt.Errorf("%w: %d is not the number of a process", caller.ErrGone, pid)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil, fmt.Errorf("%w: no process has the number %d", caller.ErrGone, pid)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT): // pidfd_open(2), by the age of the kernel
		return nil, fmt.Errorf("%w: %d is the number of a thread, and not of a process", caller.ErrGone, pid)
	case err != nil:
		return nil, fmt.Errorf("%w: ask for the pidfd of process %d: %w", caller.ErrUnknown, pid, err)
	}
	p := &process{pid: pid, pidfd: os.NewFile(uintptr(fd), "pidfd")}
	gid, err := i.owner(p)
	if err != nil {
		p.Close()
		return nil, err
	}
	return i.describe(p, gid)
}

// maxPID is the largest number that a process can have (PID_MAX_LIMIT, proc_sys_kernel(5)).
const maxPID = 1 << 22

// owner reads the user and the group that p acts for. It has these also if it does not let its files
// in /proc belong to them.
func (i *Identifier) owner(p *process) (gid uint32, err error) {
	if err := i.open(p); err != nil {
		return 0, err
	}
	status, err := p.read("status", maxStatus)
	if err != nil {
		if running := p.Running(); running != nil {
			return 0, running
		}
		return 0, fmt.Errorf("%w: read its user: %w", caller.ErrUnknown, err)
	}
	uid, err := effective(status, "Uid:")
	if err != nil {
		return 0, err
	}
	if gid, err = effective(status, "Gid:"); err != nil {
		return 0, err
	}
	p.uid = uid
	return gid, i.nameable(&unix.Ucred{Pid: int32(p.pid), Uid: uid, Gid: gid})
}

// effective returns the second number of a line of /proc/PID/status with four: real, effective, saved,
// and that of the file system (proc_pid_status(5)). SO_PEERCRED has the effective one too.
func effective(status []byte, name string) (uint32, error) {
	fields := line(status, name)
	if len(fields) != 4 {
		return 0, fmt.Errorf("%w: /proc/PID/status has no line %q with four numbers", caller.ErrUnknown, name)
	}
	n, err := strconv.ParseUint(string(fields[1]), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%w: /proc/PID/status: %q is not a number", caller.ErrUnknown, name)
	}
	return uint32(n), nil
}

// line returns the fields of a line of /proc/PID/status after its name. The kernel writes line breaks
// in the name of a process, which the process chooses, as a backslash and a letter.
func line(status []byte, name string) [][]byte {
	for l := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(l, []byte(name)); ok {
			return bytes.Fields(rest)
		}
	}
	return nil
}

// Numbers returns nil if p knows processes by the numbers by which the agent knows them. One in a pid
// namespace of its own knows others: what it asks about would be another process.
func (i *Identifier) Numbers(p *caller.Peer) error {
	status, err := durable.ReadFile(filepath.Join(i.proc, strconv.Itoa(p.PID), "status"), maxStatus)
	if err != nil {
		err = fmt.Errorf("%w: read its pid namespaces: %w", caller.ErrUnknown, err)
	}
	if running := p.Process.Running(); running != nil { // then this may be of another process
		return running
	}
	if err != nil {
		return err
	}
	// One number for each pid namespace that it is in, from that of /proc on (proc_pid_status(5)).
	// A kernel without pid namespaces has no such line.
	if n := len(line(status, "NSpid:")); n > 1 {
		return fmt.Errorf("%w: it is in a pid namespace of its own, and knows processes by other numbers than the agent", caller.ErrUnknown)
	}
	return nil
}
