// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/internal/text"
)

// footprint is what a reading looked at.
type footprint struct {
	names  map[Watch]map[string]bool // in each directory
	failed map[string]error          // directories that could not be watched
}

// follower keeps the watches that the apps of one queue of events need, and knows which of them
// depend on a name that changed. Its lock is never held while the watcher adds or removes a
// watch: that can hang in a file system.
type follower struct {
	mu      sync.Mutex // guards all below, and what sightings contain
	watcher Watcher
	starts  uint64                  // grows each time that it began, or lost events
	stopped error                   // why watcher is nil
	watched map[Watch]bool          // that may be removed when nothing needs them
	prints  map[string][]*footprint // by app: of the last reading, and of those under way

	// Watches that nothing needs, to be removed. An Add that is under way may return one of
	// them, or one that was removed meanwhile: then it has to add again.
	garbage map[Watch]bool
	adding  int                     // Adds that are under way
	gone    map[Watch]chan struct{} // being removed, or removed while an Add was under way; closed by the end of that
	sweeps  chan struct{}           // of one: there is garbage
}

var errNotStarted = errors.New("watching has not started")

// errWatches is ENOSPC of inotify_add_watch(2). The limit is that of all apps together.
var errWatches = errors.New("the limit of inotify watches is reached: raise fs.inotify.max_user_watches")

// start begins to watch with w, or records why that is impossible. Everything has
// to be measured again for the watches to be set.
func (f *follower) start(w Watcher, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watcher, f.stopped = w, err
	f.starts++
	f.watched, f.garbage, f.gone = make(map[Watch]bool), make(map[Watch]bool), make(map[Watch]chan struct{})
	f.prints = make(map[string][]*footprint)
	f.adding = 0
	if f.sweeps != nil {
		close(f.sweeps)
	}
	f.sweeps = nil
	if w != nil {
		f.sweeps = make(chan struct{}, 1)
		go f.sweep(w, f.sweeps)
	}
}

// lost notes that events were lost: what the watching did not tell of may have happened. It
// returns the apps that this concerns.
func (f *follower) lost() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starts++
	return slices.Sorted(maps.Keys(f.prints))
}

// started reports whether the kernel's queue is open.
func (f *follower) started() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.watcher != nil
}

// state returns nil while changes are noticed as they happen. The error says why they are
// found by looking at everything every 30 seconds instead.
func (f *follower) state() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []*footprint
	for _, prints := range f.prints {
		all = append(all, prints...)
	}
	return f.stateOf(all)
}

// stateOf does that for what is in prints. The caller holds mu.
func (f *follower) stateOf(prints []*footprint) error {
	if f.watcher == nil {
		if f.stopped == nil {
			return errNotStarted
		}
		return fmt.Errorf("watch for changes: %w", f.stopped)
	}
	failed := make(map[string]error)
	for _, p := range prints {
		maps.Copy(failed, p.failed)
	}
	for _, dir := range slices.Sorted(maps.Keys(failed)) {
		if err := failed[dir]; errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("watch %s and %s: %w", dir, text.Count(len(failed)-1, "other"), errWatches)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(failed)) {
		return fmt.Errorf("watch %s and %s: %w", dir, text.Count(len(failed)-1, "other"), failed[dir])
	}
	return nil
}

// stateFor does what state does, for the changes of one app.
func (f *follower) stateFor(app string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stateOf(f.prints[app])
}

// works returns a number that stays the same while all changes of an app are noticed as they
// happen, and 0 while they are not.
func (f *follower) works(app string) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stateOf(f.prints[app]) != nil {
		return 0
	}
	return f.starts
}

// sighting collects the footprint of one reading. Its names count from the moment they are
// seen, so that a change between looking and committing is noticed. One goroutine sees;
// another one may give the sighting up meanwhile, if that one hangs.
type sighting struct {
	f       *follower
	watcher Watcher // nil if nothing watches
	app     string
	print   *footprint
	dirs    map[string]Watch
	adding  bool // an Add is under way
	over    bool // committed or given up
}

func (f *follower) begin(app string) *sighting {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &sighting{f: f, watcher: f.watcher, app: app, dirs: make(map[string]Watch)}
	s.print = &footprint{names: make(map[Watch]map[string]bool), failed: make(map[string]error)}
	if f.watcher != nil {
		f.prints[app] = append(f.prints[app], s.print)
	}
	return s
}

// see watches dir for name before the caller looks at it. An event of the directory that comes
// before tells of nothing that the caller will not see.
func (s *sighting) see(dir, name string) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if !s.counts() {
		return
	}
	w, known := s.dirs[dir]
	if !known {
		if w, known = s.watch(dir); !known {
			return
		}
		s.dirs[dir] = w
	}
	if s.print.names[w] == nil {
		s.print.names[w] = make(map[string]bool)
	}
	s.print.names[w][name] = true
}

