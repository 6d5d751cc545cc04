// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// HideProcess makes this process undumpable (PR_SET_DUMPABLE, prctl(2)), and does what
// [LeaveNoCore] does. From then on processes of the same user can neither attach to it
// nor read its memory, and its files under /proc belong to root. The daemon calls it
// before it asks for the first key; what needs its own /proc/self as an ordinary user
// must be opened before. It is a property of the whole process and lasts until an exec.
func HideProcess() error {
	// First: afterwards the file that it writes to is root's.
	if err := LeaveNoCore(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the process undumpable: %w", err)
	}
	return nil
}

// coreFilter says which kinds of memory a core of this process contains (core(5)).
const coreFilter = "/proc/self/coredump_filter"

// LeaveNoCore sets the limit of this process's core dumps to zero, and the kinds of
// memory in a core to none. If root lifts the limit, or a crash handler takes cores without
// regard to it, the kernel still writes neither heap nor stacks nor secrets, but only the
// registers of each thread. Children inherit both.
func LeaveNoCore() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switch core dumps off: %w", err)
	}
	err := os.WriteFile(coreFilter, []byte("0"), 0)
	// A kernel without core dumps has no such file, and /proc may be closed to us. The limit
	// above is the protection, and this one is for when the limit is lifted.
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("leave memory out of core dumps: %w", err)
	}
	return nil
}
