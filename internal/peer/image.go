package peer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/agent/caller"
	"github.com/cvm-agentd/agentd/evidence"
	"golang.org/x/sys/unix"
)

// images observes executables. Opening or reading one may wait for a file system that
// a caller runs itself (FUSE), so it is done beside the accept loop, by a bounded
// number of goroutines of which one user can only ever hold a part.
type images struct {
	max     int64
	timeout time.Duration
	now     func() time.Time
	slots   *slots
	mu      sync.Mutex
	digests map[fileID]evidence.Digest
}

// fileID names one content of one inode. A write sets the change time, which nobody
// can set back short of setting the clock.
type fileID struct {
	dev, inode uint64
	size       int64
	ctime      unix.Timespec
}

const (
	maxDigests = 1024            // entries of the digest cache, about 100 bytes each
	settled    = 2 * time.Second // a file changed later than this may change again within one tick of its time stamp
)

func newImages(o Options) *images {
	m := &images{max: o.MaxExecutable, timeout: o.Timeout, now: o.Now, slots: newSlots(16, 2), digests: map[fileID]evidence.Digest{}}
	if m.max == 0 {
		m.max = 512 << 20
	}
	if m.timeout == 0 {
		m.timeout = 2 * time.Second
	}
	if m.now == nil {
		m.now = time.Now
	}
	return m
}

// An observation is one look at the executable of one process.
type observation struct {
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
	result *evidence.Executable // valid once done is closed
}

// observe starts looking. It does not wait.
func (m *images) observe(p *process) *observation {
	o := &observation{done: make(chan struct{})}
	o.ctx, o.cancel = context.WithTimeout(context.Background(), m.timeout)
	go func() {
		o.result = m.look(o.ctx, p)
		close(o.done)
		o.cancel()
	}()
	return o
}

// wait is the result, or unreadable where it is not there in time.
func (o *observation) wait(ctx context.Context) *evidence.Executable {
	select {
	case <-o.done:
	case <-ctx.Done():
	case <-o.ctx.Done():
	}
	if !isClosed(o.done) {
		return &evidence.Executable{State: evidence.ExecutableUnreadable}
	}
	return o.result
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (m *images) look(ctx context.Context, p *process) *evidence.Executable {
	unreadable := &evidence.Executable{State: evidence.ExecutableUnreadable}
	if p.dir == nil {
		return unreadable
	}
	link, err := p.readlink("exe")
	if err != nil {
		return unreadable // a kernel thread, or no permission
	}
	unreadable.Path = caller.Image(link, 1).Path
	release, err := m.slots.take(ctx, p.uid)
	if err != nil {
		return unreadable
	}
	defer release()
	f, err := p.open("exe", unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return unreadable
	}
	defer f.Close()
	digest, links, err := m.digest(ctx, f)
	if err != nil {
		return unreadable
	}
	x := caller.Image(link, links)
	x.Digest = &digest
	return &x
}

// digest is the SHA-256 of f and its number of hard links.
func (m *images) digest(ctx context.Context, f *os.File) (evidence.Digest, uint64, error) {
	id, links, err := m.stat(f)
	if err != nil {
		return evidence.Digest{}, 0, err
	}
	m.mu.Lock()
	d, ok := m.digests[id]
	m.mu.Unlock()
	if ok {
		return d, links, nil
	}
	h := sha256.New()
	buf := make([]byte, 128<<10)
	for n := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return d, 0, fmt.Errorf("hash executable: %w", err)
		}
		k, err := f.Read(buf)
		h.Write(buf[:k])
		if n += int64(k); n > m.max {
			return d, 0, errors.New("hash executable: it grows")
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return d, 0, fmt.Errorf("hash executable: %w", err)
		}
	}
	h.Sum(d[:0])
	after, links, err := m.stat(f)
	if err != nil {
		return d, 0, err
	}
	if after != id {
		return d, 0, errors.New("hash executable: it changed meanwhile")
	}
	if age := m.now().Sub(time.Unix(id.ctime.Unix())); age > settled {
		m.mu.Lock()
		if len(m.digests) >= maxDigests {
			for k := range m.digests { // any one: the order of a map is as good as random
				delete(m.digests, k)
				break
			}
		}
		m.digests[id] = d
		m.mu.Unlock()
	}
	return d, links, nil
}

func (m *images) stat(f *os.File) (fileID, uint64, error) {
	var st unix.Stat_t
	if err := control(f, func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
		return fileID{}, 0, fmt.Errorf("stat executable: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fileID{}, 0, fmt.Errorf("executable has file type %#o, want a regular file", st.Mode&unix.S_IFMT)
	}
	if st.Size > m.max {
		return fileID{}, 0, fmt.Errorf("executable of %d bytes, at most %d are hashed", st.Size, m.max)
	}
	return fileID{dev: uint64(st.Dev), inode: st.Ino, size: st.Size, ctime: st.Ctim}, uint64(st.Nlink), nil
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
