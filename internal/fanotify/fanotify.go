// SPDX-License-Identifier: Apache-2.0

// Package fanotify asks the kernel for permission to start programs (fanotify(7)), and says of an
// open file whether its content can change: by a lease (fcntl(2)), or by fs-verity.
//
// The kernel stops a thread that opens a file of a marked folder in order to execute it, until
// the group is answered. This happens before the kernel keeps writers away from the file. The
// descriptor of an event is of the file that will run, and opening it raises no event.
package fanotify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch is how many events are read at once.
const batch = 16

// mask is what a folder is marked for: the start of each file in it.
const mask = unix.FAN_OPEN_EXEC_PERM | unix.FAN_EVENT_ON_CHILD

// fileFlags open the file of an event. Without O_NONBLOCK, a program that has a write lease on a file
// could keep the reader of events waiting for 45 s: so the kernel refuses the start instead.
const fileFlags = unix.O_RDONLY | unix.O_LARGEFILE | unix.O_CLOEXEC | unix.O_NOATIME | unix.O_NONBLOCK

// A Group receives the events of marked folders. The end of its process, or Close, allows all that
// waits for an answer. Mark, Unmark and Answer may be called beside Read.
type Group struct{ fd int }

// New returns a group without marks. It needs CAP_SYS_ADMIN. The queue has no limit: each event is
// a thread that waits, so the limit of threads is one, and a queue that is full would allow all.
func New() (*Group, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_UNLIMITED_QUEUE, fileFlags)
	if err != nil {
		return nil, fmt.Errorf("ask the kernel for permission events (fanotify): %w", err)
	}
	return &Group{fd}, nil
}

// Close ends the group.
func (g *Group) Close() error { return unix.Close(g.fd) }

// Mark asks for the events of the folder that dir, an open descriptor, leads to.
func (g *Group) Mark(dir int) error {
	return unix.FanotifyMark(g.fd, unix.FAN_MARK_ADD|unix.FAN_MARK_ONLYDIR, mask, dir, ".")
}

// Unmark asks for them no more.
func (g *Group) Unmark(dir int) error {
	return unix.FanotifyMark(g.fd, unix.FAN_MARK_REMOVE|unix.FAN_MARK_ONLYDIR, mask, dir, ".")
}

// An Event is the start of a program that waits for an answer.
type Event struct {
	FD  int // of the file; the receiver answers, and closes it
	PID int // of the process that starts it, 0 if it is in another pid namespace
}

// Read waits for events at most so long, and returns those that there are. All says that there
// were no others when it returned. Lost says that the kernel dropped events, and so allowed them.
// [ErrRefused] is an error after which it may be called again.
func (g *Group) Read(patience time.Duration) (events []Event, all, lost bool, err error) {
	poll := []unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, int(patience/time.Millisecond))
	if errors.Is(err, unix.EINTR) {
		return nil, false, false, nil
	}
	if err != nil || n == 0 {
		return nil, err == nil, false, err
	}
	const size = int(unsafe.Sizeof(unix.FanotifyEventMetadata{}))
	var b [batch * size]byte
	got, err := unix.Read(g.fd, b[:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR): // also: it refused the start, since a file has a write lease
		return nil, false, false, nil
	case err != nil:
		return nil, false, false, readError(err)
	}
	for rest := b[:got]; len(rest) >= size; {
		var m unix.FanotifyEventMetadata
		if err := binary.Read(bytes.NewReader(rest[:size]), binary.NativeEndian, &m); err != nil {
			return nil, false, false, err
		}
		if m.Vers != unix.FANOTIFY_METADATA_VERSION || int(m.Event_len) < size || int(m.Event_len) > len(rest) {
			return events, false, false, fmt.Errorf("read permission events: version %d and length %d are not known", m.Vers, m.Event_len)
		}
		rest = rest[m.Event_len:]
		lost = lost || m.Mask&unix.FAN_Q_OVERFLOW != 0
		if m.Fd >= 0 {
			events = append(events, Event{FD: int(m.Fd), PID: int(m.Pid)})
		}
	}
	return events, got < len(b), lost, nil
}

// ErrRefused is returned by Read if the kernel refused a start itself, since the file cannot be opened
// for its event. Further events can be read: the owner of a file could end all reading otherwise, as by
// one whose key of encryption is not there.
var ErrRefused = errors.New("the kernel refused a start, since its file cannot be opened")

// readError says what an error of reading means: only the group itself cannot be read again.
func readError(err error) error {
	if errors.Is(err, unix.EBADF) || errors.Is(err, unix.EFAULT) {
		return fmt.Errorf("read permission events: %w", err)
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// Answer lets a program start, or has the kernel refuse it with EPERM.
func (g *Group) Answer(e Event, start bool) error {
	r := unix.FanotifyResponse{Fd: int32(e.FD), Response: unix.FAN_DENY}
	if start {
		r.Response = unix.FAN_ALLOW
	}
	b := (*[unsafe.Sizeof(r)]byte)(unsafe.Pointer(&r))[:]
	for {
		_, err := unix.Write(g.fd, b)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.ENOENT) { // the process was killed while it waited
			return nil
		}
		return err
	}
}
