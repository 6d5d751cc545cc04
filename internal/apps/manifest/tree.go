// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// tree is a directory in the place of "/": an unpacked package, or the image of a
// machine. Absolute paths and absolute links begin there, and ".." does not lead out
// of it. A nil tree is the file system of this machine.
type tree struct {
	dir  *os.File
	name string // without links, and without a slash at its end
}

func openTree(name string) (*tree, error) {
	fd, err := retryEINTR(func() (int, error) {
		return unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	t := &tree{dir: os.NewFile(uintptr(fd), name)}
	real, err := os.Readlink(fmt.Sprintf("%s%d", ownDescriptors, fd))
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
