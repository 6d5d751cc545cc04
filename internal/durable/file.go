// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WriteFile writes a file as a whole: after a crash, and to any reader, path is as it was
// before or has the content b and is on disk. The mode is perm before the umask, also if
// the file exists. A symbolic link at path is replaced, not followed. The folder may belong
// to another user; for the agent's own state, [Dir.Replace] trusts no other user.
//
// A process that is killed in WriteFile can leave ".NAME-RANDOM" in the folder.
func WriteFile(path string, b []byte, perm fs.FileMode) error {
	return writeFile(path, b, perm, func(*os.File) error { return nil })
}

// WriteReadable is [WriteFile] for a file that every user may read and its owner write,
// whatever the umask.
func WriteReadable(path string, b []byte) error {
	return writeFile(path, b, 0o644, func(f *os.File) error { return f.Chmod(0o644) })
}

func writeFile(path string, b []byte, perm fs.FileMode, prepare func(*os.File) error) error {
	dir := filepath.Dir(path)
	next := filepath.Join(dir, "."+filepath.Base(path)+"-"+rand.Text()[:10])
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, Cause(err))
	}
	if err = prepare(f); err == nil {
		_, err = f.Write(b)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		os.Remove(next)
		return fmt.Errorf("write %s: %w", path, Cause(err))
	}
	if err := syncFolder(dir); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
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

// syncFolder makes the names in a folder last. It passes over a folder that the user may
// write but not read, and a file system that cannot sync folders.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, f.Close())
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
