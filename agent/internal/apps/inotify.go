// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Watcher reports changes to the names in directories. Add and Remove may be called by
// many goroutines, and may hang in the file system of a directory: none keeps another one, or
// an event, from going on.
type Watcher interface {
	// Add watches a directory. For one that is watched already, by whichever path, it returns
	// the same Watch.
	Add(dir string) (Watch, error)
	Remove(Watch) error // of one that may not exist any more
	Events() <-chan Event
	// Sync returns a channel that is passed on as Event.Synced after the events of all
	// changes before the call. The receiver of events closes it.
	Sync() <-chan struct{}
	Errors() <-chan error // among them ErrOverflow
	Close() error         // waits until no Add is under way
}

// Watch is a watched directory. The number of one that was removed is not used again.
type Watch int32

// Event is a change in a watched directory.
type Event struct {
	Watch Watch
	Name  string // that was changed; empty for the directory itself, also if it is watched no longer
	Mask  uint32 // what happened, in bits of inotify(7)

	Synced chan struct{} // of Sync, to be closed; nil otherwise
}

// ErrOverflow on the channel of errors means that events were lost.
var ErrOverflow = errors.New("event queue overflowed")

// watchMask are the changes of a directory that can change what an app is made of.
const watchMask = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_MODIFY | unix.IN_ATTRIB |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// inotify is the Watcher of inotify(7). It watches directories, never files: a watch on a
// file dies when a package manager renames another over it.
//
// No library does this: those that were looked at hold a lock of their own while the kernel
// looks up the path of a new watch, so that one file system without an answer ends the
// watching of all.
type inotify struct {
	file   *os.File
	conn   syscall.RawConn // keeps the descriptor from being closed, and used again, under an Add
	events chan Event
	errs   chan error
	done   chan struct{} // closed by Close
	close  func() error

	mu    sync.Mutex      // guards syncs, and the deadline of reading that goes with it
	syncs []chan struct{} // asked for
}

func newInotify() (Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify_init1: %w", err)
	}
	i := &inotify{file: os.NewFile(uintptr(fd), "inotify"), events: make(chan Event), errs: make(chan error), done: make(chan struct{})}
	if i.conn, err = i.file.SyscallConn(); err != nil {
		i.file.Close()
		return nil, err
	}
	i.close = sync.OnceValue(func() error {
		close(i.done)
		return i.file.Close()
	})
	go i.read()
	return i, nil
}

// readEvents is how many bytes of events are read at once: some hundreds of them. There is a
// buffer for each queue.
const readEvents = 16 << 10

// read passes events on until i is closed.
func (i *inotify) read() {
	defer close(i.events)
	b := make([]byte, readEvents)
	for {
		n, err := i.file.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if i.catchUp(b) {
				continue
			}
			return
		}
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				i.fail(fmt.Errorf("read events of inotify: %w", err))
			}
			return
		}
		if !i.pass(b[:n]) {
			return
		}
	}
}

// Sync interrupts the reading, so that it looks for the channel.
func (i *inotify) Sync() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	done := make(chan struct{})
	i.syncs = append(i.syncs, done)
	_ = i.file.SetReadDeadline(time.Unix(1, 0)) // if it is closed, nothing is passed on
	return done
}

// catchUp passes on what the kernel has by now, then the channels of Sync. It reports whether i
// is still open. What comes meanwhile is for later, so that changes without end hold up no Sync.
func (i *inotify) catchUp(b []byte) bool {
	var syncs []chan struct{}
	for {
		i.mu.Lock()
		syncs = append(syncs, i.syncs...)
		i.syncs = nil
		err := i.file.SetReadDeadline(time.Time{})
		i.mu.Unlock()
		left := 0
		if err == nil {
			left, err = i.waiting()
		}
		for err == nil && left > 0 {
			var n int
			if n, err = i.file.Read(b); err == nil && !i.pass(b[:n]) {
				return false
			}
			left -= n
		}
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) { // which is another Sync
			i.fail(fmt.Errorf("read events of inotify: %w", err))
			return false
		}
	}
	for _, done := range syncs {
		select {
		case i.events <- Event{Synced: done}:
		case <-i.done:
			return false
		}
	}
	return true
}

// waiting returns how many bytes of events the kernel has.
func (i *inotify) waiting() (n int, err error) {
	failed := i.conn.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n, errors.Join(failed, err)
}

// pass passes the events in b on, and reports whether i is still open.
func (i *inotify) pass(b []byte) bool {
	for len(b) >= unix.SizeofInotifyEvent {
		e := Event{Watch: Watch(binary.NativeEndian.Uint32(b)), Mask: binary.NativeEndian.Uint32(b[4:])}
		length := int(binary.NativeEndian.Uint32(b[12:]))
		b = b[unix.SizeofInotifyEvent:]
		if length > len(b) {
			return i.fail(errors.New("inotify returned part of an event"))
		}
		name, _, _ := bytes.Cut(b[:length], []byte{0})
		e.Name, b = string(name), b[length:]
		if e.Mask&unix.IN_Q_OVERFLOW != 0 {
			if !i.fail(ErrOverflow) {
				return false
			}
			continue
		}
		select {
		case i.events <- e:
		case <-i.done:
			return false
		}
	}
	return true
}

// fail passes an error on, and reports whether i is still open.
func (i *inotify) fail(err error) bool {
	select {
	case i.errs <- err:
		return true
	case <-i.done:
		return false
	}
}

func (i *inotify) Add(dir string) (w Watch, err error) {
	failed := i.conn.Control(func(fd uintptr) {
		n := -1
		for err = unix.EINTR; errors.Is(err, unix.EINTR); { // as a server of files may answer
			n, err = unix.InotifyAddWatch(int(fd), dir, watchMask)
		}
		w = Watch(n)
	})
	return w, errors.Join(failed, err)
}

func (i *inotify) Remove(w Watch) (err error) {
	failed := i.conn.Control(func(fd uintptr) { _, err = unix.InotifyRmWatch(int(fd), uint32(w)) })
	if errors.Is(err, unix.EINVAL) { // it is gone, with its directory
		err = nil
	}
	return errors.Join(failed, err)
}

func (i *inotify) Events() <-chan Event { return i.events }
func (i *inotify) Errors() <-chan error { return i.errs }
func (i *inotify) Close() error         { return i.close() }
