// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
)

// fileID names one content of one inode. A write sets the change time, which only setting
// the clock could set back. Stores through a shared mapping need not set it: the executable
// of a caller is an observation, and an attacker can arrange it.
type fileID struct {
	dev, inode uint64
	size       int64
	ctime      unix.Timespec
}

const (
	maxDigests = 1024            // entries of the digest cache, about 100 bytes each
	settled    = 2 * time.Second // a file changed later than this may change again within one tick of its time stamp
)

// reading is one hashing of a file, which several goroutines may wait for.
type reading struct {
	done   chan struct{} // closed once the other members are set
	digest evidence.Digest
	err    error
}

// digest returns the SHA-256 of f and its number of hard links. Requests for the same content
// at the same time share one reading of it.
func (m *images) digest(ctx context.Context, party string, f *os.File) (evidence.Digest, uint64, error) {
	for {
		id, links, err := m.stat(f)
		if err != nil {
			return evidence.Digest{}, 0, err
		}
		d, known, other := m.find(id)
		if known {
			return d, links, nil
		}
		if other == nil {
			// The slot comes first: a goroutine that waits for a reading must not wait for a
			// slot that its reader's user keeps busy.
			release, err := m.slots.Enter(of(ctx, party), 1)
			if err != nil {
				return d, 0, err
			}
			mine := &reading{done: make(chan struct{})}
			if other = m.begin(id, mine); other == nil {
				mine.digest, mine.err = m.read(ctx, f, id)
				m.end(id, mine)
				release()
				return mine.digest, links, mine.err
			}
			release()
		}
		select {
		case <-other.done:
			if other.err == nil {
				return other.digest, links, nil
			}
		case <-ctx.Done():
			return d, 0, ctx.Err()
		}
	}
}

func (m *images) find(id fileID) (d evidence.Digest, known bool, r *reading) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, known = m.digests[id]
	return d, known, m.readings[id]
}

// begin makes mine the reading of id, unless there is another, which it returns.
func (m *images) begin(id fileID, mine *reading) *reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	if other := m.readings[id]; other != nil {
		return other
	}
	m.readings[id] = mine
	return nil
}

func (m *images) end(id fileID, r *reading) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.readings, id)
	close(r.done)
	if r.err != nil || m.now().Sub(time.Unix(id.ctime.Unix())) <= settled {
		return
	}
	if len(m.digests) >= maxDigests {
		for k := range m.digests { // any one: the order of a map is as good as random
			delete(m.digests, k)
			break
		}
	}
	m.digests[id] = r.digest
}

// read hashes f, which has to be id from beginning to end.
func (m *images) read(ctx context.Context, f *os.File, id fileID) (d evidence.Digest, err error) {
	h := sha256.New()
	if err := m.copy(ctx, h, f); err != nil {
		return d, fmt.Errorf("hash executable: %w", err)
	}
	after, _, err := m.stat(f)
	if err != nil {
		return d, err
	}
	if after != id {
		return d, errors.New("hash executable: it changed meanwhile")
	}
	h.Sum(d[:0])
	return d, nil
}

func (m *images) copy(ctx context.Context, h io.Writer, f *os.File) error {
	buf := make([]byte, 128<<10)
	for n := int64(0); n <= m.max; {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, err := f.ReadAt(buf, n)
		h.Write(buf[:k])
		n += int64(k)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return errors.New("it grows")
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
