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
	"sync"
	"sync/atomic"
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

// rules are what is guarded. They do not change, apart from what is silent.
type rules struct {
	folders map[string][]claim // by the path that the kernel shows
	ids     map[string]fileID  // of these folders, as they are marked
	silent  sync.Map           // folders whose file system did not answer
}

// skew is how much the change time of a file can be behind the clock: it counts in ticks.
const skew = time.Second

// finding is how long file systems may take to say which file a name leads to.
const finding = 5 * time.Second

// owners returns the apps that a start concerns, nil if none. Since is a time before the event.
func (g *Gate) owners(e fanotify.Event, since time.Time) []owner {
	r, path := g.rules.Load(), pathOf(e.FD)
	var st unix.Stat_t
	if err := unix.Fstat(e.FD, &st); err != nil {
		return r.of(path)
	}
	s := search{r: r, path: path, st: st, since: since}
	done := make(chan []owner, 1)
	go func() { done <- s.owners() }()
	late := time.NewTimer(finding)
	defer late.Stop()
	var found []owner
	select {
	case found = <-done:
	case <-late.C: // a mount of another user can be over the path of a folder
		found = r.of(path)
		if folder := s.at.Load(); folder != nil {
			r.silent.Store(*folder, true)
			found = append(found, r.loose(*folder)...)
		}
	}
	if len(found) == 0 {
		return nil
	}
	if unit := g.c.Unit(e.PID); unit == gatewire.Agent || unit == gatewire.Unit {
		return nil
	}
	return found
}

// A search finds the apps of a file that starts. The path that the kernel shows is not enough: the
// file may have been renamed since, and a process in a mount namespace of its own sees the folder at
// another path, or another one at the path of the folder.
type search struct {
	r     *rules
	path  string
	st    unix.Stat_t            // of the file
	since time.Time              // before the event
	at    atomic.Pointer[string] // folder that is asked
}

// owners returns the apps of the file.
func (s *search) owners() (found []owner) {
	claimed := s.r.of(s.path)
	if folder := filepath.Dir(s.path); s.r.folders[folder] != nil && s.leads(folder, filepath.Base(s.path)) {
		return claimed
	}
	if short, gone := strings.CutSuffix(s.path, " (deleted)"); gone {
		if found := s.r.of(short); len(found) > 0 {
			return found
		}
	}
	recent := changed(&s.st, s.since)
	if recent {
		found = claimed
	}
	seen := false
	var lost []string
	for _, folder := range slices.Sorted(maps.Keys(s.r.folders)) {
		switch name := filepath.Base(s.path); {
		case s.leads(folder, name):
			seen = true
			found = append(found, s.r.of(filepath.Join(folder, name))...)
		case s.replaced(folder):
			lost = append(lost, folder)
		}
	}
	switch {
	case len(found) > 0 || seen && !recent:
		return found
	case len(lost) > 0:
		return s.r.loose(lost[0])
	case recent:
		return s.moved()
	}
	return nil
}

// leads reports whether a name in a folder leads to the file.
func (s *search) leads(folder, name string) bool {
	var st unix.Stat_t
	return s.ask(folder) && unix.Lstat(filepath.Join(folder, name), &st) == nil && st.Dev == s.st.Dev && st.Ino == s.st.Ino
}

// replaced reports whether the path of a folder does not lead to what is marked any more.
func (s *search) replaced(folder string) bool {
	var st unix.Stat_t
	return !s.ask(folder) || unix.Stat(folder, &st) != nil || fileID{uint64(st.Dev), st.Ino} != s.r.ids[folder]
}

// ask reports whether the file system of a folder may be asked, and notes that it is.
func (s *search) ask(folder string) bool {
	s.at.Store(&folder)
	_, silent := s.r.silent.Load(folder)
	return !silent
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

// claim reports whether an app claims in a folder all that c does.
func (r *rules) claim(folder string, c claim) bool {
	names := make(map[string]bool)
	for _, x := range r.folders[folder] {
		if x.app == c.app && x.all {
			return true
		}
		if x.app == c.app {
			maps.Copy(names, x.names)
		}
	}
	for name := range c.names {
		if !names[name] {
			return false
		}
	}
	return !c.all
}

// loose returns an app that claims something in a folder.
func (r *rules) loose(folder string) []owner {
	for _, c := range r.folders[folder] {
		return []owner{{app: c.app, loose: true}}
	}
	return nil
}

// moved returns an app of which a file was renamed since then. If none was, a file that is not at
// the name of an app was not there at the event either.
func (s *search) moved() []owner {
	for _, folder := range slices.Sorted(maps.Keys(s.r.folders)) {
		var st unix.Stat_t
		if s.ask(folder) && unix.Stat(folder, &st) == nil && !changed(&st, s.since) {
			continue
		}
		for _, c := range s.r.folders[folder] {
			moved := c.all
			for name := range c.names {
				moved = moved || !s.ask(folder) || unix.Lstat(filepath.Join(folder, name), &st) != nil || changed(&st, s.since)
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
