// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// identity is what must not change while a file is hashed, and what the cache
// knows a digest by. The change time moves with every write(2), truncation, rename
// and change of mode, and no system call sets it. A store through a shared mapping of
// the file moves it with the first one to a page that is clean, and not again until
// that page was written back.
type identity struct {
	dev, ino     uint64
	uid          uint32
	size         int64
	mode         uint32
	ctime, mtime unix.Timespec
}

func identify(st *unix.Stat_t) identity {
	return identity{dev: uint64(st.Dev), ino: st.Ino, uid: st.Uid, size: st.Size, mode: st.Mode, ctime: st.Ctim, mtime: st.Mtim}
}

// steady reports whether only root, or this process' own user, can have a file open for
// writing that is shared with memory. An access list that lets another user write shows in
// the bits of the group (acl(5)).
func (id identity) steady() bool {
	return (id.uid == 0 || int(id.uid) == os.Geteuid()) && id.mode&0o022 == 0
}

// age returns how long before now the file last changed, negative if its clock was ahead of
// ours.
func (id identity) age(now time.Time) time.Duration {
	return now.Sub(time.Unix(id.ctime.Unix()))
}

// hashFile returns SHA-256 of the content of f, which was found as id. It reads at most
// id.size bytes and one more, and fails with a [*ChangedError] when the file is
// not the same before and after.
func hashFile(ctx context.Context, turns *turn.Queue, f *os.File, path string, id identity, settle time.Duration, buffer []byte) (evidence.Digest, error) {
	if err := settled(ctx, id, settle); err != nil {
		return evidence.Digest{}, err
	}
	if err := unchanged(f, path, id); err != nil {
		return evidence.Digest{}, err
	}
	leave, err := turns.Enter(ctx, 1)
	if err != nil {
		return evidence.Digest{}, err
	}
	defer func() { leave() }()
	h := sha256.New()
	done := 0 // of the piece
	for left := id.size + 1; left > 0; {
		if err := ctx.Err(); err != nil {
			return evidence.Digest{}, err
		}
		if done >= piece {
			leave()
			if leave, err = turns.Enter(ctx, 1); err != nil {
				leave = func() {}
				return evidence.Digest{}, err
			}
			done = 0
		}
		n, err := f.Read(buffer[:min(int64(len(buffer)), left)])
		h.Write(buffer[:n])
		left -= int64(n)
		done += n
		if err == io.EOF {
			if left != 1 {
				return evidence.Digest{}, &ChangedError{Path: path}
			}
			break
		}
		if err != nil {
			return evidence.Digest{}, &FileError{Path: path, Problem: "read", Err: durable.Cause(err)} // without the name of a descriptor
		}
		if left == 0 {
			return evidence.Digest{}, &ChangedError{Path: path}
		}
	}
	if err := unchanged(f, path, id); err != nil {
		return evidence.Digest{}, err
	}
	return evidence.Digest(h.Sum(nil)), nil
}

// settled waits until a further write would show in the change time. If that has no
// parts of a second, the file system keeps none, as ext4 with inodes of 128 bytes.
func settled(ctx context.Context, id identity, settle time.Duration) error {
	if settle > 0 && id.ctime.Nsec == 0 {
		settle = max(settle, coarseSettleTime)
	}
	age := id.age(time.Now())
	if age >= settle || age <= -settle {
		return nil
	}
	select {
	case <-time.After(settle - age):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func unchanged(f *os.File, path string, id identity) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &FileError{Path: path, Problem: "stat", Err: err}
	}
	if identify(&st) != id {
		return &ChangedError{Path: path}
	}
	return nil
}

// cache remembers digests of files that have not changed since. It contains at most two times
// cacheEntries: when the younger half is full, it becomes the older one, and what was not
// asked for since is forgotten.
type cache struct {
	mu         sync.Mutex // guards the two below
	young, old map[identity]evidence.Digest
}

func newCache() *cache { return &cache{young: make(map[identity]evidence.Digest)} }

// get returns the digest of a file. A nil cache knows none.
func (c *cache) get(id identity) (evidence.Digest, bool) {
	if c == nil {
		return evidence.Digest{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d, ok := c.young[id]; ok {
		return d, true
	}
	d, ok := c.old[id]
	if ok {
		c.keep(id, d)
	}
	return d, ok
}

// put remembers d of a file whose hashing began at time began. A file that changed
// shortly before could be written again without its change time moving, and so could one
// that another user than root may map.
func (c *cache) put(id identity, d evidence.Digest, began time.Time) {
	if id.age(began) < cacheAge || !id.steady() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(id, d)
}

func (c *cache) keep(id identity, d evidence.Digest) {
	if len(c.young) >= cacheEntries {
		c.young, c.old = make(map[identity]evidence.Digest), c.young
	}
	c.young[id] = d
}
