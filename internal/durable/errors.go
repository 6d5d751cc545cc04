// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Kinds of failures, for errors.Is.
var (
	ErrNoRoom    = errors.New("the file system is full, or a quota is used up")
	ErrReadOnly  = errors.New("the file system is mounted read-only")
	ErrResources = errors.New("the process is short of file descriptors or memory")
	ErrFailed    = errors.New("the file could not be read or written") // also any of the above
)

// A FailedError is an operation on a directory or file that failed. It is the kind of its cause
// to errors.Is, so that every failure of a disk has a kind.
type FailedError struct {
	Attempt string // what was attempted
	Err     error
}

func (e *FailedError) Error() string { return fmt.Sprintf("%s: %v", e.Attempt, e.Err) }

// Unwrap returns the cause.
func (e *FailedError) Unwrap() error { return e.Err }

// Is reports whether target is a kind of e.
func (e *FailedError) Is(target error) bool {
	switch target {
	case ErrNoRoom:
		return causedBy(e.Err, unix.ENOSPC, unix.EDQUOT)
	case ErrReadOnly:
		return causedBy(e.Err, unix.EROFS)
	case ErrResources:
		return Short(e.Err)
	case ErrFailed:
		return true
	}
	return false
}

// Short reports whether err says that the process or the system is short of descriptors or
// memory for the moment. That says nothing about what was to be read or written.
func Short(err error) bool {
	return causedBy(err, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS)
}

func causedBy(err error, numbers ...unix.Errno) bool {
	for _, n := range numbers {
		if errors.Is(err, n) {
			return true
		}
	}
	return false
}

// failed returns err as a failure of attempt, nil if there is none.
func failed(attempt string, err error) error {
	if err == nil {
		return nil
	}
	return &FailedError{Attempt: attempt, Err: err}
}
