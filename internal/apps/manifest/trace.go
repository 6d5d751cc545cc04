// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A Mark stands for the identity of a file: two that are equal are of one file that was not
// written, renamed, linked, or given another mode or owner in between.
type Mark [16]byte

// A Trace is what a reading looked at. Of two readings, [Trace.Since] tells whether anything
// can have been different in between, also if it was put back.
//
// It rests on the change time, which no system call sets. Each write to a file moves it, and so
// does a rename of the file. A rename of a directory moves the change time of both that
// directory and the one that it is in, while a new file in a directory moves only its own.
type Trace struct {
	Files  map[string]Mark // of each file and link, by path
	Listed map[string]Mark // of each directory that was listed
	Ways   map[string]Way  // of each directory on the way to a declared path, by path without links

	places  map[string]string // by path: the name that was looked up for it, by a path without links; the path itself if absent
	loose   string            // first file that another user than root may write, empty if none
	shared  map[string]bool   // directories in which another user than root may replace files
	unclear string            // first path on a file system that is not in stampedSystems, empty if none
	last    time.Time         // latest change time of files, links and listed directories
	lastWay time.Time         // time from which on a change of every way shows
	looked  time.Time         // when the reading began
}

// A Way is a directory that a path leads through.
type Way struct {
	Place  Mark // device and inode
	Change Mark // with the change time
}

// stampedSystems are the file systems (statfs(2)) that are known to move the change time of a
// file or directory that is renamed. FAT does not.
var stampedSystems = []int64{
	unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC,
	unix.OVERLAYFS_SUPER_MAGIC, unix.EROFS_SUPER_MAGIC_V1, unix.SQUASHFS_MAGIC,
}

func newTrace() *Trace {
	return &Trace{
		Files: make(map[string]Mark), Listed: make(map[string]Mark), Ways: make(map[string]Way),
		places: make(map[string]string), shared: make(map[string]bool), looked: time.Now(),
	}
}

// file adds a file or a link, which was found at p.
func (t *Trace) file(p string, st *unix.Stat_t) {
	if t == nil {
		return
	}
	t.Files[p] = markOf(st, true)
	t.date(st)
	if t.loose == "" && st.Mode&unix.S_IFMT == unix.S_IFREG && !identify(st).steady() {
		t.loose = p
	}
}

// found notes which name was looked up last for the declared path p.
func (t *Trace) found(p, name string) {
	if t != nil && p != name {
		t.places[p] = name
	}
}

// Place returns the name whose change, in a directory that is watched, changes what is at p.
func (t *Trace) Place(p string) string {
	if place, other := t.places[p]; other {
		return place
	}
	return p
}

// list adds a directory that is listed.
func (t *Trace) list(p string, st *unix.Stat_t) {
	if t == nil {
		return
	}
	t.Listed[p] = markOf(st, true)
	t.date(st)
	t.share(p, st)
}

// share notes whether another user than root may replace files in the directory p.
func (t *Trace) share(p string, st *unix.Stat_t) {
	if !identify(st).steady() {
		t.shared[p] = true
	}
}

// way adds a directory that a path leads through.
func (t *Trace) way(p string, st *unix.Stat_t) {
	if t == nil {
		return
	}
	t.Ways[p] = Way{Place: markOf(st, false), Change: markOf(st, true)}
	t.share(p, st)
	// Directories such as /tmp change all the time: one tick of the clock is enough to tell.
	at, tick := time.Unix(st.Ctim.Unix()), SettleTime
	if st.Ctim.Nsec == 0 {
		tick = coarseSettleTime
	}
	if shows := at.Add(tick); shows.After(t.lastWay) {
		t.lastWay = shows
	}
}

func (t *Trace) date(st *unix.Stat_t) {
	if at := time.Unix(st.Ctim.Unix()); at.After(t.last) {
		t.last = at
	}
}

// on notes the file system of a path.
func (t *Trace) on(p string, system int64) {
	if t != nil && t.unclear == "" && !slices.Contains(stampedSystems, system) {
		t.unclear = p
	}
}

// markOf returns the mark of a file; without its state, only of device and inode.
func markOf(st *unix.Stat_t, state bool) (m Mark) {
	values := []uint64{uint64(st.Dev), st.Ino}
	if state {
		values = append(values, uint64(st.Mode), uint64(st.Uid), uint64(st.Gid), uint64(st.Size), uint64(st.Ctim.Sec), uint64(st.Ctim.Nsec))
	}
	b := make([]byte, 0, 64)
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	sum := sha256.Sum256(b)
	copy(m[:], sum[:])
	return m
}

