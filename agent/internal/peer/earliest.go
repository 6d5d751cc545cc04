// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/boottime"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/durable"
)

// What is read of the control group of one unit.
const (
	maxGroups    = 512     // directories
	maxProcesses = 8192    // in all of them
	maxProcs     = 1 << 20 // bytes of one cgroup.procs
	maxRuns      = 4096    // runs of units that are remembered
)

// runs remembers, for each run of a unit, when its earliest process started. A program that
// was started before its files were measured can fork, and the child's start is later. So
// what counts is the start of the earliest process that was there when a process of the run
// first asked. A parent that ended before that is not seen.
type runs struct {
	mu       sync.Mutex // guards earliest
	earliest map[string]uint64
}

// of returns the start of the earliest process of a run of a unit: that which is known, or
// else what find returns. Systemd's id of the run is its key. A unit without one is looked
// at each time, and so is one that could not be looked at for want of descriptors or memory.
func (r *runs) of(unit string, invocation []byte, find func() (started uint64, short bool)) uint64 {
	if len(invocation) == 0 {
		found, _ := find()
		return found
	}
	key := unit + "\x00" + string(invocation)
	r.mu.Lock()
	known, ok := r.earliest[key]
	r.mu.Unlock()
	if ok {
		return known
	}
	found, short := find()
	if short {
		return found
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, ok := r.earliest[key]; ok {
		found = min(found, known)
	} else if len(r.earliest) >= maxRuns {
		// Those that ask again are looked at again. A process that ended since is not seen
		// then, so the earliest of all is the answer for them.
		r.forget()
	}
	r.earliest[key] = found
	return found
}

// forget drops half of what is remembered.
func (r *runs) forget() {
	left := len(r.earliest) / 2
	maps.DeleteFunc(r.earliest, func(string, uint64) bool {
		left--
		return left >= 0
	})
}

// unitStarted returns when the earliest process in the control group of a unit started, in
// milliseconds of CLOCK_BOOTTIME, but never later than started. If the control group cannot
// be read as a whole, it is 0: since the boot. Short says that this is only so for want of
// descriptors or memory.
func (i *Identifier) unitStarted(group string, started uint64) (earliest uint64, short bool) {
	earliest = started
	processes := 0
	whole, err := walkGroups(filepath.Join(i.cgroup, group), func(pid string) bool {
		processes++
		at, err := i.startOf(pid)
		if durable.Short(err) {
			short = true
			return false
		}
		if err == nil {
			earliest = min(earliest, at)
		}
		return true
	})
	if short || durable.Short(err) {
		return 0, true
	}
	if err != nil || !whole || processes == 0 {
		return 0, false
	}
	return earliest, false
}

// walkGroups calls visit with each process in a control group and those below it, until it returns
// false. It reports whether all were visited.
func walkGroups(group string, visit func(pid string) bool) (whole bool, err error) {
	processes := 0
	dirs := []string{group}
	for n := 0; n < len(dirs); n++ {
		below, err := groupsBelow(dirs[n])
		if err != nil || len(dirs)+len(below) > maxGroups {
			return false, err
		}
		dirs = append(dirs, below...)
		procs, err := durable.ReadFile(filepath.Join(dirs[n], "cgroup.procs"), maxProcs)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) { // it was removed meanwhile
			continue
		} else if err != nil {
			return false, err
		}
		for pid := range bytes.FieldsSeq(procs) {
			if processes++; processes > maxProcesses || !visit(string(pid)) {
				return false, nil
			}
		}
	}
	return true, nil
}

// groupsBelow returns the control groups directly below dir, at most a few more than
// [maxGroups]: the unit may make as many as it wants.
func groupsBelow(dir string) (groups []string, err error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	const files = 256 // interface files of a control group, which are fewer
	entries, err := f.ReadDir(maxGroups + files)
	if err != nil && err != io.EOF {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() {
			groups = append(groups, filepath.Join(dir, e.Name()))
		}
	}
	return groups, nil
}

// startOf returns when a process started. The error is fs.ErrNotExist if it ended meanwhile. One
// whose first thread has ended looks like a zombie, and its other threads run on: it counts. What
// cannot be read for another reason, except shortage, counts as started with the boot.
func (i *Identifier) startOf(pid string) (milliseconds uint64, err error) {
	if _, err := strconv.ParseUint(pid, 10, 31); err != nil {
		return 0, fs.ErrNotExist
	}
	stat, err := durable.ReadFile(filepath.Join(i.proc, pid, "stat"), 4<<10)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return 0, fs.ErrNotExist
	}
	if err == nil {
		milliseconds, _, err = parseStat(stat)
	}
	if durable.Short(err) {
		return 0, err
	}
	if err != nil {
		return 0, nil
	}
	return milliseconds * boottime.Tick, nil
}

// groupOf returns the control group of the unit that path belongs to: path up to the part
// that is the unit.
func groupOf(path, unit string) string {
	var group strings.Builder
	for part := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		group.WriteString("/" + part)
		if strings.TrimPrefix(part, "_") == unit { // see caller.UnitOf
			break
		}
	}
	return group.String()
}

// hierarchy follows systemd's own test: version 2 at the root or in "unified" means
// that units are there, else they are in the named hierarchy of version 1.
// Every cgroup directory of version 2 has a file cgroup.controllers (cgroups(7)).
// It also returns the directory of the root control group.
func hierarchy(root string) (caller.Hierarchy, string) {
	for _, dir := range []string{".", "unified"} {
		if _, err := os.Stat(filepath.Join(root, dir, "cgroup.controllers")); err == nil {
			return caller.Unified, filepath.Join(root, dir)
		}
	}
	if dir := filepath.Join(root, "systemd"); exists(dir) {
		return caller.Legacy, dir
	}
	return caller.Unified, root
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
