// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"context"
	"crypto/sha256"
	"hash"
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

// hashFile returns SHA-256 of the content of f, which was found as id, by w. It reads at most
// id.size bytes and one more, and fails with a [*ChangedError] when the file is
// not the same before and after.
func (s *scan) hashFile(w *hand, f *os.File, path string, id identity) (evidence.Digest, error) {
	if err := settled(s.ctx, id, s.reader.settle); err != nil {
		return evidence.Digest{}, err
	}
	s.touch(w, path)
	if err := unchanged(f, path, id); err != nil {
		return evidence.Digest{}, err
	}
	h := sha256.New()
	for left := id.size + 1; left > 0; {
		n, err := s.hashPiece(w, f, path, h, min(left, piece))
		left -= n
		if err == io.EOF && left == 1 {
			break
		}
		if err == nil && left == 0 || err == io.EOF {
			err = &ChangedError{Path: path}
		}
		if err != nil {
			return evidence.Digest{}, err
		}
	}
	if err := unchanged(f, path, id); err != nil {
		return evidence.Digest{}, err
	}
	return evidence.Digest(h.Sum(nil)), nil
}

// longestTurn is how long a piece keeps its turn. A reading whose file system answers slowly, or never,
// holds other apps up for no more than twice that: a call that takes longer goes on without a turn.
const longestTurn = 250 * time.Millisecond

// hashPiece hashes at most so many bytes of f, in one turn. It returns how many there were: fewer if
// the turn is over. The error is io.EOF at the end of the file.
func (s *scan) hashPiece(w *hand, f *os.File, path string, h hash.Hash, most int64) (done int64, err error) {
	w.idle()
	ctx := s.ctx
	if s.Who != nil {
		ctx = turn.With(ctx, s.Who())
	}
	leave, err := s.reader.Turn(ctx)
	if err != nil {
		return 0, err
	}
	w.take(leave)
	defer w.giveBack()
	began := time.Now()
	b := s.reader.buffers.Get().(*buffer)
	defer s.reader.buffers.Put(b)
	for done < most {
		if err := s.ctx.Err(); err != nil {
			return done, err
		}
		s.touch(w, path)
		n, err := f.Read(b[:min(readBuffer, most-done)])
		h.Write(b[:n])
		done += int64(n)
		s.Progress.hash(uint64(n))
		if err == io.EOF {
			return done, err
		}
		if err != nil {
			return done, &FileError{Path: path, Problem: "read", Err: durable.Cause(err)} // without the name of a descriptor
		}
		if time.Since(began) >= s.reader.longest {
			break
		}
	}
	return done, nil
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
