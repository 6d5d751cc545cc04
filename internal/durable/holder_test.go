// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLockedBy(t *testing.T) {
	const device, inode = "fe:01", 5678
	for lines, want := range map[string]int{
		"": 0,
		"1: FLOCK  ADVISORY  WRITE 1234 fe:01:5678 0 EOF\n":                                                1234,
		"9: POSIX  ADVISORY  WRITE 1 fe:01:5678 0 EOF\n10: FLOCK  ADVISORY  WRITE 1234 fe:01:5678 0 EOF\n": 1234,
		"1: -> FLOCK  ADVISORY  WRITE 1235 fe:01:5678 0 EOF\n":                                             0,
		"1: FLOCK  ADVISORY  READ  1234 fe:01:5678 0 EOF\n":                                                0,
		"1: FLOCK  ADVISORY  WRITE 1234 fe:02:5678 0 EOF\n":                                                0,
		"1: FLOCK  ADVISORY  WRITE 1234 fe:01:56789 0 EOF\n":                                               0,
		"1: FLOCK  ADVISORY  WRITE 0 fe:01:5678 0 EOF\n":                                                   0, // of another PID namespace
		"1: FLOCK  ADVISORY  WRITE -1 fe:01:5678 0 EOF\n":                                                  0,
		"1: FLOCK  ADVISORY  WRITE x fe:01:5678 0 EOF\n":                                                   0,
		"1: OFDLCK ADVISORY  WRITE -1 fe:01:5678 0 EOF\n":                                                  0,
		"1: FLOCK\n\nx\n": 0,
		"1: FLOCK  ADVISORY  WRITE 12 00:1c:5678 0 EOF\n2: FLOCK  ADVISORY  WRITE 1234 fe:01:5678 0 EOF\n2: ->": 1234,
	} {
		if got := lockedBy(strings.NewReader(lines), device, inode); got != want {
			t.Errorf("got %d, want %d from\n%s", got, want, lines)
		}
	}
}

// thread is what /proc says of one thread.
type thread struct {
	stat, status string
}

func threadOf(state string, flags uint64, pending, shared string) thread {
	return thread{
		stat:   fmt.Sprintf("7 (a ) R 1 (x) %s 1 7 7 0 -1 %d 0 0 0 0", state, flags),
		status: fmt.Sprintf("Name:\tx\nState:\t%s\nSigPnd:\t%s\nShdPnd:\t%s\nSigBlk:\t0000000000000100\n", state, pending, shared),
	}
}

