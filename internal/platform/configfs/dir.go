// SPDX-License-Identifier: Apache-2.0

package configfs

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/platform"
)

// Dir is the path of an entry. The folder is opened for each attribute: root may make the entry
// anew at any time.
type Dir string

// open opens an attribute. Links are not followed.
func (d Dir) open(name string, flags int) (int, error) {
	for {
		fd, err := unix.Open(filepath.Join(string(d), name), flags|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NOCTTY, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, d.explain(err)
		}
	}
}

// explain tells an entry that does not exist from one without the attribute.
func (d Dir) explain(err error) error {
	var st unix.Stat_t
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %s is not handed over to the user of the agent: restart agentd-configfs.service", err, string(d))
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: agentd.service was started before configfs was mounted: restart it", err)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case errors.Is(unix.Lstat(string(d), &st), fs.ErrNotExist):
		return fmt.Errorf("%w: %s does not exist (agentd-configfs.service makes it, if the kernel has configfs-tsm)", platform.ErrAbsent, string(d))
	}
	return err
}

// Read follows [Attributes].
func (d Dir) Read(name string, most int) (b []byte, err error) {
	fd, err := d.open(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b = make([]byte, most+1)
	for have := 0; ; {
		n, err := unix.Read(fd, b[have:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, err
		case n == 0:
			return b[:have:have], nil
		}
		if have += n; have > most {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, most)
		}
	}
}

// Write follows [Attributes]. It is one write, since the kernel takes each as a value of its own.
func (d Dir) Write(name string, b []byte) error {
	fd, err := d.open(name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	n, err := unix.Write(fd, b)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Write(fd, b)
	}
	if err == nil && n != len(b) {
		err = fmt.Errorf("%w: %d of %d bytes were taken", unix.EIO, n, len(b))
	}
	// The kernel takes a blob when the last descriptor is closed.
	return errors.Join(err, unix.Close(fd))
}

// Has follows [Attributes].
func (d Dir) Has(name string) (bool, error) {
	var st unix.Stat_t
	err := unix.Lstat(filepath.Join(string(d), name), &st)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
