// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/fanotify"
	"github.com/cvm-agentd/agentd/internal/gatewire"
	"github.com/cvm-agentd/agentd/internal/text"
)

// owner is an app that a program belongs to.
type owner struct {
	app     string
	enforce bool
	loose   bool // that it belongs to the app is not sure: it is recorded, and not refused
}

// claim is what one app says of a folder.
type claim struct {
	owner
	all   bool            // every file in the folder is the app's
	names map[string]bool // otherwise those
}

// rules are what is guarded. They do not change.
type rules struct {
	folders map[string][]claim // by the path that the kernel shows
}

// skew is how much the change time of a file can be behind the clock: it counts in ticks.
const skew = time.Second

// owners returns the apps that a start concerns, nil if none. An attacker may have renamed the
// file since the event, so that it seems to belong to no app. Since is a time before the event.
func (g *Gate) owners(e fanotify.Event, since time.Time) []owner {
	r := g.rules.Load()
	path := pathOf(e.FD)
	found := r.of(path)
	if short, gone := strings.CutSuffix(path, " (deleted)"); gone && len(found) == 0 {
		found = r.of(short)
	}
	if len(found) == 0 {
		var st unix.Stat_t
		if err := unix.Fstat(e.FD, &st); err == nil && !changed(&st, since) {
			return nil
		}
		found = r.moved(since)
	}
	if len(found) == 0 {
		return nil
	}
	if unit := g.c.Unit(e.PID); unit == gatewire.Agent || unit == gatewire.Unit {
		return nil
	}
	return found
}

// changed reports whether a file may have changed, or was renamed, since then. A rename sets the
// change time of what is renamed, and of its folder.
func changed(st *unix.Stat_t, since time.Time) bool {
	return !time.Unix(st.Ctim.Unix()).Before(since.Add(-skew))
}

// of returns the apps that claim a path.
func (r *rules) of(path string) (all []owner) {
	folder, name := filepath.Split(path)
	for _, c := range r.folders[filepath.Clean(folder)] {
		if c.all || c.names[name] {
			all = append(all, c.owner)
		}
	}
	return all
}

// moved returns an app of which a file was renamed since then. If none was, a file that is not at
// the name of an app was not there at the event either.
func (r *rules) moved(since time.Time) []owner {
	for _, folder := range slices.Sorted(maps.Keys(r.folders)) {
		var st unix.Stat_t
		if err := unix.Stat(folder, &st); err == nil && !changed(&st, since) {
			continue
		}
		for _, c := range r.folders[folder] {
			moved := c.all
			for name := range c.names {
				moved = moved || unix.Lstat(filepath.Join(folder, name), &st) != nil || changed(&st, since)
			}
			if moved {
				return []owner{{app: c.app, loose: true}}
			}
		}
	}
	return nil
}

// pathOf returns the path of an open file as the kernel shows it.
func pathOf(fd int) string {
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return ""
	}
	return path
}

// shown returns a path as a record may contain it. A local user chooses the names of files.
func shown(path string) string {
	if text.Shown(path) && strings.HasPrefix(path, "/") && len(path) <= evidence.MaxPath {
		return path
	}
	return text.Fit("/"+strconv.QuoteToASCII(path), evidence.MaxPath)
}

// unitOf returns the system unit of a process, empty if it has none.
func unitOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			unit, _ := caller.UnitOf(path)
			return unit
		}
	}
	return ""
}
