// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Errors of Lease.
var (
	// ErrWritten is returned if some process has the file open for writing.
	ErrWritten = errors.New("it is open for writing")
	// ErrNoLease is returned if the file system gives no lease.
	ErrNoLease = errors.New("its file system gives no leases")
)

// Lease takes a read lease on an open file. While it lasts, the content does not change: it is
// refused if the file is open for writing, also by a mapping, and a process that opens the file for
// writing waits until the lease ends. It ends with Release, or when the descriptor is closed.
func Lease(fd int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return ErrWritten
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOLCK), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: %w", ErrNoLease, err)
	}
	return err
}

// Wanted reports whether a process waits for the end of a lease, or the kernel ended it.
func Wanted(fd int) bool {
	kind, err := unix.FcntlInt(uintptr(fd), unix.F_GETLEASE, 0)
	return err != nil || kind != unix.F_RDLCK
}

// Release ends a lease.
func Release(fd int) { _, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK) }

// A Root is the digest that fs-verity has of a file. The content of such a file cannot change, and
// two files with one root have one content.
type Root struct {
	algorithm uint16
	size      uint16
	digest    [64]byte
}

// Verity returns the root of an open file, and false if it has none.
func Verity(fd int) (Root, bool) {
	r := Root{size: 64}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.FS_IOC_MEASURE_VERITY, uintptr(unsafe.Pointer(&r)))
	return r, errno == 0
}
