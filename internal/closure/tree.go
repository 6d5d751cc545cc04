// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// A tree is the files of a machine: those of this one, or of one that is being built in a folder.
// Links lead to the same paths as when the folder is "/", and never out of it.
type tree struct {
	root  string // without a slash at the end; "" is this machine
	owner uint32 // of the folder: the person who builds an image, in place of root
	links map[string]string
	most  int          // steps that may be made; 0: no limit
	steps int          // look-ups that were made
	given func() error // why nothing more is to be looked at; may be nil

	better map[string][]string // what capabilities found
	said   []string            // in words: what was left out of what it read
}

// omitted says what was left out.
func (t *tree) omitted(format string, args ...any) { say(&t.said, fmt.Sprintf(format, args...)) }

// errSteps ends a proposal whose files have more looked up than any application needs: a search path
// of hundreds of folders, for each of thousands of libraries.
var errSteps = errors.New("the files of the application have too many paths looked up: declare it by hand")

// step counts one look-up.
func (t *tree) step() error {
	t.steps++
	return t.spent()
}

// spent returns why nothing more may be looked at, nil if it may.
func (t *tree) spent() error {
	if t.most > 0 && t.steps > t.most {
		return errSteps
	}
	if t.given != nil {
		return t.given()
	}
	return nil
}

func newTree(root string) (*tree, error) {
	full, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	t := &tree{root: strings.TrimSuffix(full, "/"), links: map[string]string{}, most: maxSteps}
	info, err := os.Stat(full)
	if err != nil {
		return nil, err
	}
	if t.root != "" {
		t.owner = ownerOf(info)
	}
	return t, nil
}

func ownerOf(info fs.FileInfo) uint32 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return 0
}

// A place is what a path leads to.
type place struct {
	asked   string // path, clean and absolute
	real    string // without links
	info    fs.FileInfo
	planted []string // links on the way that another user than root made
}

// find follows a path, link by link, as path_resolution(7) says.
func (t *tree) find(p string) (*place, error) {
	if !path.IsAbs(p) {
		return nil, fmt.Errorf("%q is not absolute", p)
	}
	out := &place{asked: path.Clean(p)}
	at, rest, links := "/", strings.Split(p, "/"), 0
	info, err := os.Lstat(t.root + "/")
	for len(rest) > 0 && err == nil {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, name)
		if err = t.step(); err != nil {
			break
		}
		if info, err = os.Lstat(t.root + next); err != nil {
			break
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		var target string
		if target, err = os.Readlink(t.root + next); err != nil {
			break
		}
		if links++; links > maxLinks {
			return nil, &fs.PathError{Op: "follow", Path: p, Err: unix.ELOOP}
		}
		if !t.trusts(ownerOf(info)) {
			out.planted = append(out.planted, next)
		}
		if path.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	if err == nil {
		info, err = os.Lstat(t.root + path.Join("/", at))
	}
	if err != nil {
		return nil, &fs.PathError{Op: "find", Path: p, Err: durable.Cause(err)}
	}
	out.real, out.info = at, info
	return out, nil
}

// trusts reports whether a user may change what the machine runs anyway.
func (t *tree) trusts(uid uint32) bool { return uid == 0 || t.root != "" && uid == t.owner }

// regular finds a regular file.
func (t *tree) regular(p string) (*place, error) {
	at, err := t.find(p)
	if err == nil && !at.info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", p)
	}
	return at, err
}

// folder finds a directory.
func (t *tree) folder(p string) (*place, bool) {
	at, err := t.find(p)
	return at, err == nil && at.info.IsDir()
}

// open opens the file of a place. A link that was put there since is not followed.
func (t *tree) open(at *place) (*os.File, error) {
	full := t.root + at.real
	if info, err := os.Lstat(full); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file", at.asked))
	}
	return durable.OpenRegular(full)
}

