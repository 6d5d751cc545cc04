// SPDX-License-Identifier: Apache-2.0

package caller

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/internal/unitname"
)

// ErrNoUnit is returned for a cgroup path that names no system unit.
var ErrNoUnit = errors.New("no systemd system unit")

// UnitOf returns the systemd system unit of the processes in the cgroup path, as
// /proc/PID/cgroup shows it: the first component, from the root, that is not a slice.
//
// Only the system manager makes cgroups up to that depth. The unit may own what is below,
// and can give it any name. A service "billing.service" of a user's own manager lies below
// "user@1000.service", and its unit is the latter.
//
// Names are read as systemd writes them: one leading underscore is an escape and is
// removed (systemd escapes names that begin with "_" or "." or with the name of a
// controller). A path with ".." comes from outside the agent's cgroup namespace, and no
// kernel writes an empty component: both name no unit.
func UnitOf(path string) (string, error) {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return "", fmt.Errorf("%w: cgroup path does not begin with /", ErrNoUnit)
	}
	if rest == "" {
		return "", fmt.Errorf("%w: the process is in the root cgroup", ErrNoUnit)
	}
	// All components are checked first: a ".." further down would make the ones before it
	// meaningless.
	for part := range strings.SplitSeq(rest, "/") {
		if part == "" || part == "." || part == ".." {
			return "", fmt.Errorf("%w: cgroup path leads outside the agent's cgroup namespace", ErrNoUnit)
		}
	}
	for part := range strings.SplitSeq(rest, "/") {
		name := strings.TrimPrefix(part, "_")
		if isSlice(name) {
			continue
		}
		if _, err := unitname.Running(name); err == nil {
			return name, nil
		}
		return "", fmt.Errorf("%w: the first cgroup below the slices has no name of a unit", ErrNoUnit)
	}
	return "", fmt.Errorf("%w: the process is in a slice itself", ErrNoUnit)
}

// isSlice reports whether name is that of a slice, of which there are no templates.
func isSlice(name string) bool {
	n, err := unitname.Parse(name)
	return err == nil && n.Type == "slice" && !n.Template && n.Instance == ""
}

// MaxCgroup is how many bytes of /proc/PID/cgroup are read: one line of at most
// PATH_MAX for each of a handful of hierarchies.
const MaxCgroup = 64 << 10

// Hierarchy says which line of /proc/PID/cgroup contains systemd's units. It is found once, from what is mounted, and not from the lines: on a unified system a
// container tool may mount a "name=systemd" hierarchy of its own.
type Hierarchy string

const (
	Unified Hierarchy = "0::"            // cgroup v2, alone or with v1 controllers
	Legacy  Hierarchy = ":name=systemd:" // cgroup v1
)

// Path returns the cgroup path of h in the content of /proc/PID/cgroup (cgroups(7): lines of
// hierarchy number, controllers and path, parted by colons). The kernel lets no cgroup
// have a line break in its name, so a line is a line.
func (h Hierarchy) Path(content []byte) (string, error) {
	var found []string
	for line := range bytes.SplitSeq(content, []byte("\n")) {
		switch h {
		case Unified:
			if path, ok := bytes.CutPrefix(line, []byte(h)); ok {
				found = append(found, string(path))
			}
		case Legacy:
			number, path, ok := bytes.Cut(line, []byte(h))
			if ok && len(bytes.Trim(number, "0123456789")) == 0 {
				found = append(found, string(path))
			}
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%w: %d lines %q in /proc/PID/cgroup, want one", ErrNoUnit, len(found), string(h))
	}
	return found[0], nil
}
