// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"errors"

	"github.com/fsnotify/fsnotify"
)

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