// counts reports whether the watching waits for what s sees. The caller holds mu.
func (s *sighting) counts() bool { return s.watcher != nil && s.watcher == s.f.watcher && !s.over }

// watch adds dir, again if it is watched: its path may lead elsewhere by now. It releases mu,
// which the caller holds, while it adds.
func (s *sighting) watch(dir string) (Watch, bool) {
	f := s.f
	for {
		f.adding++
		s.adding = true
		f.mu.Unlock()
		w, err := s.watcher.Add(dir)
		f.mu.Lock()
		if !s.counts() { // it was given up
			if err == nil && s.watcher == f.watcher {
				f.watched[w] = true
				f.prune()
			}
			return 0, false
		}
		removed := f.gone[w]
		s.added()
		if err == nil && removed != nil { // perhaps after the Add
			f.mu.Unlock()
			<-removed
			f.mu.Lock()
			if !s.counts() {
				return 0, false
			}
			continue
		}
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			return 0, false // not there: the directory above is watched for its name
		}
		if err != nil {
			s.print.failed[dir] = err
			return 0, false
		}
		delete(f.garbage, w)
		f.watched[w] = true
		return w, true
	}
}

// added notes that no Add of s is under way any more. The caller holds mu.
func (s *sighting) added() {
	if s.adding && s.watcher == s.f.watcher {
		if s.f.adding--; s.f.adding == 0 {
			s.f.forgetGone()
		}
	}
	s.adding = false
}

// commit makes the sighting all that its app depends on, and gives up watches that
// no app needs any more. A sighting that was cut short adds nothing.
func (s *sighting) commit(whole bool) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.added()
	prints := s.f.prints[s.app]
	i := slices.Index(prints, s.print)
	s.over = true
	switch {
	case i < 0: // watching began or ended meanwhile
		return
	case whole:
		s.f.prints[s.app] = slices.Clone(prints[i:])
	default:
		s.f.prints[s.app] = slices.Delete(slices.Clone(prints), i, i+1)
	}
	s.f.prune()
}

// forget drops an app whose declaration was withdrawn.
func (f *follower) forget(app string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watcher == nil {
		return
	}
	delete(f.prints, app)
	f.prune()
}

// prune has watches removed that nothing needs. The caller holds mu.
func (f *follower) prune() {
	wanted := make(map[Watch]bool)
	for _, prints := range f.prints {
		for _, p := range prints {
			for w := range p.names {
				wanted[w] = true
			}
		}
	}
	for w := range f.watched {
		if !wanted[w] {
			delete(f.watched, w)
			f.garbage[w] = true
		}
	}
	f.wake()
}

// wake has the sweeper look for garbage. The caller holds mu.
func (f *follower) wake() {
	if len(f.garbage) > 0 {
		select {
		case f.sweeps <- struct{}{}:
		default:
		}
	}
}

// forgetGone forgets the watches that no Add can return any more. The caller holds mu.
func (f *follower) forgetGone() {
	for w, removed := range f.gone {
		select {
		case <-removed:
			delete(f.gone, w)
		default:
		}
	}
	f.wake()
}

// maxGone bounds how many watches are removed while the same Adds are under way. What is not
// removed then is removed later.
const maxGone = 4096

// sweep removes garbage until sweeps is closed. If the file system of one directory does not
// answer, others wait: that costs watches, and nothing else.
func (f *follower) sweep(w Watcher, sweeps <-chan struct{}) {
	for range sweeps {
		for f.sweepOne(w) {
		}
	}
}

// sweepOne removes one watch, and reports whether there may be another one to remove.
func (f *follower) sweepOne(w Watcher) bool {
	f.mu.Lock()
	if f.watcher != w || len(f.garbage) == 0 || len(f.gone) >= maxGone {
		f.mu.Unlock()
		return false
	}
	var watch Watch
	for watch = range f.garbage {
		break
	}
	delete(f.garbage, watch)
	removed := make(chan struct{})
	f.gone[watch] = removed
	f.mu.Unlock()
	_ = w.Remove(watch) // an error means that the kernel has removed the watch already
	f.mu.Lock()
	defer f.mu.Unlock()
	close(removed)
	if f.watcher == w && f.adding == 0 {
		delete(f.gone, watch)
	}
	return true
}

// sync waits until all events of changes before the call have been handled, at most until ctx
// ends. It reports whether they have.
func (f *follower) sync(ctx context.Context) bool {
	f.mu.Lock()
	w := f.watcher
	f.mu.Unlock()
	if w == nil {
		return false
	}
	select {
	case <-w.Sync():
		return true
	case <-ctx.Done():
		return false
	}
}

// dependents returns the apps for which an event matters.
func (f *follower) dependents(e Event) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var apps []string
	for app, prints := range f.prints {
		for _, p := range prints {
			names := p.names[e.Watch]
			if names != nil && e.Name == "" || names[manifest.EveryName] || names[e.Name] {
				apps = append(apps, app)
				break
			}
		}
	}
	return apps
}
