// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/caller"
)

// TestHeldIsSame: a process is the one that was named as long as it has its start time. A pidfd alone
// would not tell: it may be of a process that got the number while it was looked up.
func TestHeldIsSame(t *testing.T) {
	root := fakeProc(t, map[string]string{"stat": statLine("S", 5)})
	stat := filepath.Join(root, strconv.Itoa(os.Getpid()), "stat")
	h, err := Hold(root, os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.Same(); err != nil || h.Started != 50 {
		t.Errorf("started at %d: %v", h.Started, err)
	}
	for name, line := range map[string]string{"another process": statLine("S", 6), "ended": statLine("Z", 5)} {
		write(t, stat, line)
		if err := h.Same(); !errors.Is(err, caller.ErrGone) {
			t.Errorf("%s: %v", name, err)
		}
		if err := h.Running(); err != nil {
			t.Errorf("%s: the pidfd is of a process that runs: %v", name, err)
		}
	}
	write(t, stat, statLine("S", 5))
	if err := h.Same(); err != nil {
		t.Error(err)
	}
}

// TestHoldPassedOn: a number that passes to another process while it is looked up is refused.
func TestHoldPassedOn(t *testing.T) {
	root := fakeProc(t, map[string]string{"later": statLine("S", 6)})
	dir := filepath.Join(root, strconv.Itoa(os.Getpid()))
	stat := filepath.Join(dir, "stat")
	if err := unix.Mkfifo(stat, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { // the first reading gets one start time, and the next one another
		f, err := os.OpenFile(stat, os.O_WRONLY, 0)
		if err == nil {
			err = os.Rename(filepath.Join(dir, "later"), stat)
			_, err2 := f.WriteString(statLine("S", 5))
			err = errors.Join(err, err2, f.Close())
		}
		done <- err
	}()
	h, err := Hold(root, os.Getpid())
	if err == nil {
		h.Close()
	}
	if !errors.Is(err, caller.ErrGone) {
		t.Errorf("got %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
