// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"errors"
	"fmt"
	"path"
	"sync"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/apps/manifest"
)

// directoryID names a directory: inotify watches the directory itself, by any of its paths, and
// reports all events by the path that was first.
type directoryID struct{ dev, ino uint64 }

// footprint is what a measurement looked at: the names in each directory.
type footprint map[directoryID]map[string]bool

// follower keeps the watches that all apps together need, and knows which apps
// depend on a name that changed.
type follower struct {
	mu      sync.Mutex // guards all below
	watcher Watcher
	starts  uint64                 // how often it began, or lost events
	stopped error                  // why watcher is nil
	failed  map[string]error       // directories that could not be watched
	watched map[string]directoryID // by path
	prints  map[string][]footprint // by app: of the last measurement, and of a running one
}

var errNotStarted = errors.New("watching has not started")

// start begins to watch with w, or records why that is impossible. Everything has
// to be measured again for the watches to be set.
func (f *follower) start(w Watcher, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watcher, f.stopped = w, err
	f.starts++
	f.failed = make(map[string]error)
	f.watched = make(map[string]directoryID)
	f.prints = make(map[string][]footprint)
}

// lost notes that events were lost: what the watching did not tell of may have happened.
func (f *follower) lost() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starts++
}

// state returns nil while changes are noticed as they happen. The error says why they are
// found by looking at everything every 30 seconds instead.
func (f *follower) state() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watcher == nil {
		if f.stopped == nil {
			return errNotStarted
		}
		return fmt.Errorf("watch for changes: %w", f.stopped)
	}
	for dir, err := range f.failed {
		if errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("watch %s and %d others: the limit of inotify watches is reached: raise fs.inotify.max_user_watches", dir, len(f.failed)-1)
		}
		return fmt.Errorf("watch %s and %d others: %w", dir, len(f.failed)-1, err)
	}
	return nil
}

// works returns a number that stays the same while all changes are noticed as they happen, and 0
// while they are not.
func (f *follower) works() uint64 {
	if f.state() != nil {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.starts
}

// sighting collects the footprint of one measurement. Its names count from the
// moment they are seen, so that a change between looking and committing is noticed.
type sighting struct {
	f     *follower
	app   string
	print footprint
	dirs  map[string]directoryID
}

func (f *follower) begin(app string) *sighting {
	s := &sighting{f: f, app: app, print: make(footprint), dirs: make(map[string]directoryID)}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watcher != nil {
		f.prints[app] = append(f.prints[app], s.print)
	}
	return s
}

// see watches dir for name before the caller looks at it.
func (s *sighting) see(dir, name string) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if s.f.watcher == nil {
		return
	}
	id, ok := s.dirs[dir]
	if !ok {
		if id, ok = s.f.watch(dir); !ok {
			return
		}
		s.dirs[dir] = id
	}
	if s.print[id] == nil {
		s.print[id] = make(map[string]bool)
	}
	s.print[id][name] = true
}

// watch adds dir, again if it is watched: its path may lead elsewhere by now.
func (f *follower) watch(dir string) (directoryID, bool) {
	var st unix.Stat_t
	err := f.watcher.Add(dir)
	if err == nil {
		err = unix.Stat(dir, &st)
	}
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		// Not there: the directory above is watched for its name.
		delete(f.failed, dir)
		return directoryID{}, false
	case err != nil:
		f.failed[dir] = err
		return directoryID{}, false
	}
	delete(f.failed, dir)
	id := directoryID{uint64(st.Dev), st.Ino}
	f.watched[dir] = id
	return id, true
}

// commit makes the sighting all that its app depends on, and gives up watches that
// no app needs any more. A sighting that was cut short adds nothing.
func (s *sighting) commit(whole bool) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	before := s.f.prints[s.app]
	if len(before) == 0 { // watching began or ended meanwhile
		return
	}
	if whole {
		s.f.prints[s.app] = []footprint{s.print}
	} else {
		s.f.prints[s.app] = before[:len(before)-1]
	}
	s.f.prune()
}

// forget drops an app that is no longer declared.
func (f *follower) forget(app string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watcher == nil {
		return
	}
	delete(f.prints, app)
	f.prune()
}

func (f *follower) prune() {
	wanted := make(map[directoryID]bool)
	for _, prints := range f.prints {
		for _, print := range prints {
			for id := range print {
				wanted[id] = true
			}
		}
	}
	for dir, id := range f.watched {
		if !wanted[id] {
			delete(f.watched, dir)
			// An error means that there is no such watch any more, as wanted.
			_ = f.watcher.Remove(dir)
		}
	}
}

// dependents returns the apps for which a change of p matters.
func (f *follower) dependents(p string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	id, ok := f.watched[path.Dir(p)]
	own, watched := f.watched[p]
	var apps []string
	for app, prints := range f.prints {
		for _, print := range prints {
			if ok && (print[id][manifest.EveryName] || print[id][path.Base(p)]) || watched && print[own] != nil {
				apps = append(apps, app)
				break
			}
		}
	}
	return apps
}

// A Watcher reports changes to the names in directories.
type Watcher interface {
	Add(dir string) error    // again for a directory that was replaced
	Remove(dir string) error // of one that may not exist any more
	Events() <-chan string   // path of what changed: a name in an added directory, or the directory; closed at the end
	Errors() <-chan error    // among them ErrOverflow
	Close() error
}

// ErrOverflow on the channel of errors means that events were lost.
var ErrOverflow = errors.New("event queue overflowed")

// inotify is the Watcher of inotify(7). It watches directories, never files: a
// watch on a file dies when a package manager renames another over it.
type inotify struct {
	w      *fsnotify.Watcher
	events chan string
	errs   chan error
	done   chan struct{}
}

func newInotify() (Watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	i := &inotify{w: w, events: make(chan string), errs: make(chan error), done: make(chan struct{})}
	go i.pass()
	return i, nil
}

// pass puts the library's events and errors into our terms until it is closed.
func (i *inotify) pass() {
	defer close(i.events)
	for {
		select {
		case e, ok := <-i.w.Events:
			if !ok {
				return
			}
			select {
			case i.events <- e.Name:
			case <-i.done:
				return
			}
		case err, ok := <-i.w.Errors:
			if !ok {
				return
			}
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				err = ErrOverflow
			}
			select {
			case i.errs <- err:
			case <-i.done:
				return
			}
		}
	}
}

func (i *inotify) Add(dir string) error { return i.w.Add(dir) }

func (i *inotify) Remove(dir string) error {
	if err := i.w.Remove(dir); !errors.Is(err, fsnotify.ErrNonExistentWatch) {
		return err
	}
	return nil
}

func (i *inotify) Events() <-chan string { return i.events }
func (i *inotify) Errors() <-chan error  { return i.errs }

func (i *inotify) Close() error {
	close(i.done)
	return i.w.Close()
}
