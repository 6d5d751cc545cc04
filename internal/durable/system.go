// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// System is the system calls of one directory. Each is one step that can fail, or be the last
// before a crash. Errors are those of the kernel.
type System interface {
	Open(name string, flags int, perm uint32) (File, error) // openat(2)
	Rename(from, to string) error                           // renameat(2)
	Remove(name string) error                               // unlinkat(2)
	Names() ([]string, error)                               // getdents64(2), without "." and ".."
	Sync() error                                            // fsync(2) of the directory
	Lock() error                                            // locks the directory, exclusively
	FileSystem() (int64, error)                             // f_type of fstatfs(2) of the directory
	Close() error
}

// File is the system calls of one open file.
type File interface {
	Stat() (Stat, error)         // fstat(2)
	Read(p []byte) (int, error)  // read(2): 0 and nil at the end
	Write(p []byte) (int, error) // write(2)
	Truncate(size int64) error   // ftruncate(2)
	Sync() error                 // fsync(2)
	Close() error
}

// Stat is the part of fstat(2) that matters for a file or directory.
type Stat struct {
	Mode uint32 // st_mode
	UID  uint32
	Size int64 // bytes
}

// check refuses what has another type, belongs to another user or gives other users access. An
// attacker who can write there could make the agent attest to an invented log.
func (s Stat) check(name string, typ uint32) error {
	switch uid := uint32(os.Geteuid()); {
	case s.Mode&unix.S_IFMT != typ:
		return &AccessError{name, fmt.Sprintf("its file type is %#o, want %#o", s.Mode&unix.S_IFMT, typ)}
	case s.UID != uid:
		return &AccessError{name, fmt.Sprintf("it belongs to uid %d and this process is uid %d: chown it", s.UID, uid)}
	case s.Mode&foreign != 0:
		return &AccessError{name, fmt.Sprintf("its mode %#o gives other users access: chmod go= it", s.Mode&0o7777)}
	}
	return nil
}

// Linux opens the directory path of the running system and checks it as [Open] does.
func Linux(path string) (System, error) {
	fd, err := ignoringEINTR2(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, failed("open directory "+path, err)
	}
	s, err := descriptor(fd).Stat()
	if err == nil {
		err = s.check(path, unix.S_IFDIR)
	}
	if err != nil {
		unix.Close(fd)
		return nil, failed("open directory "+path, err)
	}
	return &directory{fd: fd}, nil
}

type directory struct {
	fd   int
	held []int // descriptors that lock it
}

func (d *directory) Open(name string, flags int, perm uint32) (File, error) {
	fd, err := ignoringEINTR2(func() (int, error) { return unix.Openat(d.fd, name, flags, perm) })
	if err != nil {
		return nil, err
	}
	return descriptor(fd), nil
}

func (d *directory) Rename(from, to string) error {
	return unix.Renameat(d.fd, from, d.fd, to)
}

func (d *directory) Remove(name string) error { return unix.Unlinkat(d.fd, name, 0) }

// Names lists the directory through a descriptor of its own, which has its own position.
func (d *directory) Names() ([]string, error) {
	fd, err := ignoringEINTR2(d.again)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), ".")
	names, err := f.Readdirnames(-1)
	return names, errors.Join(err, f.Close())
}

func (d *directory) Sync() error { return descriptor(d.fd).Sync() }

// again opens the directory once more.
func (d *directory) again() (int, error) {
	return unix.Openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// Lock locks the directory itself. Only if a process has it that can never run again, a file in
// it is locked instead.
func (d *directory) Lock() (err error) {
	if d.held != nil {
		return nil
	}
	l := &locker{ended: Ended, patience: patience, sync: d.Sync, open: func(place int, create bool) (int, error) {
		if place == 0 {
			return ignoringEINTR2(d.again)
		}
		return openPlace(d.fd, placeName(lockFile, place-1), create)
	}}
	d.held, err = l.take()
	return err
}

func (d *directory) FileSystem() (int64, error) {
	var s unix.Statfs_t
	err := unix.Fstatfs(d.fd, &s)
	return int64(s.Type), err
}

func (d *directory) Close() error {
	d.held = release(d.held)
	return unix.Close(d.fd)
}

// closed is the directory of a [Dir] that was closed. Its number may be that of another
// descriptor by now.
type closed struct{}

func (closed) Open(string, int, uint32) (File, error) { return nil, fs.ErrClosed }
func (closed) Rename(string, string) error            { return fs.ErrClosed }
func (closed) Remove(string) error                    { return fs.ErrClosed }
func (closed) Names() ([]string, error)               { return nil, fs.ErrClosed }
func (closed) Sync() error                            { return fs.ErrClosed }
func (closed) Lock() error                            { return fs.ErrClosed }
func (closed) FileSystem() (int64, error)             { return 0, fs.ErrClosed }
func (closed) Close() error                           { return fs.ErrClosed }

type descriptor int

func (d descriptor) Stat() (Stat, error) {
	var s unix.Stat_t
	if err := unix.Fstat(int(d), &s); err != nil {
		return Stat{}, err
	}
	return Stat{Mode: s.Mode, UID: s.Uid, Size: s.Size}, nil
}

func (d descriptor) Read(p []byte) (int, error) {
	return ignoringEINTR2(func() (int, error) { return unix.Read(int(d), p) })
}

func (d descriptor) Write(p []byte) (int, error) {
	return ignoringEINTR2(func() (int, error) { return unix.Write(int(d), p) })
}

func (d descriptor) Truncate(size int64) error {
	return ignoringEINTR(func() error { return unix.Ftruncate(int(d), size) })
}

func (d descriptor) Sync() error { return ignoringEINTR(func() error { return unix.Fsync(int(d)) }) }

// Close closes the descriptor once: Linux frees it even if close(2) fails.
func (d descriptor) Close() error { return unix.Close(int(d)) }

// The Go runtime preempts threads by signals, which may interrupt slow system calls.
func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

func ignoringEINTR2(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); err != unix.EINTR {
			return n, err
		}
	}
}

// A LockedError is returned if another live process has locked a directory or file. It is EWOULDBLOCK to
// errors.Is.
type LockedError struct {
	PID int // number of the process; 0 if unknown
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return "another process has locked it: stop that process first"
	}
	return fmt.Sprintf("process %d has locked it: stop that process first", e.PID)
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