// Guarded returns nil if only root and the agent's own user can have replaced or written what is
// at p, so that events tell how it came there. The kernel joins equal events that wait: two
// renames of other files over the same name, right after one another, can look like one. And it
// tells nothing of what is written by another name of the file.
func (t *Trace) Guarded(p string) error {
	switch dir := path.Dir(t.Place(p)); {
	case t.shared[dir]:
		return fmt.Errorf("another user than root may replace files in %q", dir)
	case t.loose != "":
		return fmt.Errorf("another user than root may write %q", t.loose)
	case t.unclear != "":
		return fmt.Errorf("%q is on a file system whose change times do not tell enough", t.unclear)
	}
	return nil
}

// Settled returns nil if every later change moves a change time of t. The error says why that
// cannot be told, and Wait how long after the reading another one could tell; 0 is never.
func (t *Trace) Settled() (wait time.Duration, err error) {
	switch age := t.looked.Sub(t.last); {
	case t.loose != "":
		return 0, fmt.Errorf("another user than root may write %q", t.loose)
	case t.unclear != "":
		return 0, fmt.Errorf("%q is on a file system whose change times do not tell enough", t.unclear)
	case age < 0:
		return 0, fmt.Errorf("a file was changed at a time that is yet to come")
	case age < cacheAge:
		return cacheAge - age, fmt.Errorf("a file was changed right before it was measured")
	case t.looked.Before(t.lastWay):
		return t.lastWay.Sub(t.looked), fmt.Errorf("a directory on the way to a file was changed right before it was looked at")
	}
	return 0, nil
}

// Since returns nil if nothing that t looked at can have been different at any time since
// before, which was settled. The error names the first path of which that is not sure.
func (t *Trace) Since(before *Trace) error {
	if err := t.FilesSince(before); err != nil {
		return err
	}
	return sameMarks(t.Listed, before.Listed)
}

// FilesSince does what Since does, and leaves out what was added to a listed directory and
// removed again.
func (t *Trace) FilesSince(before *Trace) error {
	if err := t.SameFiles(before); err != nil {
		return err
	}
	moved := func(p string) bool {
		now, known := t.Ways[p]
		return !known || now.Change != before.Ways[p].Change
	}
	for _, p := range slices.Sorted(maps.Keys(t.Ways)) {
		old, known := before.Ways[p]
		switch {
		case !known || old.Place != t.Ways[p].Place:
			return fmt.Errorf("the directory %q is another one", p)
		case p != "/" && moved(p) && moved(path.Dir(p)):
			return fmt.Errorf("the directory %q may have been replaced and put back: it and the one that it is in were changed", p)
		}
	}
	if len(before.Ways) != len(t.Ways) {
		return fmt.Errorf("the ways to the files led through %d directories before, and lead through %d now", len(before.Ways), len(t.Ways))
	}
	return nil
}

// SameFiles returns nil if the files and links themselves are the same as before.
func (t *Trace) SameFiles(before *Trace) error { return sameMarks(t.Files, before.Files) }

// Changed returns the files and links that are not the same as before, and those that are not
// there any more, each ascending by path.
func (t *Trace) Changed(before *Trace) (changed, gone []string) {
	for _, p := range slices.Sorted(maps.Keys(t.Files)) {
		if old, known := before.Files[p]; !known || old != t.Files[p] {
			changed = append(changed, p)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(before.Files)) {
		if _, still := t.Files[p]; !still {
			gone = append(gone, p)
		}
	}
	return changed, gone
}

// SamePlaces returns nil if the directories on the ways to the files are the same ones.
func (t *Trace) SamePlaces(before *Trace) error {
	for _, p := range slices.Sorted(maps.Keys(t.Ways)) {
		if old, known := before.Ways[p]; !known || old.Place != t.Ways[p].Place {
			return fmt.Errorf("the directory %q is another one", p)
		}
	}
	return nil
}

// sameMarks returns nil if now and before are the same.
func sameMarks(now, before map[string]Mark) error {
	for _, p := range slices.Sorted(maps.Keys(now)) {
		old, known := before[p]
		switch {
		case !known:
			return fmt.Errorf("%q was not there before", p)
		case old != now[p]:
			return fmt.Errorf("%q was changed, or replaced and put back", p)
		}
	}
	if len(before) != len(now) {
		return fmt.Errorf("there were %d files and links, or directories, before, and %d are there now", len(before), len(now))
	}
	return nil
}
