// SPDX-License-Identifier: Apache-2.0

// Package durable keeps small files in one private directory. A crash, a full disk or a power
// cut leaves each of them whole: as it was before an operation, or as it is after. A file that
// is appended to may get a torn end, which can be cut off.
//
// The directory and every file in it must belong to the process's own user, and no other user
// may have access. Names are relative to a descriptor of the directory, and symbolic links are
// never followed. So an attacker cannot plant a file elsewhere under one of our names.
//
// [WriteFile] writes a file as a whole into any other folder.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Permissions of what a Dir makes and accepts.
const (
	filePerm  = 0o600
	foreign   = 0o077 // bits that give other users access
	lockFile  = "lock"
	newSuffix = ".new"
)

// A Dir is one open directory. Its methods may be called concurrently.
type Dir struct {
	mu  sync.Mutex
	sys System
}

// Open opens the directory path, which must exist, belong to the process's own
// effective user and have mode 0700. Only the last component of path may not be a
// symbolic link.
func Open(path string) (*Dir, error) {
	sys, err := Linux(path)
	if err != nil {
		return nil, err
	}
	return New(sys), nil
}

// Make opens the directory path as [Open] does, and makes it if it does not exist.
func Make(path string) (*Dir, error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, failed("make directory "+path, Cause(err))
	}
	return Open(path)
}

// New returns a Dir on a system of the caller.
func New(sys System) *Dir { return &Dir{sys: sys} }

// Close closes the directory and gives up its lock. Every other method fails from then on.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.sys.Close()
	d.sys = closed{}
	return err
}

// Lock locks the directory for this process, until it ends or closes d. It does not wait: it
// returns a [*LockedError] if another live process has the lock. The lock is on the directory
// itself, so it stays if the directory is emptied. A process that was killed and cannot end is
// passed over, after a moment; then files in the directory are locked (see lock.go).
func (d *Dir) Lock() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.sys.Lock()
	if errors.Is(err, unix.EWOULDBLOCK) {
		locked, _ := errors.AsType[*LockedError](err)
		if locked == nil || locked.PID == 0 {
			locked = &LockedError{PID: d.holder()}
		}
		return locked
	}
	if err != nil {
		return failed("lock the directory", err)
	}
	// The file tells people which process has the lock. It need not survive a crash.
	f, err := d.open(lockFile, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	if err != nil {
		return failed("lock the directory", err)
	}
	_, err = f.Write([]byte(strconv.Itoa(unix.Getpid()) + "\n"))
	return failed("lock the directory", errors.Join(err, f.Close()))
}

// InMemory reports whether the directory is in memory, so that nothing in it outlives the boot.
func (d *Dir) InMemory() (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	kind, err := d.sys.FileSystem()
	if err != nil {
		return false, failed("ask for the file system of the directory", err)
	}
	return kind == unix.TMPFS_MAGIC || kind == unix.RAMFS_MAGIC, nil
}

// holder returns the process that has the lock, by the lock file, or 0.
func (d *Dir) holder() int {
	b, _ := d.read(lockFile, 32) // nothing if it cannot be read
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return pid
}

// Read returns the content of a file of at most limit bytes. The error is fs.ErrNotExist if it
// does not exist, and a [*SizeError] if it is larger.
func (d *Dir) Read(name string, limit int64) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, err := d.read(name, limit)
	if err != nil {
		return nil, failed("read "+name, err)
	}
	return b, nil
}

