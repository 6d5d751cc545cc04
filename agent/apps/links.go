package apps

import (
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// checkLinks refuses a declared path p that leads to h through somebody else's link,
// as the kernel does in directories like /tmp (proc_sys_fs(5), protected_symlinks). The
// agent reads files that their readers may not, and puts sizes and digests into a log
// that every client may read: an application's user could have it look into any file,
// by a link in the place of a declared one.
//
// Links of root, of the file's own owner and of the agent's own user are followed. So is
// any to a regular file, called name, that everybody may read: nothing is learned from that.
//
// It walks the way again after h was found. Who changes a link meanwhile has to end at h
// all the same, over links that may be followed.
func checkLinks(p string, h *handle, name string) error {
	foreign, end, err := walkLinks(p, h.st.Uid)
	if err != nil {
		return &ChangedError{Path: p}
	}
	if !h.at(end) {
		return &ChangedError{Path: p}
	}
	if foreign == nil || h.kind() == unix.S_IFREG && h.st.Mode&0o004 != 0 && public(path.Dir(name)) {
		return nil
	}
	return &FileError{Path: p, Problem: fmt.Sprintf("leads through the link %q of uid %d to a file of uid %d that not everybody may read: declare %q, or have root make the link",
		foreign.path, foreign.uid, h.st.Uid, name)}
}

type foreignLink struct {
	path string
	uid  uint32
}

// walkLinks is trace with the owners of the links on the way: the first of somebody
// other than root, the agent and owner, and the path without links that p leads to.
func walkLinks(p string, owner uint32) (foreign *foreignLink, end string, err error) {
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
		next := path.Join(dir, name)
		h, err := find(unix.AT_FDCWD, next, false)
		if err != nil {
			return nil, "", err
		}
		if h.kind() != unix.S_IFLNK {
			h.close()
			dir = next
			continue
		}
		target, err := h.target()
		h.close()
		if links++; err != nil || links > maxLinks {
			return nil, "", unix.ELOOP
		}
		if uid := h.st.Uid; foreign == nil && uid != 0 && uid != owner && int(uid) != os.Geteuid() {
			foreign = &foreignLink{path: next, uid: uid}
		}
		if strings.HasPrefix(target, "/") {
			dir = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return foreign, dir, nil
}

// public reports whether everybody may go to dir.
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
