package apps

import (
	"errors"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// trace walks to p as the kernel does (path_resolution(7)) and tells see each
// directory on the way, by its path without links, and the name that is looked up
// there. What changes where p leads changes one of these names: a package manager
// that renames a file over another, a deployment that turns the link "current", a
// file that was missing and appears.
//
// It serves the watching alone. What is hashed is found by find, in one call.
func trace(p string, see func(dir, name string)) {
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
		target, err := os.Readlink(next)
		if errors.Is(err, unix.EINVAL) { // not a link
			dir = next
			continue
		}
		if links++; err != nil || links > maxLinks {
			return
		}
		if strings.HasPrefix(target, "/") {
			dir = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
}
