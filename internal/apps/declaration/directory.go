// SPDX-License-Identifier: Apache-2.0

package declaration

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/pcr"
)

// mask is the target of a link that takes the declaration of its name out of force.
const mask = "/dev/null"

// suffix is the ending of declaration files. All other files are ignored.
const suffix = ".toml"

// A Source says where declarations are, and what they are trusted for.
type Source struct {
	Directories []string // one in a later directory overrides one of the same name in an earlier
	Owners      []uint32 // users that may own declarations and their directories
	LookupUser  LookupUser
}

// A Set is what the directories of declarations say: for every name a declaration or the
// reason why it was refused. Masked names are nowhere.
type Set struct {
	Declarations map[string]*Declaration // of apps that are files
	Containers   map[string]*Declaration // of apps that are containers
	Refused      map[string]error
	Meant        map[string]Meant // of each of Refused
}

// Load reads all directories, the later ones overriding the earlier. A directory that other
// users can write to fails the whole: no name in it means anything.
func (c *Source) Load() (*Set, error) {
	s := &Set{Declarations: make(map[string]*Declaration), Containers: make(map[string]*Declaration), Refused: make(map[string]error), Meant: make(map[string]Meant)}
	for _, dir := range c.Directories {
		if err := s.directory(c, dir); err != nil {
			return nil, err
		}
	}
	if n := len(s.Declarations) + len(s.Containers) + len(s.Refused); n > MaxApps {
		return nil, &Error{File: strings.Join(c.Directories, " and "), Problem: fmt.Sprintf("%d apps are declared, at most %d are followed: remove some", n, MaxApps)}
	}
	s.refuseTwins()
	s.refuseTwinContainers()
	return s, nil
}

func (s *Set) directory(c *Source, dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return unread(dir, "open", err)
	}
	d := os.NewFile(uintptr(fd), dir)
	defer d.Close()
	if err := c.trusted(d, dir); err != nil {
		return err
	}
	names, err := d.Readdirnames(MaxDirectoryNames + 1)
	if err != nil && err != io.EOF {
		return unread(dir, "list", err)
	}
	if len(names) > MaxDirectoryNames {
		return &Error{File: dir, Problem: fmt.Sprintf("more than %d names in a directory of declarations", MaxDirectoryNames)}
	}
	for _, file := range names {
		name, ok := strings.CutSuffix(file, suffix)
		if !ok || strings.HasPrefix(file, ".") {
			continue
		}
		if err := CheckName(name); err != nil {
			return &Error{File: path.Join(dir, file), Problem: err.Error()}
		}
		declared, m, err := s.file(c, fd, dir, file)
		if durable.Short(err) {
			return err // otherwise a passing shortage would take the app out of force
		}
		delete(s.Declarations, name)
		delete(s.Containers, name)
		delete(s.Refused, name)
		delete(s.Meant, name)
		switch {
		case err != nil:
			s.Refused[name], s.Meant[name] = err, m
		case declared != nil && declared.IsContainer():
			s.Containers[name] = declared
		case declared != nil:
			s.Declarations[name] = declared
		}
	}
	return nil
}

// AnyUser returns a look-up for a machine that is not this one: each name is a user. Of their
// uids only root's is known.
func AnyUser() LookupUser {
	known := map[string]uint32{"root": 0}
	return func(name string) (uint32, error) {
		if _, ok := known[name]; !ok {
			known[name] = 1<<31 + uint32(len(known)) // no user that a declaration names by number
		}
		return known[name], nil
	}
}

// Read reads one declaration, whose name is that of its file. It accepts any owner, and users
// that do not exist here, as a build does.
func Read(file string) (*Declaration, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxDeclaration+1))
	if err != nil {
		return nil, err
	}
	name, ok := strings.CutSuffix(path.Base(file), suffix)
	if !ok {
		return nil, &Error{File: file, Problem: fmt.Sprintf("want the name APP%s, with the name of the app", suffix)}
	}
	d, err := Parse(name, file, b, AnyUser())
	if err == nil && len(b) == 0 {
		err = errors.New("empty: on a machine it would mask a declaration of the same name")
	}
	return d, err
}

