// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A LockedError is returned if another process has locked the directory. It is EWOULDBLOCK to
// errors.Is.
type LockedError struct {
	PID int // number of the process, by the lock file; 0 if unknown
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return "another process has locked the directory"
	}
	return fmt.Sprintf("process %d has locked the directory", e.PID)
}

func (e *LockedError) Unwrap() error { return unix.EWOULDBLOCK }

// A SizeError is returned if a file does not have the expected size. One that is too large is
// EFBIG to errors.Is.
type SizeError struct {
	Got, Want int64 // bytes
}

func (e *SizeError) Error() string { return fmt.Sprintf("file of %d bytes, want %d", e.Got, e.Want) }

func (e *SizeError) Is(target error) bool { return target == unix.EFBIG && e.Got > e.Want }

// An AccessError is returned if a directory or file is not ours alone.
type AccessError struct {
	Name  string
	Found string // what was found, and what to do
}

func (e *AccessError) Error() string { return fmt.Sprintf("%s is refused: %s", e.Name, e.Found) }