func (d *Dir) read(name string, limit int64) ([]byte, error) {
	f, err := d.open(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if s.Size > limit {
		return nil, &SizeError{Got: s.Size, Want: limit}
	}
	b := make([]byte, s.Size)
	for n := 0; n < len(b); {
		m, err := f.Read(b[n:])
		if err != nil {
			return nil, err
		}
		if m == 0 {
			return nil, &SizeError{Got: int64(n), Want: s.Size}
		}
		n += m
	}
	return b, nil
}

// Append writes data after the first at bytes of a file, which must have exactly that many,
// and returns when it is on disk. It makes the file if at is 0. After an error the file may
// contain all of data, some or none: [Dir.Truncate] makes it certain.
func (d *Dir) Append(name string, at int64, data []byte) error {
	return d.do(fmt.Sprintf("append %d bytes to %s", len(data), name), func() error {
		flags := unix.O_WRONLY | unix.O_APPEND
		if at == 0 {
			flags |= unix.O_CREAT
		}
		err := d.with(name, flags, func(f File, s Stat) error {
			if s.Size != at {
				return &SizeError{Got: s.Size, Want: at}
			}
			return writeAll(f, data)
		})
		if err == nil && at == 0 {
			err = d.sys.Sync() // the name must last too
		}
		return err
	})
}

// do runs f while no other method runs. Attempt says in an error what f does.
func (d *Dir) do(attempt string, f func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return failed(attempt, f())
}

// Truncate cuts a file to size bytes and returns when that is on disk. A file that is shorter
// is never lengthened: the error is a [*SizeError].
func (d *Dir) Truncate(name string, size int64) error {
	return d.do(fmt.Sprintf("truncate %s to %d bytes", name, size), func() error {
		return d.with(name, unix.O_WRONLY, func(f File, s Stat) error {
			if s.Size < size {
				return &SizeError{Got: s.Size, Want: size}
			}
			if s.Size > size {
				if err := f.Truncate(size); err != nil {
					return err
				}
			}
			return f.Sync()
		})
	})
}

// Replace gives a file new content, and makes the file if it does not exist. A reader finds the
// old content or the new, also after a crash. After an error it may be either.
func (d *Dir) Replace(name string, data []byte) error {
	return d.do("replace "+name, func() error { return d.replace(name, data) })
}

// maxAside is how many files of one name are kept aside.
const maxAside = 8

// KeepAside gives a file another name, NAME.kept-1 or the next that is free, and returns that
// name when it is on disk. If there are 8 already, it replaces the last.
func (d *Dir) KeepAside(name string) (aside string, err error) {
	err = d.do("keep "+name+" aside", func() error {
		if err := checkName(name); err != nil {
			return err
		}
		names, err := d.sys.Names()
		if err != nil {
			return err
		}
		for n := 1; n <= maxAside; n++ {
			if aside = fmt.Sprintf("%s.kept-%d", name, n); !slices.Contains(names, aside) {
				break
			}
		}
		if err := d.sys.Rename(name, aside); err != nil {
			return err
		}
		return d.sys.Sync()
	})
	return aside, err
}

// Remove deletes a file and returns when that is on disk. The error is fs.ErrNotExist if it does
// not exist.
func (d *Dir) Remove(name string) error {
	return d.do("remove "+name, func() error {
		err := checkName(name)
		if err == nil {
			err = d.sys.Remove(name)
		}
		if err == nil {
			err = d.sys.Sync()
		}
		return err
	})
}

// Names lists the files in alphabetical order, without the lock file and what a killed
// [Dir.Replace] left.
func (d *Dir) Names() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	names, err := d.sys.Names()
	if err != nil {
		return nil, failed("list the directory", err)
	}
	names = slices.DeleteFunc(names, func(n string) bool {
		return isPlace(n) || strings.HasPrefix(n, ".") && strings.HasSuffix(n, newSuffix)
	})
	slices.Sort(names)
	return names, nil
}

func (d *Dir) replace(name string, data []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	temporary := "." + name + newSuffix
	// A process that was killed here left one.
	if err := d.sys.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := d.with(temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, func(f File, _ Stat) error { return writeAll(f, data) })
	if err == nil {
		err = d.sys.Rename(temporary, name)
	}
	if err != nil {
		_ = d.sys.Remove(temporary) // frees the space; the next Replace tries again
		return err
	}
	return d.sys.Sync()
}

// with opens a file, passes it to f and closes it. A failed close after a sync changes nothing
// on disk, but is an error all the same.
func (d *Dir) with(name string, flags int, f func(File, Stat) error) error {
	file, err := d.open(name, flags)
	if err != nil {
		return err
	}
	s, err := file.Stat()
	if err == nil {
		err = f(file, s)
	}
	return errors.Join(err, file.Close())
}

// open opens a file and refuses one that is not a regular file of our own, without access for
// other users. O_NONBLOCK keeps a planted FIFO from blocking us.
func (d *Dir) open(name string, flags int) (File, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	f, err := d.sys.Open(name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, filePerm)
	if err != nil {
		return nil, err
	}
	s, err := f.Stat()
	if err == nil {
		err = s.check(name, unix.S_IFREG)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// checkName refuses a name that leads out of the directory. The kernel refuses names that are
// too long.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q is not a file name", name)
	}
	return nil
}

// writeAll writes data and returns when it is on disk.
func writeAll(f File, data []byte) error {
	for len(data) > 0 {
		n, err := f.Write(data)
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return f.Sync()
}
