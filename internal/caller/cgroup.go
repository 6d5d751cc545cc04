// SPDX-License-Identifier: Apache-2.0

package caller

import (
	"bytes"
	"fmt"
)

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
