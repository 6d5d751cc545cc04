// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/fanotify"
)

// Limits of leases.
const (
	maxLeases = 2048
	maxRoots  = 65536
	settling  = 2 * time.Second // that the kernel may take from an answer until it keeps writers away itself
	keeping   = time.Minute     // of a lease that is not used: it keeps the file system from being unmounted
)

// fileID names an inode. It names one content while a descriptor with a lease is open.
type fileID struct{ dev, ino uint64 }

// contents knows the digests of files whose content cannot change: those with a lease of ours, and
// those with fs-verity. A lease lasts until a writer wants the file, at least for the time settling
// after the last start.
type contents struct {
	patience time.Duration // with a writer, who waits for the end of a lease first

	mu     sync.Mutex // guards all below
	leased map[fileID]*leased
	roots  map[fanotify.Root]evidence.Digest
}

// leased is a file with a lease of ours.
type leased struct {
	fd     int
	done   chan struct{} // closed when the two below are set
	digest evidence.Digest
	err    error
	users  int       // starts that wait for an answer; guarded by contents.mu
	used   time.Time // of the last answer; guarded by contents.mu
}

func newContents(patience time.Duration) *contents {
	return &contents{patience: patience, leased: make(map[fileID]*leased), roots: make(map[fanotify.Root]evidence.Digest)}
}

// content is the content of an open file, which does not change until answered was called, and then
// for as long as the kernel may need until it keeps writers away itself.
type content struct {
	digest evidence.Digest
	lease  *leased // nil if the content cannot change at all
}

// find returns the content of an open file. If the lease is one of fd, it owns fd from then on.
func (c *contents) find(ctx context.Context, fd int) (content, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return content{}, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxFile {
		return content{}, fmt.Errorf("it is a file of type %#o and %d bytes: a regular one of at most %d can be hashed", st.Mode&unix.S_IFMT, st.Size, int64(maxFile))
	}
	if root, ok := fanotify.Verity(fd); ok {
		d, err := c.verity(ctx, fd, root)
		return content{digest: d}, err
	}
	id := fileID{uint64(st.Dev), st.Ino}
	for begun := time.Now(); ; {
		l, err := c.lease(id, fd)
		if errors.Is(err, fanotify.ErrWritten) && time.Since(begun) < c.patience && sleep(ctx, 10*time.Millisecond) {
			continue
		}
		if err != nil {
			return content{}, err
		}
		if l.fd == fd {
			l.digest, l.err = hashOf(ctx, fd)
			if l.err != nil {
				c.giveUp(id, l)
			}
			close(l.done)
			return content{l.digest, l}, l.err
		}
		select {
		case <-l.done:
			if l.err == nil {
				return content{l.digest, l}, nil
			}
		case <-ctx.Done():
			c.answered(content{lease: l})
			return content{}, context.Cause(ctx)
		}
	}
}

// lease returns the lease of a file for one more start. It takes one, with fd, if there is none.
func (c *contents) lease(id fileID, fd int) (*leased, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.leased[id]; l != nil {
		if fanotify.Wanted(l.fd) {
			return nil, fanotify.ErrWritten
		}
		l.users++
		return l, nil
	}
	if len(c.leased) >= maxLeases && !c.makeRoom() {
		return nil, errors.New("too many programs start at once")
	}
	if err := fanotify.Lease(fd); err != nil {
		return nil, err
	}
	l := &leased{fd: fd, done: make(chan struct{}), users: 1}
	c.leased[id] = l
	return l, nil
}

// answered says that the kernel has the answer about a start.
func (c *contents) answered(x content) {
	if x.lease == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	x.lease.users--
	x.lease.used = time.Now()
}

// idle reports whether nothing needs a lease any more. The caller holds mu.
func (l *leased) idle() bool { return l.users == 0 && time.Since(l.used) >= settling }

// makeRoom ends the lease that was used least lately, if nothing needs it. The caller holds mu.
func (c *contents) makeRoom() bool {
	var oldest fileID
	var last *leased
	for id, l := range c.leased {
		if l.idle() && (last == nil || l.used.Before(last.used)) {
			oldest, last = id, l
		}
	}
	if last == nil {
		return false
	}
	c.end(oldest, last)
	return true
}

// end ends a lease, and closes its file. The caller holds mu.
func (c *contents) end(id fileID, l *leased) {
	fanotify.Release(l.fd)
	unix.Close(l.fd)
	delete(c.leased, id)
}

// giveUp ends the lease of a file that could not be hashed. Its descriptor is the caller's again.
func (c *contents) giveUp(id fileID, l *leased) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fanotify.Release(l.fd)
	delete(c.leased, id)
}

// run ends leases that a writer waits for, until ctx ends. The kernel says so with SIGIO.
func (c *contents) run(ctx context.Context) {
	wanted := make(chan os.Signal, 1)
	signal.Notify(wanted, unix.SIGIO)
	defer signal.Stop(wanted)
	tick := time.NewTicker(settling / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wanted:
		case <-tick.C:
		}
		c.give()
	}
}

// give ends the leases that a writer waits for, and those that were not used for long.
func (c *contents) give() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, l := range c.leased {
		if l.idle() && (time.Since(l.used) >= keeping || fanotify.Wanted(l.fd)) {
			c.end(id, l)
		}
	}
}

// verity returns the digest of a file with fs-verity.
func (c *contents) verity(ctx context.Context, fd int, root fanotify.Root) (evidence.Digest, error) {
	c.mu.Lock()
	d, known := c.roots[root]
	c.mu.Unlock()
	if known {
		return d, nil
	}
	d, err := hashOf(ctx, fd)
	if err != nil {
		return d, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.roots) >= maxRoots {
		clear(c.roots)
	}
	c.roots[root] = d
	return d, nil
}

// hashOf returns the SHA-256 of an open file.
func hashOf(ctx context.Context, fd int) (d evidence.Digest, err error) {
	h := sha256.New()
	b := make([]byte, 128<<10)
	for at := int64(0); ; {
		if ctx.Err() != nil {
			return d, context.Cause(ctx)
		}
		n, err := unix.Pread(fd, b, at)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return d, fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			h.Sum(d[:0])
			return d, nil
		}
		h.Write(b[:n])
		if at += int64(n); at > maxFile {
			return d, io.ErrShortBuffer
		}
	}
}

// sleep reports whether ctx goes on after that time.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
