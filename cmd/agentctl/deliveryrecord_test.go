// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/delivery"
)

// TestRecordHasOneName: case 130. A file of a delivery serves one command at a time, and only if it has no other
// name, by which a secret could be sent again.
func TestRecordHasOneName(t *testing.T) {
	t.Chdir(t.TempDir())
	r := &delivery.Record{Type: delivery.RecordType, Challenge: make([]byte, 32), Made: uint64(time.Now().Unix())}
	if _, err := newRecord("d", r); err != nil {
		t.Fatal(err)
	}
	if _, err := newRecord("d", r); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("a second one of that name: %v", err)
	}
	refused := func(what, name, want string) {
		t.Helper()
		if h, err := holdRecord(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v", what, h, err)
		}
	}
	for _, err := range []error{os.Symlink("d", "link"), os.Mkdir("folder", 0o700), unix.Mkfifo("pipe", 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	refused("a link", "link", "is a link")
	refused("a pipe", "pipe", "not a regular file")
	refused("a folder", "folder", "folder")
	if err := os.Link("d", "second"); err != nil {
		t.Fatal(err)
	}
	refused("a second name", "d", "2 names")
	refused("by its second name", "second", "2 names")
	if err := os.Remove("second"); err != nil {
		t.Fatal(err)
	}

	h, err := holdRecord("d")
	if err != nil {
		t.Fatal(err)
	}
	refused("while another command uses it", "d", "another command uses")
	// Another command opened it before, and waits for the lock: it must not use what it opened.
	if err := h.write(); err != nil {
		t.Fatal(err)
	}
	h.Close()
	if h, err = holdRecord("d"); err != nil {
		t.Fatal(err)
	}
	if err := os.Link("d", "second"); err != nil {
		t.Fatal(err)
	}
	if err := h.write(); err == nil || !strings.Contains(err.Error(), "another name") {
		t.Errorf("a name that it got while it was used: %v", err)
	}
	h.Close()
}

// terminalPair returns both ends of a terminal.
func terminalPair(t *testing.T) (near, far *os.File) {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminal: %v", err)
	}
	t.Cleanup(func() { near.Close() })
	if err := unix.IoctlSetPointerInt(int(near.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(near.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if far, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Skipf("no terminal: %v", err)
	}
	t.Cleanup(func() { far.Close() })
	return near, far
}

// echoes reports whether a terminal shows what is typed.
func echoes(t *testing.T, far *os.File) bool {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(far.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s.Lflag&unix.ECHO != 0
}

// TestTypedSecret: what is typed is not shown, and is one line without its end. An interruption leaves the
// terminal as it was.
func TestTypedSecret(t *testing.T) {
	near, far := terminalPair(t)
	type answer struct {
		b   []byte
		err error
	}
	read := func(ctx context.Context, limit int) chan answer {
		done := make(chan answer, 1)
		at := &terminal{in: far, out: io.Discard, err: io.Discard}
		go func() { b, err := at.readSecret(ctx, "-", limit); done <- answer{b, err} }()
		for end := time.Now().Add(time.Minute); echoes(t, far); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the terminal shows what is typed")
			}
		}
		return done
	}
	done := read(t.Context(), 100)
	if _, err := near.WriteString("hunter2\n"); err != nil {
		t.Fatal(err)
	}
	if a := <-done; a.err != nil || string(a.b) != "hunter2" || !echoes(t, far) {
		t.Errorf("%q, %v, shows: %v", a.b, a.err, echoes(t, far))
	}
	done = read(t.Context(), 3)
	if _, err := near.WriteString("hunter2\n"); err != nil {
		t.Fatal(err)
	}
	if a := <-done; a.err == nil || len(a.b) > 0 {
		t.Errorf("a secret that is too long: %q, %v", a.b, a.err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done = read(ctx, 100)
	cancel()
	for end := time.Now().Add(time.Minute); !echoes(t, far); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("an interruption leaves the terminal without echo")
		}
	}
	if _, err := near.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	<-done
	if _, err := far.WriteString("the end"); err != nil {
		t.Fatal(err)
	}
	var shown []byte
	for b := make([]byte, 100); !bytes.Contains(shown, []byte("the end")); {
		n, err := near.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		shown = append(shown, b[:n]...)
	}
	if bytes.Contains(shown, []byte("hunter2")) {
		t.Errorf("the terminal showed %q", shown)
	}
}
