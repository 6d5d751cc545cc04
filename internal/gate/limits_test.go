// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/fanotify"
)

// TestTurnsOfOneApp: decisions are limited for each app, and for all together. A start that got no turn
// before its deadline takes no place.
func TestTurnsOfOneApp(t *testing.T) {
	past, cancel := context.WithCancel(t.Context())
	cancel()
	g := &Gate{deciding: make(chan struct{}, maxOfApp+1)}
	var ends []func()
	for n := range maxOfApp {
		end := g.turn(t.Context(), "one")
		if end == nil {
			t.Fatalf("start %d of one app was not decided", n)
		}
		ends = append(ends, end)
	}
	if g.turn(past, "one") != nil {
		t.Errorf("more than %d starts of one app are decided at once", maxOfApp)
	}
	if g.turn(t.Context(), "other") == nil {
		t.Error("the starts of one app hold up another")
	}
	ends[0]()
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if g.turn(soon, "one") != nil || len(g.turns.of("one")) != maxOfApp-1 {
		t.Errorf("%d of one app, %d in all are decided", len(g.turns.of("one")), len(g.deciding))
	}
}

// TestUnfit: what is not a regular file, and what is too large to hash, is refused without reading it.
func TestUnfit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, maxFile+1)); err != nil {
		t.Fatal(err)
	}
	past, cancel := context.WithCancel(t.Context())
	cancel()
	for _, path := range []string{path, filepath.Dir(path)} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := newContents(0).find(past, int(f.Fd())); err == nil || !strings.Contains(err.Error(), "can be hashed") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestPatience: a file that is open for writing is waited for as long as the patience, not longer.
func TestPatience(t *testing.T) {
	path := filepath.Join(t.TempDir(), "written")
	w, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithTimeoutCause(t.Context(), long, errDeadline)
	defer cancel()
	if _, err := newContents(20*time.Millisecond).find(ctx, int(f.Fd())); !errors.Is(err, fanotify.ErrWritten) || ctx.Err() != nil {
		t.Errorf("%v, %v", err, ctx.Err())
	}
}

// TestRoomForLeases: at the cap a lease that nothing needs ends, the one that was used least lately.
// If a start waits for each, or its answer is young, no lease ends.
func TestRoomForLeases(t *testing.T) {
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	c := newContents(0)
	const idle = 32 // in the order of a map, where the right one is seldom the first
	for n := range uint64(maxLeases - 3) {
		c.leased[fileID{1, n}] = &leased{fd: -1, users: 1}
	}
	c.leased[fileID{2, 0}] = &leased{fd: -1, used: ago(settling / 2)}
	c.leased[fileID{2, 1}] = &leased{fd: -1, users: 1, used: ago(9 * keeping)}
	c.leased[fileID{2, 2}] = &leased{fd: -1, users: 1}
	open := func() int {
		f, err := os.Open(os.Args[0])
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	if l, err := c.lease(fileID{3, 0}, open()); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("a lease more than %d: %+v, %v", maxLeases, l, err)
	}
	for n := range uint64(idle) {
		delete(c.leased, fileID{1, n})
		c.leased[fileID{4, n}] = &leased{fd: -1, used: ago(settling + time.Duration((n+5)%idle)*time.Second)}
	}
	if _, err := c.lease(fileID{3, 1}, open()); err != nil || len(c.leased) != maxLeases || c.leased[fileID{4, idle - 6}] != nil || c.leased[fileID{3, 1}] == nil {
		t.Errorf("%d leases, %v", len(c.leased), err)
	}
}
