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
)

// queues are the kernel's queues of events. Each app has one of its own: a user who can write
// the files of one app can make its queue overflow, and that must not concern the others. The
// kernel limits how many queues a user may have (fs.inotify.max_user_instances, by default 128).
// What is over the limit uses one queue together.
//
// The own queues live as long as the shared one: all begin and end with it.
type queues struct {
	shared follower
	limit  int // of own queues

	mu    sync.Mutex // guards all below; held before that of a follower
	make  func() (Watcher, error)
	watch func(app string, f *follower, w Watcher) (stop func()) // nil if nothing watches
	own   map[string]*follower
	stops map[string]func()
	tell  func(app string, err error)
	names map[string]bool // apps that use the shared one
	begun uint64          // followers so far
}

// mostQueues leaves some of the 128 queues that a user may have to other programs.
const mostQueues = 96

// defaultQueues returns how many apps have a queue of their own. Each is a descriptor. The server
// leaves 128 to all but connections, so on a machine that lets a process open few, the queues take
// few of these. Otherwise callers who keep all connections leave none to measure with.
func defaultQueues() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return mostQueues
	}
	return int(min(r.Cur/64, mostQueues))
}

// startQueues begins with a shared queue, or ends all because of err.
func (a *Apps) startQueues(ctx context.Context, w Watcher, err error) {
	q := &a.follow
	q.mu.Lock()
	defer q.mu.Unlock()
	for app := range q.own {
		q.end(app)
	}
	q.stops, q.names, q.watch = make(map[string]func()), make(map[string]bool), nil
	if w != nil {
		q.make = a.config.NewWatcher
		q.tell = func(app string, err error) {
			a.log.Warn("app shares its queue of events with others: one that overflows it ends the coverage of all of them", "app", app, "error", err)
		}
		q.watch = func(app string, f *follower, w Watcher) func() { return a.watchOne(ctx, app, f, w) }
	}
	q.shared.start(w, err)
}

// watchOne watches for one app until the returned function is called, or the queue fails.
func (a *Apps) watchOne(ctx context.Context, app string, f *follower, w Watcher) (stop func()) {
	ctx, stop = context.WithCancel(ctx)
	go func() {
		err := a.watch(ctx, f, w)
		if ctx.Err() != nil {
			err = nil
		}
		f.start(nil, err)
		_ = w.Close() // a file system can keep it from ending; nothing to be done about an error
		if err != nil {
			a.log.Warn("watching files of an app failed", "app", app, "error", err)
			a.follow.failed(app, f)
			a.missed([]string{app}, err)
		}
	}()
	return stop
}

// of returns the follower of an app, and makes one if it has none. The caller holds mu.
func (q *queues) of(app string) *follower {
	if f := q.own[app]; f != nil {
		return f
	}
	if q.watch == nil || q.names[app] {
		return &q.shared
	}
	w, err := q.queue()
	if err != nil {
		q.names[app] = true
		q.tell(app, err)
		return &q.shared
	}
	q.begun++
	f := &follower{starts: q.begun << 32} // so that no other follower has the same numbers
	f.start(w, nil)
	q.own[app], q.stops[app] = f, q.watch(app, f, w)
	return f
}

// queue returns a queue for one app. The caller holds mu.
func (q *queues) queue() (Watcher, error) {
	if len(q.own) >= q.limit {
		return nil, fmt.Errorf("the agent opens at most %d", q.limit)
	}
	w, err := q.make()
	if errors.Is(err, unix.EMFILE) {
		err = fmt.Errorf("%w: raise fs.inotify.max_user_instances", err)
	}
	return w, err
}

// end ends the own queue of an app. The caller holds mu.
func (q *queues) end(app string) {
	if stop := q.stops[app]; stop != nil {
		stop()
	}
	delete(q.own, app)
	delete(q.stops, app)
}

// failed ends the own queue of an app if it is still f. The next reading opens another one.
func (q *queues) failed(app string, f *follower) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.own[app] == f {
		q.end(app)
	}
}

// open gives an app its queue before its first reading, and returns what works does.
func (q *queues) open(app string) uint64 {
	q.mu.Lock()
	f := q.of(app)
	q.mu.Unlock()
	return f.works(app)
}

// begin begins a sighting of an app.
func (q *queues) begin(app string) *sighting {
	q.mu.Lock()
	f := q.of(app)
	q.mu.Unlock()
	return f.begin(app)
}

// forget drops an app whose declaration was withdrawn.
func (q *queues) forget(app string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.own[app] != nil {
		q.end(app)
		return
	}
	delete(q.names, app)
	q.shared.forget(app)
}

// existing returns the follower of an app, which is the shared one until it has another.
func (q *queues) existing(app string) *follower {
	q.mu.Lock()
	defer q.mu.Unlock()
	if f := q.own[app]; f != nil {
		return f
	}
	return &q.shared
}

// stateFor returns nil while changes of an app are noticed as they happen. The error says why
// they are found by looking now and then instead.
func (q *queues) stateFor(app string) error { return q.existing(app).stateFor(app) }

// works returns a number that stays the same while all changes of an app are noticed as they
// happen, and 0 while they are not.
func (q *queues) works(app string) uint64 { return q.existing(app).works(app) }

// sync waits until all events of an app's changes before the call have been handled, at most
// until ctx ends. It reports whether they have.
func (q *queues) sync(ctx context.Context, app string) bool { return q.existing(app).sync(ctx) }

// state does what stateFor does, for all apps.
func (q *queues) state() error {
	for _, f := range q.all() {
		if err := f.state(); err != nil {
			return err
		}
	}
	return nil
}

// common returns why changes of any app may not be noticed, nil if that is so of some apps alone:
// of those whose queue failed, or whose directories cannot be watched.
func (q *queues) common() error {
	for i, f := range q.all() {
		if err := f.state(); errors.Is(err, errWatches) || i == 0 && !f.started() {
			return err
		}
	}
	return nil
}

// all returns the followers: the shared one, then those of apps in the order of their names, so
// that of several errors it is always the same that is told.
func (q *queues) all() []*follower {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := []*follower{&q.shared}
	for _, app := range slices.Sorted(maps.Keys(q.own)) {
		all = append(all, q.own[app])
	}
	return all
}
