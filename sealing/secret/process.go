package secret

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// HideProcess makes this process undumpable (PR_SET_DUMPABLE, prctl(2)) and sets the
// limit of its core dumps to zero. From then on no core file is written, processes of
// the same user can neither attach to it nor read its memory, and its files under
// /proc belong to root. The daemon calls it before it asks for the first key; what
// needs its own /proc/self as an ordinary user must be opened before. It is a
// property of the whole process and lasts until an exec.
func HideProcess() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the process undumpable: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switch core dumps off: %w", err)
	}
	return nil
}
