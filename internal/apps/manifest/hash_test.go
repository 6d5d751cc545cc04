// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// TestTornWithinOneTick: on a coarse clock a file can be written twice with one change
// time. A digest taken right after the first write must not stand for a mixture: the
// hashing waits until another write would show.
func TestTornWithinOneTick(t *testing.T) {
	w := newFiles(t)
	p := w.write("bin", "x", 0o755)
	h, err := find(unix.AT_FDCWD, p, false)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	id := identify(&h.st)
	if err := settled(t.Context(), id, SettleTime); err != nil {
		t.Fatal(err)
	}
	if age := id.age(time.Now()); age < SettleTime {
		t.Errorf("hashing would begin %v after the change, want at least %v", age, SettleTime)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := settled(ctx, id, SettleTime); err != nil {
		t.Errorf("an old file was waited for: %v", err)
	}
	if err := settled(ctx, id, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the end of the context", err)
	}
	// A file system that keeps whole seconds, with a write in this one and in an earlier.
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().Unix()
		if err := settled(ctx, identity{ctime: unix.Timespec{Sec: now}}, SettleTime); !errors.Is(err, context.Canceled) {
			t.Errorf("a file that could be written within this second is not waited for: %v", err)
		}
		for _, old := range []unix.Timespec{{Sec: now - 3}, {Sec: now - 1, Nsec: 1}} {
			if err := settled(ctx, identity{ctime: old}, SettleTime); err != nil {
				t.Errorf("a file of %v is waited for: %v", old, err)
			}
		}
	})
}

// TestCache: a digest is reused only of a file that stands still for 2 s, and any
// change of the file is another key.
func TestCache(t *testing.T) {
	now := time.Now()
	at := func(age time.Duration) unix.Timespec {
		return unix.NsecToTimespec(now.Add(-age).UnixNano())
	}
	base := identity{dev: 1, ino: 2, size: 3, mode: 4, ctime: at(cacheAge), mtime: at(time.Hour)}
	user, shared := base, base
	user.uid, shared.mode = 1000, 0o100664
	for name, c := range map[string]struct {
		put, get identity
		want     bool
	}{
		"same":            {base, base, true},
		"fresh":           {identity{ino: 2, ctime: at(cacheAge - time.Millisecond)}, identity{ino: 2, ctime: at(cacheAge - time.Millisecond)}, false},
		"from the future": {identity{ino: 2, ctime: at(-time.Hour)}, identity{ino: 2, ctime: at(-time.Hour)}, false},
		"another device":  {base, identity{9, base.ino, base.uid, base.size, base.mode, base.ctime, base.mtime}, false},
		"another inode":   {base, identity{base.dev, 9, base.uid, base.size, base.mode, base.ctime, base.mtime}, false},
		"another size":    {base, identity{base.dev, base.ino, base.uid, 9, base.mode, base.ctime, base.mtime}, false},
		"another mode":    {base, identity{base.dev, base.ino, base.uid, base.size, 9, base.ctime, base.mtime}, false},
		"changed later":   {base, identity{base.dev, base.ino, base.uid, base.size, base.mode, at(time.Second), base.mtime}, false},
		"another owner":   {base, identity{base.dev, base.ino, 9, base.size, base.mode, base.ctime, base.mtime}, false},
		// Stores through a mapping need not move the change time.
		"a user's own":     {user, user, false},
		"the group's":      {shared, shared, false},
		"written at other": {base, identity{base.dev, base.ino, base.uid, base.size, base.mode, base.ctime, at(time.Second)}, false},
	} {
		k := newCache()
		k.put(c.put, digestOf("x"), now)
		if _, ok := k.get(c.get); ok != c.want {
			t.Errorf("%s: found %v, want %v", name, ok, c.want)
		}
	}
	var none *cache
	if _, ok := none.get(base); ok {
		t.Error("no cache has a digest")
	}
	k := newCache()
	for i := range 5 * cacheEntries {
		k.put(identity{ino: uint64(i), ctime: base.ctime}, digestOf(fmt.Sprint(i)), now)
		if i%1000 == 0 {
			k.get(identity{ino: 0, ctime: base.ctime})
		}
	}
	if n := len(k.young) + len(k.old); n > 2*cacheEntries {
		t.Errorf("%d digests are kept", n)
	}
	if _, ok := k.get(identity{ino: 0, ctime: base.ctime}); !ok {
		t.Error("a digest in use was forgotten")
	}
}

