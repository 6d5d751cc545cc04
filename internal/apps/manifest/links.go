// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// checkLinks refuses a declared path p that leads to h through the link of another user, as
// the kernel does in directories like /tmp (proc_sys_fs(5), protected_symlinks). The agent
// reads files that other users may not read, and puts sizes and digests into a log that
// every client may read: an application's user could make it look into any file, by a link
// in the place of a declared one.
//
// Links of root, of the file's own owner and of the agent's own user are followed. So is any
// link to a regular file, called name, that all users may read: it shows nothing new.
//
// It walks the way again after h was found. If an attacker changes a link meanwhile, the way
// has to end at h nevertheless, over links that may be followed. It calls touch before it
// looks at a name.
func checkLinks(p string, h *handle, name string, touch func(string)) error {
	var foreign string // the first link of another user
	var uid uint32     // its owner
	end, err := walk(p, func(dir, name string) { touch(path.Join(dir, name)) }, func(at string, found *handle) {
		owner := found.st.Uid
		if found.kind() == unix.S_IFLNK && foreign == "" && owner != 0 && owner != h.st.Uid && int(owner) != os.Geteuid() {
			foreign, uid = at, owner
		}
	})
	if err != nil || !h.at(end) {
		return &ChangedError{Path: p}
	}
	if foreign == "" || h.kind() == unix.S_IFREG && h.st.Mode&0o004 != 0 && public(path.Dir(name)) {
		return nil
	}
	return &FileError{Path: p, Problem: fmt.Sprintf("leads through the link %q of uid %d to a file of uid %d that is not readable for all users: declare %q, or make the link as root",
		foreign, uid, h.st.Uid, name)}
}

// public reports whether all users may go to dir.
func public(dir string) bool {
	for {
		var st unix.Stat_t
		if err := unix.Lstat(dir, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&0o001 == 0 {
			return false
		}
		if dir == "/" {
			return true
		}
		dir = path.Dir(dir)
	}
}

// walk goes to p as the kernel does (path_resolution(7)), looking up one name after the
// other, until one does not exist. It calls see with each directory on the way, by its path
// without links, and with the name that is about to be looked up there, and step with
// everything that it finds, links included. It returns the path of what p leads to, without
// links.
func walk(p string, see func(dir, name string), step func(at string, found *handle)) (string, error) {
	dir, rest, links := "/", strings.Split(p, "/"), 0
	root, err := find(unix.AT_FDCWD, dir, false)
	if err != nil {
		return "", err
	}
	step(dir, root)
	root.close()
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
		step(next, h)
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
		if strings.HasPrefix(target, "/") {
			dir = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return dir, nil
}
