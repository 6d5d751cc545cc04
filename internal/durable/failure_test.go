// SPDX-License-Identifier: Apache-2.0

package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/durable/durabletest"
)

// TestEveryFailureIsTold: no operation succeeds if one of its system calls failed, and none
// leaves its temporary file, which would keep the space of a full disk.
func TestEveryFailureIsTold(t *testing.T) {
	const temporary = ".f.new"
	for name, do := range map[string]func(d *durable.Dir) error{
		"Lock":           func(d *durable.Dir) error { return d.Lock() },
		"Read":           func(d *durable.Dir) error { _, err := d.Read("f", 3); return err },
		"Append":         func(d *durable.Dir) error { return d.Append("f", 3, []byte("def")) },
		"Append to none": func(d *durable.Dir) error { return d.Append("g", 0, []byte("abc")) },
		"Truncate":       func(d *durable.Dir) error { return d.Truncate("f", 1) },
		"Replace":        func(d *durable.Dir) error { return d.Replace("f", []byte("new")) },
		"Remove":         func(d *durable.Dir) error { return d.Remove("f") },
		"Names":          func(d *durable.Dir) error { _, err := d.Names(); return err },
		"InMemory":       func(d *durable.Dir) error { _, err := d.InMemory(); return err },
	} {
		n := 0
		for k := 1; ; k++ {
			var faults durabletest.Faults
			disk := durabletest.NewDisk(&faults)
			disk.Set("f", []byte("abc"))
			disk.Set(temporary, []byte("of a process that was killed"))
			faults.Break(k, durabletest.FailBefore, syscall.EIO)
			err := do(disk.Open())
			_, broken := faults.Steps()
			if broken == "" {
				if err != nil {
					t.Errorf("%s: %v, and nothing was broken", name, err)
				}
				break
			}
			n++
			if name == "Read" && broken == "close f" {
				continue // what was read is read
			}
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("%s says %v, and %q failed", name, err, broken)
			}
			if name == "Replace" && broken != "unlink "+temporary && disk.Get(temporary) != nil {
				t.Errorf("%s: %q failed, and its temporary file is still there", name, broken)
			}
		}
		if n == 0 {
			t.Errorf("%s has no step", name)
		}
	}
}

// TestNothingStaysOpen: neither what works nor what fails costs a descriptor.
func TestNothingStaysOpen(t *testing.T) {
	path := private(t)
	descriptors := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skipf("needs /proc: %v", err)
		}
		return len(names)
	}
	use := func() {
		if d, err := durable.Open(filepath.Join(path, "none")); err == nil {
			d.Close()
			t.Error("a directory that is not there was opened")
		}
		if err := os.Chmod(path, 0o750); err != nil {
			t.Fatal(err)
		}
		if d, err := durable.Open(path); err == nil {
			d.Close()
			t.Error("a directory that other users can access was opened")
		}
		if err := os.Chmod(path, 0o700); err != nil {
			t.Fatal(err)
		}
		d, err := durable.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		_, read := d.Read("f", 100)
		_, list := d.Names()
		if err := errors.Join(d.Lock(), d.Replace("f", []byte("abc")), d.Append("f", 3, []byte("d")), d.Truncate("f", 1), list); err != nil {
			t.Fatal(err)
		}
		_, large := d.Read("f", 0)
		_, planted := d.Read("open", 100)
		if read == nil || large == nil || planted == nil || d.Append("f", 7, nil) == nil || d.Truncate("f", 7) == nil || d.Remove("f") != nil {
			t.Error("what should fail works, or the other way round")
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(os.WriteFile(filepath.Join(path, "open"), nil, 0o600), os.Chmod(filepath.Join(path, "open"), 0o644)); err != nil {
		t.Fatal(err)
	}
	use() // whatever the runtime opens for itself is open now
	before := descriptors()
	const rounds = 20
	for range rounds {
		use()
	}
	if after := descriptors(); after >= before+rounds {
		t.Errorf("%d descriptors are open, %d were before %d rounds", after, before, rounds)
	}
}

// reluctant is a file whose reads and writes take fewer bytes than they are given.
type reluctant struct {
	says    int64 // its size, as fstat has it
	content []byte
	at, by  int
}

func (f *reluctant) Stat() (durable.Stat, error) {
	return durable.Stat{Mode: unix.S_IFREG | 0o600, UID: uint32(os.Geteuid()), Size: f.says}, nil
}

func (f *reluctant) Read(b []byte) (int, error) {
	n := copy(b[:min(len(b), f.by)], f.content[f.at:])
	f.at += n
	return n, nil
}

func (f *reluctant) Write(b []byte) (int, error) {
	n := min(len(b), f.by)
	f.content = append(f.content, b[:n]...)
	return n, nil
}

func (f *reluctant) Truncate(int64) error { return nil }
func (f *reluctant) Sync() error          { return nil }
func (f *reluctant) Close() error         { return nil }

// only is a directory whose every name is one file.
type only struct {
	durable.System
	file *reluctant
}

func (o only) Open(string, int, uint32) (durable.File, error) { return o.file, nil }
func (o only) Sync() error                                    { return nil }

func TestShortReadsAndWrites(t *testing.T) {
	f := &reluctant{by: 2}
	if err := durable.New(only{file: f}).Append("f", 0, []byte("abcde")); err != nil || string(f.content) != "abcde" {
		t.Errorf("appended %q, %v", f.content, err)
	}
	f.says = 5
	if b, err := durable.New(only{file: f}).Read("f", 5); err != nil || string(b) != "abcde" {
		t.Errorf("read %q, %v", b, err)
	}
	// Another process cuts the file between fstat and read: the result has no zeros instead.
	f = &reluctant{by: 2, says: 5, content: []byte("abc")}
	var size *durable.SizeError
	if b, err := durable.New(only{file: f}).Read("f", 5); !errors.As(err, &size) || size.Got != 3 || size.Want != 5 {
		t.Errorf("read %q, %v of a file that shrank", b, err)
	}
}

// TestErrors: callers can tell the errors apart.
func TestErrors(t *testing.T) {
	large, small := &durable.SizeError{Got: 2, Want: 1}, &durable.SizeError{Got: 1, Want: 2}
	if !errors.Is(large, syscall.EFBIG) || errors.Is(small, syscall.EFBIG) || errors.Is(&durable.SizeError{Got: 1, Want: 1}, syscall.EFBIG) || errors.Is(large, syscall.EIO) {
		t.Error("a file that is too large is EFBIG, and nothing else is")
	}
	if got := (&durable.LockedError{}).Error(); got != "another process has locked it: stop that process first" {
		t.Errorf("an unknown holder: %s", got)
	}
}

// TestNamesWithoutDescriptors: a list that could not be read is an error, not an empty list.
func TestNamesWithoutDescriptors(t *testing.T) {
	d := open(t, private(t))
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	names, err := d.Names()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, syscall.EMFILE) {
		t.Errorf("got %q, %v", names, err)
	}
}
