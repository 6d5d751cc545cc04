// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// images observes executables. Opening or reading one may wait for a file system that
// a caller runs itself (FUSE). So it is done outside of the accept loop, by a bounded number
// of goroutines, of which one user gets only one.
type images struct {
	max     int64
	timeout time.Duration
	now     func() time.Time
	slots   *turn.Queue // a user whose files never answer takes one, and delays no other user

	mu       sync.Mutex // guards the two below; begin and end write them
	digests  map[fileID]evidence.Digest
	readings map[fileID]*reading // under way
}

func newImages(o Options) *images {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &images{
		max: cmp.Or(o.MaxExecutable, 256<<20), timeout: cmp.Or(o.Timeout, 2*time.Second), now: o.Now, slots: turn.New(turn.Options{Capacity: 16, Each: 1}),
		digests: map[fileID]evidence.Digest{}, readings: map[fileID]*reading{},
	}
}

// An observation is one look at the executable of one process. The file is opened when the
// connection is accepted, which fixes what was seen, and hashed when a request needs that:
// connections without a request must cost next to nothing.
type observation struct {
	images  *images
	process *process
	party   string          // see party
	ctx     context.Context // ends when the process is closed
	cancel  context.CancelFunc
	opened  chan struct{} // closed once link and file are set
	link    string
	file    *os.File
	short   bool // file could not be opened for want of descriptors or memory
	once    sync.Once
	done    chan struct{} // closed once result is set
	result  *evidence.Executable
}

// Turns returns what the queue of executables counts.
func (i *Identifier) Turns() turn.Stats { return i.images.slots.Stats() }

// observe begins to open the executable of p, and does not wait for that.
func (m *images) observe(p *process) *observation {
	o := &observation{images: m, process: p, party: p.party(), opened: make(chan struct{}), done: make(chan struct{})}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(o.opened)
		ctx, cancel := context.WithTimeout(o.ctx, m.timeout)
		defer cancel()
		o.open(ctx, p)
		if p.pidfd != nil && !o.short {
			p.dir.Close() // the pidfd identifies the process from now on
		}
	}()
	return o
}

func (o *observation) open(ctx context.Context, p *process) {
	var err error
	if o.link, err = p.readlink("exe"); err != nil {
		return // a kernel thread, or no permission
	}
	release, err := o.images.slots.Enter(of(ctx, p.party()), 1)
	if err != nil {
		return
	}
	defer release()
	f, err := p.open("exe", unix.O_RDONLY|unix.O_NONBLOCK)
	if o.short = durable.Short(err); err != nil {
		return
	}
	o.file = f
	context.AfterFunc(o.ctx, func() { f.Close() })
}

// wait returns the result, or unreadable if it is not there in time.
func (o *observation) wait(ctx context.Context) *evidence.Executable {
	o.once.Do(func() {
		go func() {
			defer close(o.done)
			ctx, cancel := context.WithTimeout(o.ctx, o.images.timeout)
			defer cancel()
			o.result = o.look(ctx)
		}()
	})
	select {
	case <-o.done: // as for all but the first requests of a connection
		return o.result
	default:
	}
	// A little more than look takes, which knows the path as well.
	late := o.images.timeout + 50*time.Millisecond
	select {
	case <-o.done:
		return o.result
	case <-ctx.Done():
	case <-time.After(late):
	}
	return &evidence.Executable{State: evidence.ExecutableUnreadable}
}

func (o *observation) look(ctx context.Context) *evidence.Executable {
	unreadable := &evidence.Executable{State: evidence.ExecutableUnreadable}
	select {
	case <-o.opened:
	case <-ctx.Done():
		return unreadable
	}
	if o.short { // as it was at accept; now there may be descriptors
		o.open(ctx, o.process)
	}
	unreadable.Path = caller.Image(o.link, 1).Path
	if o.file == nil {
		return unreadable
	}
	digest, links, err := o.images.digest(ctx, o.party, o.file)
	if err != nil {
		return unreadable
	}
	x := caller.Image(o.link, links)
	x.Digest = &digest
	return &x
}

func (p *process) readlink(name string) (string, error) {
	buf := make([]byte, 2*evidence.MaxPath)
	n := 0
	err := control(p.dir, func(dir int) (err error) {
		n, err = unix.Readlinkat(dir, name, buf)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read /proc/PID/%s: %w", name, err)
	}
	return string(buf[:max(n, 0)]), nil
}

// party returns whose work it is to look at the executable of p: that of a user on one socket. Whatever
// uid 0 runs that connects to the client socket, such as root of a container, does not delay an
// administrator.
func (p *process) party() string { return p.socket + " " + strconv.FormatUint(uint64(p.uid), 10) }

// of returns a context for work on the files of a party.
func of(ctx context.Context, party string) context.Context {
	return turn.With(ctx, turn.Who{Party: party})
}
