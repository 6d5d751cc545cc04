// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// WriteFile writes a file as a whole: after a crash, and to any reader, path is as it was
// before or has the content b and is on disk. The mode is perm before the umask, also if
// the file exists. A symbolic link at path is replaced, not followed. Links before it are followed
// if root or this user made them. The folder may belong to another user; for the agent's own
// state, [Dir.Replace] trusts no other user.
//
// A process that is killed in WriteFile can leave ".NAME-RANDOM" in the folder.
func WriteFile(path string, b []byte, perm fs.FileMode) error {
	return wrote(path, write(path, false, func(p place) error { return p.replace(b, perm, keepMode, rename) }))
}

// WriteReadable is [WriteFile] for a file that every user may read and its owner write,
// whatever the umask.
func WriteReadable(path string, b []byte) error {
	readable := func(f *os.File) error { return f.Chmod(0o644) }
	return wrote(path, write(path, false, func(p place) error { return p.replace(b, 0o644, readable, rename) }))
}

// WriteNew is [WriteFile] for a file that does not exist. The error is fs.ErrExist if it does.
func WriteNew(path string, b []byte, perm fs.FileMode) error {
	return wrote(path, write(path, false, func(p place) error { return p.replace(b, perm, keepMode, renameNew) }))
}

// Deliver writes b to what a user named. A file is written as [WriteFile] does, and so is the
// target of a link that root or this user made. A device or a pipe is written to and stays what it
// is.
func Deliver(path string, b []byte, perm fs.FileMode) error {
	return wrote(path, write(path, true, func(p place) error {
		switch kind, err := p.kind(); {
		case err != nil:
			return err
		case p.through:
			return p.into(b, 0)
		case kind == unix.S_IFDIR:
			return unix.EISDIR
		case kind != 0 && kind != unix.S_IFREG:
			return p.into(b, unix.O_NOFOLLOW)
		}
		return p.replace(b, perm, keepMode, rename)
	}))
}

// write runs f with the place of path.
func write(path string, last bool, f func(place) error) error {
	p, err := find(path, last)
	if err != nil {
		return err
	}
	defer p.close()
	return f(p)
}

func wrote(path string, err error) error {
	if err != nil {
		return fmt.Errorf("write %s: %w", path, Cause(err))
	}
	return nil
}

// keepMode leaves a new file the mode that the umask leaves it.
func keepMode(*os.File) error { return nil }

// replace writes a new file, prepares and syncs it, and puts it at p with put.
func (p place) replace(b []byte, perm fs.FileMode, prepare func(*os.File) error, put func(place, *os.File) error) error {
	next := "." + p.name + "-" + rand.Text()[:10]
	fd, err := unix.Openat(p.dir, next, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(perm.Perm()))
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), next)
	if err = prepare(f); err == nil {
		_, err = f.Write(b)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = put(p, f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = unix.Unlinkat(p.dir, next, 0)
		return err
	}
	return p.sync()
}

// rename puts the file f at p, in place of what is there.
func rename(p place, f *os.File) error { return unix.Renameat(p.dir, f.Name(), p.dir, p.name) }

// renameNew puts the file f at p, if nothing is there.
func renameNew(p place, f *os.File) error {
	err := unix.Renameat2(p.dir, f.Name(), p.dir, p.name, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// A file system without that flag.
	if err := unix.Linkat(p.dir, f.Name(), p.dir, p.name, 0); err != nil {
		return err
	}
	return unix.Unlinkat(p.dir, f.Name(), 0)
}

// into writes to the device or pipe at p.
func (p place) into(b []byte, flags int) error {
	fd, err := unix.Openat(p.dir, p.name, flags|unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), p.name)
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// sync makes the names in the folder of p last. It passes over a folder that the user may
// write but not read, and a file system that cannot sync folders.
func (p place) sync() error {
	fd, err := unix.Openat(p.dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	err = unix.Fsync(fd)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, unix.Close(fd))
}

// ReadFile returns the content of a file of at most limit bytes. A larger one is an error.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := ReadAll(f, limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, Cause(err))
	}
	return b, nil
}

// ReadAll reads to the end of r. More than limit bytes are an error.
func ReadAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return b, err
}

// Cause returns the cause of an error of package os, without the operation and the name of
// the file. That of a temporary file means nothing to a user.
func Cause(err error) error {
	if x, ok := errors.AsType[*fs.PathError](err); ok {
		return x.Err
	}
	if x, ok := errors.AsType[*os.LinkError](err); ok {
		return x.Err
	}
	return err
}
