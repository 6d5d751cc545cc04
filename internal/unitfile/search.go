// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/unitname"
)

// folders may contain unit files, of which the first counts, and drop-ins, which all count
// (systemd.unit(5), "Unit File Load Path"; `systemd-analyze unit-paths`).
var folders = []string{
	"/etc/systemd/system.control", "/run/systemd/system.control", transientFolder, "/run/systemd/generator.early",
	"/etc/systemd/system", "/etc/systemd/system.attached", "/run/systemd/system", "/run/systemd/system.attached",
	"/run/systemd/generator", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system",
	"/run/systemd/generator.late",
}

// transientFolder contains units that a program made while the system runs.
const transientFolder = "/run/systemd/transient"

// Errors of [Load], for errors.Is.
var (
	// ErrNoUnit is returned if no folder contains the unit file.
	ErrNoUnit = errors.New("there is no such unit file")
	// ErrMasked is returned for a unit that is masked, and so never starts.
	ErrMasked = errors.New("the unit is masked, so systemd never starts it: `systemctl unmask` undoes that")
)

// followed is the longest chain of aliases that systemd follows.
const followed = 8

// An index is what the folders below a root say of the names of units.
type index struct {
	root string
	ids  map[string]string // of each name the path of its unit file as seen in root, or the name that it is an alias of
}

// scan reads the names of all units, as unit_file_build_name_map of systemd does
// (src/shared/unit-file.c): a name in an earlier folder hides the same name in a later one.
func scan(root string) (*index, error) {
	x := &index{root: root, ids: map[string]string{}}
	for _, dir := range folders {
		entries, err := x.list(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name := e.Name()
			if _, known := x.ids[name]; known {
				continue
			}
			if _, err := unitname.Parse(name); err != nil {
				continue
			}
			switch e.Type() {
			case 0:
				x.ids[name] = filepath.Join(dir, name)
			case fs.ModeSymlink:
				if to, ok := x.link(dir, name); ok {
					x.ids[name] = to
				}
			}
		}
	}
	return x, nil
}

// list returns the entries of a folder as seen in root, none if it is missing.
func (x *index) list(dir string) ([]fs.DirEntry, error) {
	full, err := Within(x.root, dir)
	if err == nil {
		var entries []fs.DirEntry
		if entries, err = os.ReadDir(full); err == nil {
			return entries, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	return nil, err
}

// link returns what a link in a folder of units makes of its name: an alias of another name if it
// leads to a file in a folder of units, else a unit file of its own. An alias that systemd
// ignores is false.
func (x *index) link(dir, name string) (string, bool) {
	at, err := Within(x.root, dir)
	if err != nil {
		return "", false
	}
	target, err := os.Readlink(filepath.Join(at, name))
	if err != nil {
		return "", false
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(dir, target)
	}
	to := filepath.Join(x.inside(filepath.Dir(target)), filepath.Base(target))
	if !slices.ContainsFunc(folders, func(f string) bool { return strings.HasPrefix(to, f+"/") }) {
		return filepath.Join(dir, name), true
	}
	return filepath.Base(to), filepath.Base(to) != name && mayAlias(name, filepath.Base(to))
}

// inside returns where a folder really is, as seen in root.
func (x *index) inside(dir string) string {
	root, err := filepath.Abs(x.root)
	if err != nil {
		return dir
	}
	full, err := securejoin.SecureJoin(root, dir)
	if err != nil {
		return dir
	}
	rel, err := filepath.Rel(root, full)
	if err != nil {
		return dir
	}
	return filepath.Join("/", rel)
}

// mayAlias reports whether systemd takes alias for another name of the unit target
// (unit_validate_alias_symlink_or_warn): of the same type, an instance only of the same
// instance or of a template, a template only of a template, and any other only of its like.
func mayAlias(alias, target string) bool {
	a, err := unitname.Parse(alias)
	if err != nil {
		return false
	}
	b, err := unitname.Parse(target)
	if err != nil || a.Type != b.Type {
		return false
	}
	switch {
	case a.Template:
		return b.Template
	case a.Instance != "":
		return b.Template || b.Instance == a.Instance
	}
	return !b.Template && b.Instance == ""
}
