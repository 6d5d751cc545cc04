// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// suffix of declaration files; all other files are passed over.
const suffix = ".toml"

// set is what the directories of declarations say: for every name a declaration or
// the reason why it was refused. Masked names are in neither.
type set struct {
	declarations map[string]*Declaration
	refused      map[string]error
}

// load reads all directories, the later ones overriding the earlier. A directory
// that others can write to fails the whole: no name in it means anything.
func (c *Config) load() (*set, error) {
	s := &set{declarations: make(map[string]*Declaration), refused: make(map[string]error)}
	for _, dir := range c.Directories {
		if err := s.directory(c, dir); err != nil {
			return nil, err
		}
	}
	if n := len(s.declarations) + len(s.refused); n > MaxApps {
		return nil, fmt.Errorf("%d apps are declared in %s, at most %d are followed: remove some", n, strings.Join(c.Directories, " and "), MaxApps)
	}
	s.refuseTwins()
	return s, nil
}

func (s *set) directory(c *Config, dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open declarations in %s: %w", dir, err)
	}
	d := os.NewFile(uintptr(fd), dir)
	defer d.Close()
	if err := c.trusted(d, dir); err != nil {
		return err
	}
	names, err := d.Readdirnames(MaxDirectoryNames + 1)
	if err != nil && err != io.EOF {
		return fmt.Errorf("list declarations in %s: %w", dir, err)
	}
	if len(names) > MaxDirectoryNames {
		return &DeclarationError{File: dir, Problem: fmt.Sprintf("more than %d names in a directory of declarations", MaxDirectoryNames)}
	}
	for _, file := range names {
		name, ok := strings.CutSuffix(file, suffix)
		if !ok || strings.HasPrefix(file, ".") {
			continue
		}
		if err := checkAppName(name); err != nil {
			return &DeclarationError{File: path.Join(dir, file), Problem: err.Error()}
		}
		declared, err := s.file(c, fd, dir, file)
		delete(s.declarations, name)
		delete(s.refused, name)
		switch {
		case err != nil:
			s.refused[name] = err
		case declared != nil:
			s.declarations[name] = declared
		}
	}
	return nil
}

// file reads one declaration; nil without an error is a mask.
func (s *set) file(c *Config, dirfd int, dir, file string) (*Declaration, error) {
	full := path.Join(dir, file)
	fd, err := unix.Openat(dirfd, file, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		target, err := readlinkat(dirfd, file)
		if err == nil && target == "/dev/null" {
			return nil, nil
		}
		// The link's target may lie in a directory that others write to.
		return nil, &DeclarationError{File: full, Problem: "symbolic link: only one to /dev/null is followed, as a mask"}
	}
	if err != nil {
		return nil, &DeclarationError{File: full, Problem: fmt.Sprintf("open: %v", err)}
	}
	f := os.NewFile(uintptr(fd), full)
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, &DeclarationError{File: full, Problem: "not a regular file"}
	}
	if err := c.trusted(f, full); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxDeclaration+1))
	if err != nil {
		return nil, &DeclarationError{File: full, Problem: fmt.Sprintf("read: %v", err)}
	}
	if len(b) == 0 {
		return nil, nil
	}
	return ParseDeclaration(strings.TrimSuffix(file, suffix), full, b, c.LookupUser)
}

// trusted refuses what somebody other than the owners could have written: whoever
// writes a declaration decides which content passes for the app.
func (c *Config) trusted(f *os.File, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat %s: %w", name, err)
	}
	if !slices.Contains(c.Owners, st.Uid) {
		return &DeclarationError{File: name, Problem: fmt.Sprintf("owned by uid %d, want one of %v: chown it to root", st.Uid, c.Owners)}
	}
	if st.Mode&0o022 != 0 {
		return &DeclarationError{File: name, Problem: fmt.Sprintf("mode %#o lets others write: chmod go-w it", st.Mode&0o7777)}
	}
	return nil
}

// refuseTwins refuses every app that shares unit and user with one of a smaller
// name: a caller must be one app.
func (s *set) refuseTwins() {
	type identity struct {
		unit string
		uid  uint32
	}
	first := make(map[identity]*Declaration)
	for _, name := range slices.SortedFunc(maps.Keys(s.declarations), cmp.Compare) {
		d := s.declarations[name]
		id := identity{d.Unit, d.UID}
		if other := first[id]; other != nil {
			s.refused[name] = &DeclarationError{File: d.File, Problem: fmt.Sprintf("unit %s and user %s are already those of %s", d.Unit, d.User, other.File)}
			delete(s.declarations, name)
			continue
		}
		first[id] = d
	}
}
