// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/test/simulated"
)

// start is what the next process gets.
func start(t *testing.T, m *simulated.Manager) Passed {
	t.Helper()
	files, err := m.Kept()
	if err != nil {
		t.Fatal(err)
	}
	return Passed{kept: files}
}

// TestStore: the next process gets the last document, and none is there twice for long. A
// process that is killed between two messages leaves the old document, the new one, or both.
func TestStore(t *testing.T) {
	m, err := simulated.NewManager(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	t.Setenv("NOTIFY_SOCKET", m.Address)
	s, documents, err := start(t, m).Kept()
	if documents != nil || err != nil {
		t.Fatalf("empty: %q, %v", documents, err)
	}
	last := ""
	for n, document := range []string{"first", "second", "", "fourth"} {
		if err := s.Keep([]byte(document)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := m.Receive(); err != nil {
				t.Fatal(err)
			}
			_, documents, err := start(t, m).Kept()
			for _, d := range documents {
				if string(d) != document && string(d) != last {
					t.Errorf("found %q between %q and %q", d, last, document)
				}
			}
			if err != nil || n > 0 && len(documents) == 0 {
				t.Errorf("found %q, %v", documents, err)
			}
		}
		last = document
		var documents [][]byte
		if s, documents, err = start(t, m).Kept(); err != nil || len(documents) != 1 || string(documents[0]) != document {
			t.Errorf("the next process gets %q, %v, want %q", documents, err, document)
		}
	}
	if err := s.Keep(make([]byte, MaxKept+1)); err == nil {
		t.Error("a document that the next process would refuse")
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := s.Keep(nil); !errors.Is(err, ErrNoStore) {
		t.Errorf("without a manager: %v", err)
	}
}

// TestKeptIsHostile: what could change while it is read, or is not a memory file, is refused, and
// what is good beside it is read.
func TestKeptIsHostile(t *testing.T) {
	memfd := func(size int64, seals int) *os.File {
		fd, err := unix.MemfdCreate("x", unix.MFD_ALLOW_SEALING)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), slots[0])
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
			t.Fatal(err)
		}
		return f
	}
	open := func(path string) *os.File {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		return os.NewFile(uintptr(fd), slots[0])
	}
	regular := filepath.Join(t.TempDir(), "file")
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := errors.Join(os.WriteFile(regular, []byte("x"), 0o600), unix.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]*os.File{
		"not sealed":         memfd(1, 0),
		"may be written":     memfd(1, sealed&^unix.F_SEAL_WRITE),
		"may grow":           memfd(1, sealed&^unix.F_SEAL_GROW),
		"may shrink":         memfd(1, sealed&^unix.F_SEAL_SHRINK),
		"may be sealed":      memfd(1, sealed&^unix.F_SEAL_SEAL),
		"too large":          memfd(MaxKept+1, sealed),
		"as large as can be": memfd(1<<40, sealed),
		"a file":             open(regular),
		"a FIFO":             open(fifo),
		"a device":           open("/dev/zero"),
		"a directory":        open(t.TempDir()),
	} {
		good, err := memory([]byte("good"))
		if err != nil {
			t.Fatal(err)
		}
		_, documents, err := Passed{kept: []*os.File{f, good}}.Kept()
		if err == nil || len(documents) != 1 || string(documents[0]) != "good" {
			t.Errorf("%s: %q, %v", name, documents, err)
		}
	}
	if _, documents, err := (Passed{kept: []*os.File{memfd(MaxKept, sealed)}}).Kept(); err != nil || len(documents) != 1 || !bytes.Equal(documents[0], make([]byte, MaxKept)) {
		t.Errorf("of the largest size: %d documents, %v", len(documents), err)
	}
	if !slices.Contains(slots[:], "coverage-0") || isKept("coverage") || isKept("client") {
		t.Error("which names come from the store")
	}
}
