// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// maxTold is of how many names of an app it is known what the watching told.
const maxTold = 4096

// tellings are what the watching told of the names of an app. Apps.mu guards them.
type tellings struct {
	names map[told]*telling
	lost  uint64 // number of the last event that is not in names
}

// told is a name in a watched directory; empty for the directory itself.
type told struct {
	watch Watch
	name  string
}

// telling is what was told of one name: the numbers of the last two events, and what the last
// one was.
type telling struct {
	last, before uint64
	kind         kind
}

// kind is what happened to a name.
type kind uint8

const (
	unclear  kind = iota // anything, among it several events
	nothing              // no event
	replaced             // a file was renamed to the name, over another or not
	removed              // a file was removed, or renamed to another name
)

// kindOf returns what an event says of its name.
func kindOf(mask uint32) kind {
	switch {
	case mask&unix.IN_ISDIR != 0:
		return unclear
	case mask&unix.IN_MOVED_TO != 0:
		return replaced
	case mask&(unix.IN_MOVED_FROM|unix.IN_DELETE) != 0:
		return removed
	}
	return unclear
}

// add adds an event.
func (t *tellings) add(e Event, number uint64) {
	if t.names == nil {
		t.names = make(map[told]*telling)
	}
	key := told{e.Watch, e.Name}
	x := t.names[key]
	if x == nil {
		if len(t.names) >= maxTold {
			t.lost = number
			return
		}
		x = &telling{}
		t.names[key] = x
	}
	x.before, x.last = x.last, number
	x.kind = kindOf(e.Mask)
}

// forget drops the events up to a number.
func (t *tellings) forget(number uint64) {
	maps.DeleteFunc(t.names, func(_ told, x *telling) bool { return x.last <= number })
}

// since returns what happened to a path after the event of a number. Without a watch of its
// directory, that is not known.
func (t *tellings) since(number uint64, watches map[string]Watch, p string) (kind, error) {
	w, watched := watches[path.Dir(p)]
	if !watched {
		return unclear, fmt.Errorf("the directory of %q was not watched", p)
	}
	x := t.names[told{w, path.Base(p)}]
	switch {
	case x == nil || x.last <= number:
		return nothing, nil
	case x.before <= number:
		return x.kind, nil
	}
	return unclear, nil
}

// restart forgets what another watching told, up to a number.
func (t *tellings) restart(number uint64) { t.names, t.lost = nil, number }

// itself reports whether an event after number tells of a watched directory itself.
func (t *tellings) itself(number uint64, w Watch) bool {
	x := t.names[told{w, ""}]
	return x != nil && x.last > number
}

// errLost means that the kernel dropped events of an app.
var errLost = errors.New("events of its files were lost")

// noticed returns nil if the watching saw how x became what f found: one file after the other
// was removed, or replaced by one rename to its name. So no other content was there. The error
// says what else may have been: a file that is written in place, or replaced twice before the
// agent looks, may have been any other for a moment, and so may one that another user than root
// can replace (see [manifest.Trace.Guarded]). The caller holds mu.
func (x *app) noticed(f finding) error {
	switch {
	case x.trace == nil:
		return errors.New("how its files looked before is not known")
	case x.lost > x.handled:
		return errLost
	case f.generation == 0 || f.generation != x.generation:
		return errors.New("its files were not watched all the time")
	case x.told.lost > x.handled:
		return errors.New("more names changed than the agent keeps")
	}
	if err := f.Trace.SamePlaces(x.trace); err != nil {
		return err
	}
	for _, dir := range slices.Sorted(maps.Keys(f.watches)) {
		if x.told.itself(x.handled, f.watches[dir]) {
			return fmt.Errorf("the directory %q was changed itself", dir)
		}
		if dir == "/" {
			continue
		}
		what, err := x.told.since(x.handled, f.watches, f.Trace.Place(dir))
		if err == nil && what != nothing {
			err = fmt.Errorf("the directory %q was changed", dir)
		}
		if err != nil {
			return err
		}
	}
	changed, gone := f.Trace.Changed(x.trace)
	for _, p := range gone {
		what, err := x.told.since(x.handled, f.watches, x.trace.Place(p))
		if err == nil && what != removed {
			err = fmt.Errorf("%q was not just removed", p)
		}
		if err != nil {
			return err
		}
	}
	for _, p := range changed {
		what, err := x.told.since(x.handled, f.watches, f.Trace.Place(p))
		if err == nil && what != replaced {
			err = fmt.Errorf("%q was not replaced by renaming one new file over it", p)
		}
		if err == nil {
			err = f.Trace.Guarded(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// catchUp waits until the watching has told of all that happened before f was found, if f is
// other content than the log says: its events may be on the way. If the watching does not tell
// in time, or has lost events, f counts as found without it.
func (a *Apps) catchUp(x *app, f *finding) {
	a.mu.Lock()
	news := f.err == nil && f.generation != 0 && x.cover.open && x.trace != nil && f.Trace.SameFiles(x.trace) != nil
	a.mu.Unlock()
	if !news {
		return
	}
	ctx, cancel := context.WithTimeout(a.ctx, eventPatience)
	defer cancel()
	if !a.follow.sync(ctx, x.name) || a.follow.works(x.name) != f.generation {
		f.generation = 0
	}
}