// file reads one declaration, nil without an error if the file is a mask. If it is refused, file
// also returns for which instances it was meant.
func (s *Set) file(c *Source, dirfd int, dir, file string) (*Declaration, Meant, error) {
	unknown := Meant{Unknown: true}
	full := path.Join(dir, file)
	fd, err := unix.Openat(dirfd, file, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		target := make([]byte, len(mask)+1)
		if n, err := unix.Readlinkat(dirfd, file, target); err == nil && string(target[:n]) == mask {
			return nil, Meant{}, nil
		}
		// The link's target may be in a directory that other users can write to.
		return nil, unknown, &Error{File: full, Problem: "symbolic link: only one to /dev/null is followed, as a mask"}
	}
	if err != nil {
		return nil, unknown, unread(full, "open", err)
	}
	f := os.NewFile(uintptr(fd), full)
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, unknown, &Error{File: full, Problem: "not a regular file"}
	}
	if err := c.trusted(f, full); err != nil {
		return nil, unknown, err
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxDeclaration+1))
	if err != nil {
		return nil, unknown, unread(full, "read", err)
	}
	if len(b) == 0 {
		return nil, Meant{}, nil
	}
	d, err := Parse(strings.TrimSuffix(file, suffix), full, b, c.LookupUser)
	if err == nil {
		err = d.notStatic(c.LookupUser)
	}
	if err != nil {
		return nil, meant(b), err
	}
	return d, Meant{}, nil
}

// unread returns why a file or directory could not be read. A shortage of descriptors or memory
// says nothing about it.
func unread(name, attempt string, err error) error {
	if durable.Short(err) {
		return fmt.Errorf("%s %s: %w", attempt, name, err)
	}
	return &Error{File: name, Problem: fmt.Sprintf("%s: %v", attempt, err)}
}

// trusted refuses what another user than the owners could have written: a declaration
// decides which content counts as the app.
func (c *Source) trusted(f *os.File, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return unread(name, "stat", err)
	}
	if !slices.Contains(c.Owners, st.Uid) {
		return &Error{File: name, Problem: fmt.Sprintf("owned by uid %d, want one of %v: chown it to root", st.Uid, c.Owners)}
	}
	if st.Mode&0o022 != 0 {
		return &Error{File: name, Problem: fmt.Sprintf("mode %#o lets other users write: chmod go-w it", st.Mode&0o7777)}
	}
	return nil
}

// refuseTwins refuses every app that has unit and user of an app with a smaller name: a
// caller must be one app.
func (s *Set) refuseTwins() {
	type identity struct {
		unit string
		uid  uint32
		name string // of a dynamic user, which has no uid
	}
	of := func(d *Declaration, u pcr.AppUser) identity {
		if d.Dynamic {
			return identity{unit: d.Unit, uid: NoUID, name: d.User}
		}
		return identity{unit: d.Unit, uid: u.UID}
	}
	first := make(map[identity]*Declaration)
	for _, name := range slices.Sorted(maps.Keys(s.Declarations)) {
		d := s.Declarations[name]
		users := append(pcr.AppUsers{{User: d.User, UID: d.UID}}, d.Users...)
		for _, u := range users {
			if other := first[of(d, u)]; other != nil {
				s.Refused[name] = &Error{File: d.File, Problem: fmt.Sprintf("unit %s and user %s are already those of %s", d.Unit, u.User, other.File)}
				s.Meant[name] = meantBy([]string{d.Unit})
				delete(s.Declarations, name)
			}
		}
		for _, u := range users {
			if s.Declarations[name] != nil {
				first[of(d, u)] = d
			}
		}
	}
}
