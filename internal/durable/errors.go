// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// LockedError tells that another process has the directory. It is EWOULDBLOCK to errors.Is.
type LockedError struct {
	PID int // as it wrote into the lock file, 0 where that is not known
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return "another process has locked the directory"
	}
	return fmt.Sprintf("process %d has locked the directory", e.PID)
}

func (e *LockedError) Unwrap() error { return unix.EWOULDBLOCK }

// SizeError tells that a file does not have the size it should have. One that is too
// large is EFBIG to errors.Is.
type SizeError struct {
	Got, Want int64 // bytes
}

func (e *SizeError) Error() string { return fmt.Sprintf("file of %d bytes, want %d", e.Got, e.Want) }

func (e *SizeError) Is(target error) bool { return target == unix.EFBIG && e.Got > e.Want }

// AccessError tells that a directory or file is not ours alone.
type AccessError struct {
	Name  string
	Found string // what it is, and what to do
}

func (e *AccessError) Error() string { return fmt.Sprintf("%s is refused: %s", e.Name, e.Found) }
