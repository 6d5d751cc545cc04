// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// trace walks to p and calls see with each directory on the way, by its path without links,
// and with the name that is looked up there. What changes where p leads changes one of these
// names: a package manager that renames a file over another, a deployment that turns the
// link "current", a file that was missing and appears.
//
// It serves the watching alone. What is hashed is found by find, in one call.
func trace(p string, see func(dir, name string)) {
	walk(p, see, func(string, uint32) {})
}

// walk goes to p as the kernel does (path_resolution(7)), looking up one name after the
// other, until one does not exist. It calls see with each name before that is looked up, and
// link with each symbolic link and its owner. It returns the path of what p leads to, without
// links.
func walk(p string, see func(dir, name string), link func(at string, owner uint32)) (string, error) {
	dir, rest, links := "/", strings.Split(p, "/"), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			dir = path.Dir(dir)
			continue
		}
		see(dir, name)
		next := path.Join(dir, name)
		h, err := find(unix.AT_FDCWD, next, false)
		if err != nil {
			return "", err
		}
		if h.kind() != unix.S_IFLNK {
			h.close()
			dir = next
			continue
		}
		target, err := h.target()
		h.close()
		if err != nil {
			return "", err
		}
		if links++; links > maxLinks {
			return "", unix.ELOOP
		}
		link(next, h.st.Uid)
		if strings.HasPrefix(target, "/") {
			dir = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return dir, nil
}
