// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A lock of the kernel ends with its process. But a process can be killed and never end: one
// thread waits in the kernel for a file system or a device that does not answer, and keeps the
// descriptors of all. Its locks would keep the next process out until the next boot.
//
// So a lock has several places, each of which is locked by flock(2): for a directory the
// directory itself, then the files lock, lock.1 and so on. A process takes the first place that
// is free or locked by no live process, and then looks at all others. It has the lock if no
// live process has any of them. Two processes that start at the same time may both fail, but
// cannot both succeed: each takes a place before it looks at the others. Places are never
// renamed, so there is no moment in which a name leads to another one.
//
// What the killed process waits for may be the disk of the directory itself. A write that it
// began could then come after those of the next process. So the directory is synced before the
// process is passed over: that waits for the same disk, and for what the file system has begun.
const places = 8

// patience is how long a process that was killed may take to end before its lock is passed over.
const patience = 250 * time.Millisecond

// locker takes the places of one lock.
type locker struct {
	open     func(place int, create bool) (fd int, err error)
	sync     func() error // waits for the disk of the places; nil if nothing on it matters
	ended    func(pid int) bool
	patience time.Duration
}

// errEnded is returned for a place that a process has which can never run again.
var errEnded = errors.New("locked by a process that was killed and cannot end")

// take takes the lock and returns the descriptors that have it. The error is a [*LockedError]
// if a live process has it.
func (l *locker) take() (held []int, err error) {
	defer func() {
		if err != nil {
			held = release(held)
		}
	}()
	until := time.Now().Add(l.patience)
	mine, synced := 0, l.sync == nil
	for ; mine < places; mine++ {
		fd, err := l.try(mine, true, until)
		if errors.Is(err, errEnded) && !synced {
			if err := l.sync(); err != nil {
				return held, err
			}
			synced = true
			fd, err = l.try(mine, true, time.Now().Add(l.patience))
		}
		if err == nil {
			held = append(held, fd)
			break
		}
		if !errors.Is(err, errEnded) {
			return held, err
		}
	}
	if mine == places {
		return held, fmt.Errorf("%w: so are all its %d places: reboot", errEnded, places)
	}
	for place := range places {
		if place == mine {
			continue
		}
		fd, err := l.try(place, false, until)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, errEnded):
		case err != nil:
			return held, err
		default: // free: also one before mine, if its process has ended at last
			held = append(held, fd)
		}
	}
	return held, nil
}

// try locks one place. It waits until then for a process that was killed.
func (l *locker) try(place int, create bool, until time.Time) (fd int, err error) {
	if fd, err = l.open(place, create); err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	for ; ; time.Sleep(10 * time.Millisecond) {
		pid := holder("/proc", fd)
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return fd, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return fd, err
		case pid == 0 || !l.ended(pid):
			return fd, &LockedError{PID: pid}
		case time.Now().After(until):
			// A process that ended before this would have freed the place, and its number might
			// be that of another one by now.
			if holder("/proc", fd) != pid {
				return fd, &LockedError{PID: pid}
			}
			return fd, errEnded
		}
	}
}

func release(fds []int) []int {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
	return nil
}

// LockFile locks the file at path for this process, as [Dir.Lock] locks a directory. It makes
// path, and path.1 and so on if it has to. They stay: if they were removed, two processes could
// lock two files of one name. The folder must be writable by no other user than this one or
// root.
func LockFile(path string) (unlock func(), err error) {
	l := &locker{ended: Ended, patience: patience, open: func(place int, create bool) (int, error) {
		return openPlace(unix.AT_FDCWD, placeName(path, place), create)
	}}
	held, err := l.take()
	if err != nil {
		return nil, failed("lock "+path, err)
	}
	return func() { release(held) }, nil
}

// A Holder is a process that has a place of a lock.
type Holder struct {
	PID   int
	Ended bool // as [Ended] reports it
}

// Holders returns the processes that have the lock of the directory path, without locking it. More
// than one has places of it if some were killed and cannot end.
func Holders(path string) (found []Holder, err error) {
	for place := range places {
		name := path
		if place > 0 {
			name = filepath.Join(path, placeName(lockFile, place-1))
		}
		fd, err := ignoringEINTR2(func() (int, error) {
			return unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		})
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		pid := holder("/proc", fd)
		_ = unix.Close(fd)
		if pid != 0 {
			found = append(found, Holder{PID: pid, Ended: Ended(pid)})
		}
	}
	return found, nil
}

// placeName returns the name of a place among files.
func placeName(first string, place int) string {
	if place == 0 {
		return first
	}
	return first + "." + strconv.Itoa(place)
}

// isPlace reports whether a name in a directory is that of a place.
func isPlace(name string) bool {
	for place := range places - 1 {
		if name == placeName(lockFile, place) {
			return true
		}
	}
	return false
}

// openPlace opens a file to lock, and makes it if create.
func openPlace(dir int, name string, create bool) (fd int, err error) {
	flags := unix.O_RDWR | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	if create {
		flags |= unix.O_CREAT
	}
	fd, err = ignoringEINTR2(func() (int, error) { return unix.Openat(dir, name, flags, filePerm) })
	if err != nil {
		return -1, os.NewSyscallError("open "+name, err)
	}
	s, err := descriptor(fd).Stat()
	if err == nil {
		err = s.check(name, unix.S_IFREG)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
