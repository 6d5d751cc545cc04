// SPDX-License-Identifier: Apache-2.0

package hangfs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if err := OwnNamespace(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// It is a file system, then one that hangs: a process that reads cannot be killed until it
// answers or ends.
func TestHang(t *testing.T) {
	dir := t.TempDir()
	f, err := Mount(dir)
	if errors.Is(err, ErrImpossible) {
		t.Skip(err)
	}
	must(t, err)
	closed := false
	defer func() {
		if !closed {
			f.Close()
		}
	}()
	// Only other processes may use it: see Mount.
	for _, name := range []string{File, Folder + "/" + File, Link} {
		if b, err := exec.Command("cat", filepath.Join(dir, name)).Output(); err != nil || string(b) != content {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if b, err := exec.Command("ls", dir).Output(); err != nil || string(b) != "folder\nlink\nprogram\n" {
		t.Errorf("the root lists %q, %v", b, err)
	}
	for _, op := range []Op{Lookup, Getattr, Open, Read, Flush, Statfs, Opendir, Readdir, Readlink} {
		t.Run(op.String(), func(t *testing.T) {
			f.Hang(op)
			program := map[Op][]string{
				Statfs: {"stat", "-f", "."}, Opendir: {"ls", "."}, Readdir: {"ls", "."}, Readlink: {"readlink", Link},
			}[op]
			if program == nil {
				program = []string{"cat", File}
			}
			c := exec.Command(program[0], program[1:]...)
			c.Dir = dir
			if op == Getattr { // of its folder, as it starts
				c.Dir, c.Args = "/", []string{"cat", filepath.Join(dir, File)}
			}
			must(t, c.Start())
			done := make(chan struct{})
			go func() {
				_ = c.Wait()
				close(done)
			}()
			eventually(t, f, op)
			must(t, c.Process.Signal(syscall.SIGKILL))
			select {
			case <-done:
				t.Error("the process ended although the kernel waits for an answer")
			case <-time.After(50 * time.Millisecond):
			}
			f.Answer()
			<-done
		})
	}
	f.Hang(Read)
	read := exec.Command("cat", filepath.Join(dir, File))
	must(t, read.Start())
	eventually(t, f, Read)
	closed = true
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := read.Wait(); err == nil {
		t.Error("a file could be read after the end")
	}
	if _, err := os.Stat(filepath.Join(dir, File)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the end: %v, want that nothing is mounted", err)
	}
}

// eventually waits until a request is held.
func eventually(t *testing.T, f *FS, op Op) {
	t.Helper()
	for end := time.Now().Add(time.Minute); f.Held(op) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing is held")
		}
	}
}