// read returns the content of a regular file of at most limit bytes.
func (t *tree) read(p string, limit int64) ([]byte, error) {
	at, err := t.regular(p)
	if err != nil {
		return nil, err
	}
	f, err := t.open(at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := durable.ReadAll(f, limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", p, durable.Cause(err))
	}
	return b, nil
}

// list returns the names in a directory, sorted, and whether there are more than limit.
func (t *tree) list(dir string, limit int) (names []string, more bool) {
	at, ok := t.folder(dir)
	if !ok {
		return nil, false
	}
	entries, more, err := t.entries(at.real, limit)
	if err != nil {
		return nil, false
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, more
}

// entries returns what is in a folder, sorted, and whether there is more than limit. Another user may
// have put any number of names there, or something else in its place meanwhile.
func (t *tree) entries(real string, limit int) (out []fs.DirEntry, more bool, err error) {
	d, err := os.OpenFile(t.root+real, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, false, err
	}
	defer d.Close()
	for len(out) <= limit && err == nil {
		var some []fs.DirEntry
		some, err = d.ReadDir(min(256, limit+1-len(out)))
		out = append(out, some...)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if more = len(out) > limit; more {
		out = out[:limit]
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, more, err
}

// matches returns the paths that fit a pattern whose last part alone has wildcards, and those of
// its folders that are a single "*" too.
func (t *tree) matches(pattern string) []string {
	dirs := []string{"/"}
	for part := range strings.SplitSeq(strings.Trim(path.Clean(pattern), "/"), "/") {
		var next []string
		for _, dir := range dirs {
			if !strings.ContainsAny(part, `*?[\`) {
				next = append(next, path.Join(dir, part))
				continue
			}
			names, more := t.list(dir, maxListed)
			for _, name := range names {
				if ok, err := path.Match(part, name); !ok || err != nil || name[0] == '.' && part[0] != '.' {
					continue
				}
				if more = more || len(next) == maxListed; len(next) < maxListed {
					next = append(next, path.Join(dir, name))
				}
			}
			if more {
				t.omitted("more than %d names are searched for %s: the others are not followed", maxListed, pattern)
			}
		}
		dirs = next
	}
	return slices.DeleteFunc(dirs, func(p string) bool { _, err := t.find(p); return err != nil })
}

// usual returns a path with the links of a merged /usr replaced: /lib64/x is /usr/lib64/x if /lib64
// is a link. Other links stay in the path: they are part of what is declared.
func (t *tree) usual(p string) string {
	first, rest, ok := strings.Cut(strings.TrimPrefix(p, "/"), "/")
	if !ok {
		return p
	}
	top, known := t.links[first]
	if !known {
		top = "/" + first
		if slices.Contains([]string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"}, first) {
			if at, err := t.find("/" + first); err == nil {
				top = at.real
			}
		}
		t.links[first] = top
	}
	return path.Join(top, rest)
}

// writers returns who else than root can change what a place contains, in words; "" if only root.
func (t *tree) writers(p string) string {
	for at := p; ; at = path.Dir(at) {
		if t.step() != nil {
			return "" // which is said as a whole
		}
		info, err := os.Lstat(t.root + at)
		if err != nil {
			return ""
		}
		what := at
		if at == p {
			what = "it"
		}
		switch uid, mode := ownerOf(info), info.Mode(); {
		case !t.trusts(uid):
			return fmt.Sprintf("%s belongs to uid %d", what, uid)
		case mode&fs.ModeSymlink != 0:
		case mode.Perm()&0o002 != 0 && (mode&fs.ModeSticky == 0 || !mode.IsDir()):
			return fmt.Sprintf("%s is writable for all users", what)
		case mode.Perm()&0o020 != 0 && !t.trusts(groupOf(info)):
			return fmt.Sprintf("%s is writable for group %d", what, groupOf(info))
		}
		if at == "/" {
			return ""
		}
	}
}

func groupOf(info fs.FileInfo) uint32 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Gid
	}
	return 0
}
