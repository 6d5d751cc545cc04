// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/boottime"
	"github.com/cvm-agentd/agentd/internal/caller"
)

// Held is a process that another program named by its number. No process that gets the same number
// later can be mistaken for it.
type Held struct {
	PID     int
	Started uint64 // CLOCK_BOOTTIME in milliseconds
	process *process
}

// Hold finds a process by its number, in the folder proc. Its start time is read before and after
// it is tied to a pidfd.
func Hold(proc string, pid int) (_ *Held, err error) {
	if pid <= 0 {
		return nil, fmt.Errorf("%w: %d is not the number of a process", caller.ErrUnknown, pid)
	}
	h := &Held{PID: pid, process: &process{pid: pid}}
	defer func() {
		if err != nil {
			h.Close()
		}
	}()
	if h.process.dir, err = openDir(filepath.Join(proc, strconv.Itoa(pid))); err != nil {
		return nil, fmt.Errorf("%w: open process directory: %w", caller.ErrGone, err)
	}
	if h.process.start, err = h.process.startTime(); err != nil {
		return nil, err
	}
	h.Started = h.process.start * boottime.Tick
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("%w: the kernel has no pidfd for it", caller.ErrGone)
	} else if err != nil {
		return nil, fmt.Errorf("%w: ask for its pidfd: %w", caller.ErrUnknown, err)
	}
	h.process.pidfd = os.NewFile(uintptr(fd), "pidfd")
	return h, h.Same()
}

// Same returns nil if the process runs, and still has its number.
func (h *Held) Same() error {
	if err := h.Running(); err != nil {
		return err
	}
	now, err := h.process.startTime()
	if err == nil && now != h.process.start {
		err = fmt.Errorf("%w: its number passed to another process", caller.ErrGone)
	}
	return err
}

// Running returns nil, or an error that wraps caller.ErrGone.
func (h *Held) Running() error { return h.process.Running() }

// Read returns the content of a file below /proc/PID, at most limit bytes.
func (h *Held) Read(name string, limit int64) ([]byte, error) { return h.process.read(name, limit) }

// Open opens a file below /proc/PID.
func (h *Held) Open(name string, flags int) (*os.File, error) { return h.process.open(name, flags) }

// Namespace returns the number of a namespace of the process, as "net".
func (h *Held) Namespace(kind string) (uint64, error) { return h.process.namespace(kind) }

// Close gives the process up.
func (h *Held) Close() error { return h.process.Close() }

// namespace reads the target of a link in /proc/PID/ns, as "mnt:[4026531841]" (namespaces(7)). It
// asks no file system.
func (p *process) namespace(kind string) (uint64, error) {
	target, err := p.readlink("ns/" + kind)
	if err != nil {
		return 0, err
	}
	digits, ok := strings.CutPrefix(target, kind+":[")
	digits, end := strings.CutSuffix(digits, "]")
	n, err := strconv.ParseUint(digits, 10, 64)
	if !ok || !end || err != nil || n == 0 {
		return 0, fmt.Errorf("%w: namespace %q is not a number", caller.ErrUnknown, target)
	}
	return n, nil
}

// Groups is where control groups are, and which line of /proc/PID/cgroup counts.
type Groups struct {
	Hierarchy caller.Hierarchy
	Folder    string // of the root control group
}

// FindGroups looks at what is mounted at cgroup, "/sys/fs/cgroup" on a machine.
func FindGroups(cgroup string) (g Groups) {
	g.Hierarchy, g.Folder = hierarchy(cgroup)
	return g
}

// Of returns the path of the control group of a process.
func (g Groups) Of(h *Held) (string, error) {
	b, err := h.Read("cgroup", caller.MaxCgroup)
	if err != nil {
		return "", fmt.Errorf("read the control group of process %d: %w", h.PID, err)
	}
	return g.Hierarchy.Path(b)
}

// Inode returns the inode of a control group. One that is made later under the same path has
// another.
func (g Groups) Inode(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(g.Folder, path), &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Ino, nil
}

// Processes returns the numbers of the processes in a control group and those below it.
func (g Groups) Processes(path string) (pids []int, err error) {
	whole, err := walkGroups(filepath.Join(g.Folder, path), func(pid string) bool {
		if n, err := strconv.ParseUint(pid, 10, 31); err == nil {
			pids = append(pids, int(n))
		}
		return true
	})
	if err == nil && !whole {
		err = errors.New("too many control groups or processes below it")
	}
	return pids, err
}
