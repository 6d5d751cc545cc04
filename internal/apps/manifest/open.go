// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
)

// ownDescriptors are links to the open files of this process (proc(5)).
const ownDescriptors = "/proc/self/fd/"

// handle is a file that was found but not opened (O_PATH): it can be looked at
// without any effect. Opening a device or a FIFO can have one.
type handle struct {
	fd int
	st unix.Stat_t
}

// find resolves name below dirfd, or an absolute name. With follow, a symbolic link
// at the end is followed. Links below /proc that lead to a process' files (magic
// links) never are: what they name depends on the process that looks.
func find(dirfd int, name string, follow bool) (*handle, error) {
	return resolve(dirfd, name, follow, 0)
}

// resolve does what find does, with further flags of openat2(2) for the way to the file.
func resolve(dirfd int, name string, follow bool, flags uint64) (*handle, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS | flags}
	if !follow {
		how.Flags |= unix.O_NOFOLLOW
	}
	fd, err := retryEINTR(func() (int, error) { return unix.Openat2(dirfd, name, &how) })
	if err != nil {
		return nil, err
	}
	h := &handle{fd: fd}
	if err := unix.Fstat(fd, &h.st); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func (h *handle) close() { unix.Close(h.fd) }

func (h *handle) kind() uint32 { return h.st.Mode & unix.S_IFMT }

// open opens what was found, not what its name may lead to by now. O_NONBLOCK
// makes a file under a lease an error instead of a wait.
func (h *handle) open(flags int) (*os.File, error) {
	self := ownDescriptors + strconv.Itoa(h.fd)
	fd, err := retryEINTR(func() (int, error) {
		return unix.Open(self, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC|flags, 0)
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), self), nil
}

// path returns where the kernel says that h is. It may be wrong by the time it is read: see
// at.
func (h *handle) path() (string, error) {
	return os.Readlink(ownDescriptors + strconv.Itoa(h.fd))
}

// at reports whether h is what name leads to without following a link at its end.
func (h *handle) at(name string) bool {
	var st unix.Stat_t
	err := unix.Lstat(name, &st)
	return err == nil && st.Dev == h.st.Dev && st.Ino == h.st.Ino
}

// target returns the text of a symbolic link.
func (h *handle) target() (string, error) {
	b := make([]byte, evidence.MaxPath+1)
	n, err := unix.Readlinkat(h.fd, "", b)
	if err != nil {
		return "", err
	}
	if n == len(b) {
		return "", unix.ENAMETOOLONG
	}
	return string(b[:n]), nil
}

// remoteSystems are file systems (statfs(2)) whose files another program serves, often on
// the host. It can answer each reader with other bytes, so that a
// digest says nothing about what runs. FUSE includes virtiofs.
var remoteSystems = map[int64]string{
	unix.FUSE_SUPER_MAGIC: "FUSE",
	unix.NFS_SUPER_MAGIC:  "NFS",
	unix.SMB_SUPER_MAGIC:  "SMB",
	unix.SMB2_SUPER_MAGIC: "SMB",
	unix.CIFS_SUPER_MAGIC: "CIFS",
	unix.V9FS_MAGIC:       "9P",
	unix.CEPH_SUPER_MAGIC: "Ceph",
	unix.AFS_SUPER_MAGIC:  "AFS",
	unix.CODA_SUPER_MAGIC: "Coda",
}

// Remote returns the name of a kind of file system (statfs(2)) whose files another program serves,
// "" for any other.
func Remote(kind int64) string { return remoteSystems[kind] }

// system returns the kind of the file system of h.
func (h *handle) system() (int64, error) {
	var st unix.Statfs_t
	if _, err := retryEINTR(func() (int, error) { return 0, unix.Fstatfs(h.fd, &st) }); err != nil {
		return 0, err
	}
	return int64(uint32(st.Type)), nil
}

// kindName returns the name of a file that is neither regular nor a directory.
func kindName(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFIFO:
		return "FIFO"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFCHR:
		return "character device"
	case unix.S_IFBLK:
		return "block device"
	}
	return fmt.Sprintf("file of type %#o", mode&unix.S_IFMT)
}

func retryEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// tree is a directory in the place of "/": an unpacked package, or the image of a
// machine. Absolute paths and absolute links begin there, and ".." does not lead out
// of it. A nil tree is the file system of this machine.
type tree struct {
	dir  *os.File
	name string // without links, and without a slash at its end
}

func openTree(name string) (*tree, error) {
	dir, err := os.OpenFile(name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	t := &tree{dir: dir}
	real, err := os.Readlink(fmt.Sprintf("%s%d", ownDescriptors, dir.Fd()))
	if err != nil {
		t.close()
		return nil, err
	}
	t.name = strings.TrimSuffix(real, "/")
	return t, nil
}

func (t *tree) close() { t.dir.Close() }

// find resolves name from the root of t.
func (t *tree) find(name string, follow bool) (*handle, error) {
	if t == nil {
		return find(unix.AT_FDCWD, name, follow)
	}
	return resolve(int(t.dir.Fd()), name, follow, unix.RESOLVE_IN_ROOT)
}

// path returns the path of h with t as the root.
func (t *tree) path(h *handle) (string, error) {
	p, err := h.path()
	if err != nil || t == nil {
		return p, err
	}
	inside, ok := strings.CutPrefix(p, t.name+"/")
	if !ok {
		return "", fmt.Errorf("%s is not below %s", p, t.name)
	}
	return "/" + inside, nil
}

// leads reports whether name leads to h without following a link at its end.
func (t *tree) leads(name string, h *handle) bool {
	if t == nil {
		return h.at(name)
	}
	other, err := t.find(name, false)
	if err != nil {
		return false
	}
	defer other.close()
	return other.st.Dev == h.st.Dev && other.st.Ino == h.st.Ino
}

// CheckLocal returns an error if the file system of an open file is one whose content another
// program serves.
func CheckLocal(fd int) error {
	h := handle{fd: fd}
	kind, err := h.system()
	if err != nil {
		return err
	}
	if remote := remoteSystems[kind]; remote != "" {
		return fmt.Errorf("it is on %s, whose content another program serves", remote)
	}
	return nil
}
