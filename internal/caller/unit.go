// SPDX-License-Identifier: Apache-2.0

package caller

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNoUnit is returned for a cgroup path that names no system unit.
var ErrNoUnit = errors.New("no systemd system unit")

// maxUnitName is systemd's UNIT_NAME_MAX: bytes of a unit name.
const maxUnitName = 255

// unitTypes are the types of unit that processes run in (systemd.unit(5)), slices aside.
var unitTypes = []string{".service", ".scope", ".socket", ".mount", ".swap"}

// UnitOf is the systemd system unit of the processes in the cgroup path, as
// /proc/PID/cgroup shows it: the first component, from the root, that is no slice.
//
// Only the system manager makes cgroups up to that depth; what is below may have been
// delegated to the unit, so that anybody can have called it anything. A service
// "billing.service" of a user's own manager lies under "user@1000.service" and is that.
//
// Names are taken as systemd writes them: one leading underscore is an escape and is
// taken off (systemd escapes names that begin with "_" or "." or with the name of a
// controller). A path with ".." comes from outside the agent's cgroup namespace, an
// empty component from no kernel: both name no unit.
func UnitOf(path string) (string, error) {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return "", fmt.Errorf("%w: cgroup path does not begin with /", ErrNoUnit)
	}
	if rest == "" {
		return "", fmt.Errorf("%w: the process is in the root cgroup", ErrNoUnit)
	}
	// All components are looked at first: ".." further down would make the ones
	// before it mean nothing.
	for part := range strings.SplitSeq(rest, "/") {
		if part == "" || part == "." || part == ".." {
			return "", fmt.Errorf("%w: cgroup path leads outside the agent's cgroup namespace", ErrNoUnit)
		}
	}
	for part := range strings.SplitSeq(rest, "/") {
		name := strings.TrimPrefix(part, "_")
		switch {
		case isName(name, ".slice") && !strings.Contains(name, "@"):
			continue
		case isUnit(name):
			return name, nil
		}
		return "", fmt.Errorf("%w: the first cgroup below the slices has no name of a unit", ErrNoUnit)
	}
	return "", fmt.Errorf("%w: the process is in a slice itself", ErrNoUnit)
}

func isUnit(name string) bool {
	for _, t := range unitTypes {
		if isName(name, t) {
			return true
		}
	}
	return false
}

// isName follows unit_name_is_valid of systemd: letters, digits and ":-_.\" before the
// type, and at most one kind of "@", which must have something on both sides: a
// template itself never runs.
func isName(name, suffix string) bool {
	stem, ok := strings.CutSuffix(name, suffix)
	if !ok || stem == "" || len(name) > maxUnitName {
		return false
	}
	if at := strings.IndexByte(stem, '@'); at == 0 || at == len(stem)-1 {
		return false
	}
	for i := range len(stem) {
		c := stem[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune(":-_.\\@", rune(c)) {
			return false
		}
	}
	return true
}
