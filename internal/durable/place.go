// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A place is a name in an open folder. No link is followed from it on, so that another user who
// may write to a folder of the path cannot lead a write elsewhere any more.
type place struct {
	dir     int // descriptor of the folder, to be closed
	name    string
	through bool // name is a link of the kernel to something open, such as /proc/self/fd/1
}

func (p place) close() { _ = unix.Close(p.dir) }

// maxLinks is how many links lead to one place at most, as for the kernel (path_resolution(7)).
const maxLinks = 40

// find opens the folder of path. It follows only links that [follow] accepts, and one that is the
// last part of path only if last is set.
func find(path string, last bool) (place, error) {
	w := walk{place: place{dir: -1}, rest: strings.Split(path, "/"), last: last}
	err := w.start(path)
	for err == nil && w.name == "" {
		err = w.step()
	}
	if err != nil && w.dir >= 0 {
		w.close()
	}
	return w.place, err
}

// A walk goes along a path, folder by folder, until it has found the place.
type walk struct {
	place
	rest  []string // of the path
	last  bool     // its last part is followed too
	links int      // followed so far
}

// step takes one part of the path.
func (w *walk) step() error {
	for len(w.rest) > 1 && (w.rest[0] == "" || w.rest[0] == ".") {
		w.rest = w.rest[1:]
	}
	part, final := w.rest[0], len(w.rest) == 1
	w.rest = w.rest[1:]
	if final && (part == "" || part == "." || part == "..") {
		return unix.EISDIR
	}
	fd, err := unix.Openat(w.dir, part, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if final && errors.Is(err, unix.ENOENT) {
		w.name = part
		return nil
	}
	if err != nil {
		return err
	}
	var s unix.Stat_t
	if err := unix.Fstat(fd, &s); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	switch link := s.Mode&unix.S_IFMT == unix.S_IFLNK; {
	case link && (!final || w.last):
		target, err := follow(fd, &s, part)
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			return err
		}
		return w.divert(part, target, final)
	case final:
		w.name = part
		return unix.Close(fd)
	}
	w.close() // a folder; the next step fails if it is none
	w.dir = fd
	return nil
}

// divert goes on where a link leads to.
func (w *walk) divert(part, target string, final bool) error {
	if final && w.ofKernel() {
		w.name, w.through = part, true
		return nil
	}
	if w.links++; w.links > maxLinks {
		return unix.ELOOP
	}
	w.rest = append(strings.Split(target, "/"), w.rest...)
	return w.start(target)
}

// start begins at the root if path is absolute, and otherwise where p is, or in the working
// directory.
func (p *place) start(path string) error {
	from := "/"
	if !strings.HasPrefix(path, "/") {
		if p.dir >= 0 {
			return nil
		}
		from = "."
	}
	fd, err := unix.Open(from, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if p.dir >= 0 {
		p.close()
	}
	p.dir = fd
	return nil
}

// follow returns where an open link leads to, if it belongs to root or to this user and has no
// other name. Another user may have made any other one, to have a file of root overwritten.
func follow(fd int, s *unix.Stat_t, name string) (string, error) {
	if s.Uid != 0 && s.Uid != uint32(os.Geteuid()) || s.Nlink > 1 {
		return "", &AccessError{name, fmt.Sprintf("it is a symbolic link that uid %d made: name the file that it leads to", s.Uid)}
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// ofKernel reports whether the folder of p is in procfs.
func (p place) ofKernel() bool {
	var s unix.Statfs_t
	return unix.Fstatfs(p.dir, &s) == nil && s.Type == unix.PROC_SUPER_MAGIC
}

// kind returns the type of what is at p, 0 if there is nothing. A link is a link.
func (p place) kind() (uint32, error) {
	var s unix.Stat_t
	err := unix.Fstatat(p.dir, p.name, &s, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	return s.Mode & unix.S_IFMT, err
}
