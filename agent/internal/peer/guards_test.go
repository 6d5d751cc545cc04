// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
)

// case 7: without a pidfd, a number that passes to another process while the first one is
// looked up is noticed, although all that was read came from the first one.
func TestNumberPassesOnMeanwhile(t *testing.T) {
	root := fakeProc(t, map[string]string{"stat": statLine("S", 5)})
	dir := filepath.Join(root, strconv.Itoa(os.Getpid()))
	cgroup := filepath.Join(dir, "cgroup")
	if err := unix.Mkfifo(cgroup, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		f, err := os.OpenFile(cgroup, os.O_WRONLY, 0) // until the cgroup is being read
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		if err := os.Rename(dir, dir+".ended"); err != nil {
			t.Error(err)
		}
		write(t, filepath.Join(dir, "stat"), statLine("S", 6))
		f.WriteString("0::/system.slice/billing.service\n")
	}()
	i, err := New(Options{Proc: root})
	if err != nil {
		t.Fatal(err)
	}
	i.pidfd = func(int) (int, error) { return -1, unix.ENOPROTOOPT }
	if p, err := i.Identify(toSelf(t)); !errors.Is(err, caller.ErrGone) {
		t.Errorf("%+v, error %v; want ErrGone", p, err)
	}
}

// What is not a regular file, or larger than is hashed, is refused before a byte of it is
// read (case 18).
func TestStatRefuses(t *testing.T) {
	m := newImages(Options{MaxExecutable: 1 << 20})
	sparse := filepath.Join(t.TempDir(), "sparse")
	write(t, sparse, "")
	if err := os.Truncate(sparse, 1<<20+1); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{sparse, os.DevNull, t.TempDir()} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, _, err := m.stat(f); err == nil {
			t.Errorf("%s is taken", path)
		}
	}
}

// The cache keeps no failure, and does not grow beyond its cap.
func TestDigestCacheKeeps(t *testing.T) {
	now := time.Unix(1e9, 0)
	m := newImages(Options{Now: func() time.Time { return now }})
	put := func(inode uint64, err error) {
		id := fileID{dev: 1, inode: inode, ctime: unix.Timespec{Sec: now.Unix() - 100}}
		r := &reading{done: make(chan struct{}), digest: evidence.Digest{1}, err: err}
		if m.begin(id, r) != nil {
			t.Fatal("it is read")
		}
		m.end(id, r)
	}
	put(1, errors.New("it changed meanwhile"))
	if len(m.digests) != 0 {
		t.Error("a failure is kept as a digest")
	}
	for inode := range uint64(maxDigests + 10) {
		put(inode, nil)
	}
	if len(m.digests) != maxDigests || len(m.readings) != 0 {
		t.Errorf("%d digests, %d readings", len(m.digests), len(m.readings))
	}
}
