// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// identity is what must not change while a file is read, and what the cache knows a digest by. No
// system call sets the change time.
type identity struct {
	dev, ino     uint64
	size         int64
	mode         uint32
	ctime, mtime unix.Timespec
}

func identityOf(st *unix.Stat_t) identity {
	return identity{dev: uint64(st.Dev), ino: st.Ino, size: st.Size, mode: st.Mode, ctime: st.Ctim, mtime: st.Mtim}
}

// regular measures a regular file.
func (w *walk) regular(at int, c *child, e *pcr.ManifestEntry, upper *upper) error {
	e.Size = uint64(c.st.Size)
	if w.sum.LeavesOut(e, "") {
		return nil
	}
	fd, err := open(at, c.name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("find %q: %w", e.Path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %q: %w", e.Path, err)
	}
	id := identityOf(&st)
	if id != identityOf(&c.st) {
		return &ChangedError{Path: e.Path}
	}
	digest, known := w.options.Layers.get(upper, c.name, id)
	if known {
		w.options.Counts.Kept.Add(e.Size)
	} else {
		began := time.Now()
		if digest, err = w.hash(fd, e.Path, id); err != nil {
			return err
		}
		w.options.Layers.put(upper, c.name, id, digest, began)
	}
	e.Digest = digest
	return w.sum.Add(e, "")
}

// hash returns SHA-256 of a file that was found, but not opened, as id. What was found is opened,
// and not what its name leads to by now: opening a device or a FIFO can have an effect.
func (w *walk) hash(found int, path string, id identity) (evidence.Digest, error) {
	if id.size > MaxBytes {
		return evidence.Digest{}, fmt.Errorf("%q has %d bytes, want at most %d in all files", path, id.size, int64(MaxBytes))
	}
	if err := settle(w.ctx, id); err != nil {
		return evidence.Digest{}, err
	}
	f, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(found), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return evidence.Digest{}, fmt.Errorf("open %q: %w", path, cause(err))
	}
	defer f.Close()
	sum := sha256.New()
	for left := id.size; left > 0; {
		n, err := w.piece(f, sum, min(left, piece))
		left -= n
		if errors.Is(err, io.EOF) {
			return evidence.Digest{}, &ChangedError{Path: path}
		}
		if err != nil {
			return evidence.Digest{}, fmt.Errorf("read %q: %w", path, cause(err))
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return evidence.Digest{}, fmt.Errorf("stat %q: %w", path, err)
	}
	if identityOf(&st) != id {
		return evidence.Digest{}, &ChangedError{Path: path}
	}
	return evidence.Digest(sum.Sum(nil)), nil
}

// piece hashes so many bytes, in one turn.
func (w *walk) piece(f *os.File, sum hash.Hash, n int64) (done int64, err error) {
	if w.options.Turn != nil {
		leave, err := w.options.Turn(w.ctx)
		if err != nil {
			return 0, err
		}
		defer leave()
	}
	for done < n {
		if err := w.ctx.Err(); err != nil {
			return done, err
		}
		k, err := f.Read(w.buffer[:min(readBuffer, n-done)])
		sum.Write(w.buffer[:k])
		done += int64(k)
		w.options.Counts.Read.Add(uint64(k))
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// settle waits until a change of the file would show in its change time: two changes within a tick
// of the kernel's clock leave the same.
func settle(ctx context.Context, id identity) error {
	age := time.Since(time.Unix(id.ctime.Unix()))
	if age >= settleTime || age <= -settleTime {
		return nil
	}
	select {
	case <-time.After(settleTime - age):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