// case 89: which processes can never run again. All that is not certain is alive.
func TestEnded(t *testing.T) {
	const none, kill, others = "0000000000000000", "0000000000000100", "fffffffffffffeff"
	working := threadOf("S", 4194304, none, none)
	waiting := threadOf("D", 4194304, none, none)
	gone := threadOf("Z", 4194304|flagExiting, none, none)
	struck := threadOf("D", 4194304, kill, none)
	for name, c := range map[string]struct {
		threads []thread
		want    bool
	}{
		"no such process":                    {nil, false},
		"works":                              {[]thread{working, working}, false},
		"waits in the kernel":                {[]thread{waiting}, false},
		"killed, waits in the kernel":        {[]thread{struck}, true},
		"killed as a process":                {[]thread{threadOf("D", 0, none, kill)}, true},
		"killed, not yet noticed":            {[]thread{threadOf("R", 0, kill, kill)}, true},
		"exiting":                            {[]thread{threadOf("D", flagExiting, none, none)}, true},
		"first thread gone, another stuck":   {[]thread{gone, struck}, true},
		"first thread gone, another works":   {[]thread{gone, working}, false},
		"first thread stuck, others gone":    {[]thread{struck, gone, threadOf("X", 0, none, none)}, true},
		"one stuck, one works":               {[]thread{struck, working}, false},
		"all gone":                           {[]thread{gone, gone}, false},
		"other signals":                      {[]thread{threadOf("D", 0, others, others)}, false},
		"SIGKILL blocked is not pending":     {[]thread{threadOf("D", 0, none, "")}, false},
		"stat is cut":                        {[]thread{{"7 (x) D 1 7", struck.status}}, false},
		"stat is empty":                      {[]thread{{"", struck.status}}, false},
		"status is empty":                    {[]thread{{waiting.stat, ""}}, false},
		"status has another form":            {[]thread{{waiting.stat, "SigPnd:\tx\nShdPnd\t" + kill + "\n"}}, false},
		"flags are not a number":             {[]thread{{strings.ReplaceAll(waiting.stat, "4194304", "x"), ""}}, false},
		"name looks like a state":            {[]thread{{"7 (x) Z 1 7 7 0 -1 4) S 1 7 7 0 -1 4194304 0", working.status}}, false},
		"a thread ends while it is read":     {[]thread{struck, {"", ""}}, false},
		"killed and stopped by a debugger":   {[]thread{threadOf("t", 0, kill, none)}, true},
		"first thread gone, another exiting": {[]thread{gone, threadOf("D", flagExiting, none, none)}, true},
	} {
		proc := t.TempDir()
		for i, x := range c.threads {
			dir := filepath.Join(proc, "7", "task", fmt.Sprint(7+i))
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{"stat": x.stat, "status": x.status} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := ended(proc, 7); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if Ended(os.Getpid()) {
		t.Error("this process has ended")
	}
}

// A thread whose files are gone has ended meanwhile; one whose files cannot be read is alive.
func TestThreadEndsWhileRead(t *testing.T) {
	proc := t.TempDir()
	dir := filepath.Join(proc, "7", "task", "7")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if gone, stuck := threadEnded(dir); !gone || stuck {
		t.Errorf("without files: gone %v, stuck %v", gone, stuck)
	}
	if err := os.Mkdir(filepath.Join(dir, "stat"), 0o700); err != nil {
		t.Fatal(err)
	}
	if gone, stuck := threadEnded(dir); gone || stuck {
		t.Errorf("with an unreadable file: gone %v, stuck %v", gone, stuck)
	}
}

// A lock that an unknown process has, or one that may still run, is refused.
func TestUnknownHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	open := func(place int, create bool) (int, error) { return openPlace(-100, placeName(path, place), create) }
	first := &locker{open: open, ended: func(int) bool { return false }}
	held, err := first.take()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&locker{open: open, ended: Ended}).take(); err == nil {
		t.Error("a lock of a live process was passed over")
	}
	// Each successor of a process that is said to have ended takes the next place, and the last
	// one is refused instead of making places without end.
	dead := &locker{open: open, ended: func(int) bool { return true }}
	for place := 1; place < places; place++ {
		more, err := dead.take()
		if err != nil {
			t.Fatalf("place %d: %v", place, err)
		}
		if len(more) != 1 {
			t.Errorf("place %d: %d descriptors, want one", place, len(more))
		}
		held = append(held, more...)
	}
	if _, err := dead.take(); err == nil || !strings.Contains(err.Error(), "reboot") {
		t.Errorf("all places are locked: %v", err)
	}
	// The first place is free again, and a later one belongs to a live process.
	if err := closeFirst(&held); err != nil {
		t.Fatal(err)
	}
	if _, err := first.take(); err == nil {
		t.Error("a lock in a later place was not seen")
	}
	release(held)
	last, err := first.take()
	if err != nil {
		t.Errorf("all is free again: %v", err)
	}
	release(last)
}

// The directory is synced before a process is passed over, once, and not without need. If that
// fails there is no lock.
func TestSyncedBeforePassingOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	synced := 0
	var fails error
	l := &locker{
		open:  func(place int, create bool) (int, error) { return openPlace(-100, placeName(path, place), create) },
		ended: func(int) bool { return true },
		sync:  func() error { synced++; return fails },
	}
	for want := range 3 { // processes that have a place each
		held, err := l.take()
		if err != nil {
			t.Fatal(err)
		}
		defer release(held)
		if synced != min(want, 1) {
			t.Errorf("synced %d times to pass over %d processes", synced, want)
		}
		synced = 0
	}
	fails = errors.New("disk")
	if _, err := l.take(); !errors.Is(err, fails) {
		t.Errorf("got %v, want the error of the disk", err)
	}
}

func closeFirst(fds *[]int) error {
	err := descriptor((*fds)[0]).Close()
	*fds = (*fds)[1:]
	return err
}