// changes are what can happen to a file of fileSize bytes, again and again: cycle rounds bring it
// back to where it was after as many.
var changes = map[string]func(f *os.File, round int) error{
	// The first byte, then the last one: of three values, so that one of each reading
	// is told from what ever stood there.
	"overwritten": func(f *os.File, round int) error {
		_, err := f.WriteAt([]byte{"aabbcc"[round%cycle]}, int64(round%2)*(fileSize-1))
		return err
	},
	"appended": func(f *os.File, round int) error {
		if round%cycle == cycle-1 {
			return f.Truncate(fileSize)
		}
		_, err := f.WriteAt([]byte{1}, fileSize+int64(round%cycle))
		return err
	},
	"truncated": func(f *os.File, round int) error {
		if round%cycle == cycle-1 {
			_, err := f.WriteAt([]byte("xxxxx"), fileSize-(cycle-1))
			return err
		}
		return f.Truncate(fileSize - 1 - int64(round%cycle))
	},
	"touched": func(f *os.File, round int) error { return f.Chmod(0o700 | os.FileMode(round&1)) },
}

const (
	fileSize = 2 << 20
	cycle    = 6
)

// meddler is a context that does something whenever it is asked whether it ended:
// hashing asks before every read.
type meddler struct {
	context.Context
	asked int
	do    func(asked int) error
}

func (m *meddler) Err() error {
	m.asked++
	if m.asked == 0 { // the queue of hashing asks first
		return nil
	}
	return m.do(m.asked)
}

// TestChangeAtEveryRead: a change before any one of the reads is noticed, the last one
// of which finds the end of the file; and the hashing ends with its context before any
// of them.
func TestChangeAtEveryRead(t *testing.T) {
	w := newFiles(t)
	const reads = fileSize/readBuffer + 1
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			for _, at := range []int{1, 2, reads / 2, reads - 1, reads} {
				f, err := os.OpenFile(w.write("bin", strings.Repeat("x", fileSize), 0o755), os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				hash := func(do func(asked int) error) (int, error) {
					if _, err := f.Seek(0, 0); err != nil {
						t.Fatal(err)
					}
					var st unix.Stat_t
					if err := unix.Fstat(int(f.Fd()), &st); err != nil {
						t.Fatal(err)
					}
					ctx := &meddler{Context: t.Context(), asked: -1, do: do}
					r := NewReader(1, SettleTime)
					r.longest = time.Hour // one turn, however slow this machine is
					_, err := hashOne(ctx, r, turn.Who{}, f, "bin", identify(&st))
					return ctx.asked, err
				}
				if n, err := hash(func(int) error { return nil }); err != nil || n != reads {
					t.Fatalf("at rest: %d reads, %v", n, err)
				}
				_, err = hash(func(asked int) error {
					if asked == at {
						return change(f, 0)
					}
					return nil
				})
				var changed *ChangedError
				if !errors.As(err, &changed) {
					t.Errorf("changed before read %d: got %v, want a changed error", at, err)
				}
				n, err := hash(func(asked int) error {
					if asked == at {
						return context.Canceled
					}
					return nil
				})
				if !errors.Is(err, context.Canceled) || n != at {
					t.Errorf("cancelled before read %d: got %v after %d", at, err, n)
				}
			}
		})
	}
}

// hashOne hashes one file, as a reading does.
func hashOne(ctx context.Context, r *Reader, who turn.Who, f *os.File, path string, id identity) (evidence.Digest, error) {
	s := scan{reader: r, ctx: ctx, Look: Look{Progress: NewProgress(), Who: func() turn.Who { return who }}}
	w := s.Progress.hand()
	defer w.end()
	return s.hashFile(w, f, path, id)
}

// A large file of one app delays another app's small one by a piece, not by the file. Each piece
// ends when the small one waits for its turn, however long it takes to get there.
func TestLargeFileDelaysLittle(t *testing.T) {
	w := newFiles(t)
	large, small := w.write("large", "", 0o644), w.write("small", "x", 0o644)
	const pieces = 24
	if err := os.Truncate(large, pieces*piece); err != nil {
		t.Fatal(err)
	}
	r := NewReader(1, 0)
	waits := func() bool { s := r.Turns(); return slices.Max(s.Waiting[:]) > 0 }
	r.touch = func(path string) {
		for end := time.Now().Add(time.Minute); path == large && r.turns.Used() > 0 && !waits(); time.Sleep(10 * time.Microsecond) {
			if time.Now().After(end) {
				t.Error("the small file waits for no turn")
				return
			}
		}
	}
	hash := func(app, path string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return err
		}
		_, err = hashOne(t.Context(), r, turn.Who{Party: app}, f, path, identify(&st))
		return err
	}
	done := make(chan error, 1)
	go func() { done <- hash("large", large) }()
	for end := time.Now().Add(time.Minute); r.turns.Used() == 0 && time.Now().Before(end); {
		time.Sleep(time.Microsecond)
	}
	served := 0
	for len(done) == 0 {
		if err := hash("small", small); err != nil {
			t.Fatal(err)
		}
		served++
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if served < pieces {
		t.Errorf("while a file of %d pieces was hashed, another app had %d turns", pieces, served)
	}
}
