// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// caseDeadline is far above what any case takes on a busy machine, and far below what
// hashing a sparse file of 1 TB or waiting for a FIFO would.
const caseDeadline = 2 * time.Minute

// inMountNamespace runs f on a thread that has mounts of its own, made by mount.
func inMountNamespace(t *testing.T, mount func() error, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its mounts
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = mount()
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Skipf("needs a mount namespace, that is root: %v", err)
	}
}

// stir calls f until the test calls the function it returns, which waits for the end.
func stir(f func(round int)) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			default:
				f(i)
			}
		}
	}()
	return sync.OnceFunc(func() { close(end); <-ended })
}

// TestRenameSwap swaps two executables under one name, 10,000 times against as many
// measurements as fit in between: every digest in the log is that of one of them,
// whole, with its own size, and only such a digest is ever covered (case 12).
func TestRenameSwap(t *testing.T) {
	const rounds = 10000
	w := newWorld(t, func(c *Config) { c.RateBurst = 1 << 30 })
	contents := []string{"trusted " + strings.Repeat("t", 5000), "evil " + strings.Repeat("e", 9000)}
	w.write("a", contents[0], 0o755)
	w.write("b", contents[1], 0o755)
	symlink(t, "a", w.path("link"))
	w.declare("app", list("files", w.path("a"), w.path("link")))
	w.reload()

	var swaps atomic.Int64
	stop := stir(func(i int) {
		swaps.Add(1)
		if err := unix.Renameat2(unix.AT_FDCWD, w.path("a"), unix.AT_FDCWD, w.path("b"), unix.RENAME_EXCHANGE); err != nil {
			t.Error(err)
		}
		os.Symlink([]string{"a", "b"}[i%2], w.path("link.new"))
		os.Rename(w.path("link.new"), w.path("link"))
	})
	defer stop()
	measured, refused := 0, 0
	// Where one of the two is kept off the processor, the other waits for it.
	raced := func() bool { return measured > 0 && swaps.Load() >= rounds/100 }
	for end := time.Now().Add(patience); measured+refused < rounds || !raced() && time.Now().Before(end); {
		_, err := w.Measure(t.Context(), "app")
		var changed *ChangedError
		switch {
		case err == nil:
			measured++
		case errors.As(err, &changed):
			refused++
		default:
			t.Fatal(err)
		}
	}
	stop()
	if !raced() {
		t.Errorf("%d measured, %d refused, %d swaps: nothing was raced", measured, refused, swaps.Load())
	}
	t.Logf("%d measured, %d refused as changing, %d swaps, %d events", measured, refused, swaps.Load(), len(w.log.all()))

	whole := map[string]uint64{digestOf("a").String(): 1, digestOf("b").String(): 1}
	for _, c := range contents {
		whole[digestOf(c).String()] = uint64(len(c))
	}
	for i, e := range w.log.all() {
		if e.App == nil {
			continue
		}
		for _, m := range e.App.Manifest {
			if size, ok := whole[m.Digest.String()]; !ok || size != m.Size {
				t.Fatalf("event %d: %s has digest %s and size %d, which never were in one file", i, m.Path, m.Digest, m.Size)
			}
		}
	}
}

// TestTornWithinOneTick: on a coarse clock a file can be written twice with one change
// time. A digest taken right after the first write must not stand for a mixture: the
// hashing waits until another write would show.
func TestTornWithinOneTick(t *testing.T) {
	w := newWorld(t)
	p := w.write("bin", "x", 0o755)
	h, err := find(unix.AT_FDCWD, p, false)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	id := identify(&h.st)
	if err := settled(t.Context(), id, settleTime); err != nil {
		t.Fatal(err)
	}
	if age := id.age(time.Now()); age < settleTime {
		t.Errorf("hashing would begin %v after the change, want at least %v", age, settleTime)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := settled(ctx, id, settleTime); err != nil {
		t.Errorf("an old file was waited for: %v", err)
	}
	if err := settled(ctx, id, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the end of the context", err)
	}
	// A file system that keeps whole seconds, with a write in this one and in an earlier.
	now := time.Now().Unix()
	if err := settled(ctx, identity{ctime: unix.Timespec{Sec: now}}, settleTime); !errors.Is(err, context.Canceled) {
		t.Errorf("a file that could be written within this second is not waited for: %v", err)
	}
	for _, old := range []unix.Timespec{{Sec: now - 3}, {Sec: now - 1, Nsec: 1}} {
		if err := settled(ctx, identity{ctime: old}, settleTime); err != nil {
			t.Errorf("a file of %v is waited for: %v", old, err)
		}
	}
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
