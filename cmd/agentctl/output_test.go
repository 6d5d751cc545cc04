// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOutputKeepsWhatIsNoFile: a device or pipe is written to and not replaced by a file,
// which for root would take /dev/null away from the machine. A link stays a link.
func TestOutputKeepsWhatIsNoFile(t *testing.T) {
	t.Chdir(t.TempDir())
	term := &terminal{out: new(bytes.Buffer)}
	if err := unix.Mkfifo("pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile("pipe", os.O_RDONLY|unix.O_NONBLOCK, 0) // waits for no writer
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := term.writeOutput("pipe", []byte("through")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 7)
	if err := reader.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Read(got); err != nil || string(got) != "through" {
		t.Errorf("%v: the pipe gave %q", err, got)
	}
	if at, err := os.Lstat("pipe"); err != nil || at.Mode().Type() != fs.ModeNamedPipe {
		t.Errorf("the pipe was replaced: %v", err)
	}

	if err := os.WriteFile("file", []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", "link"); err != nil {
		t.Fatal(err)
	}
	if err := term.writeOutput("link", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile("file"); err != nil || string(b) != "new" {
		t.Errorf("%v: the target of the link is %q", err, b)
	}
	if at, err := os.Lstat("link"); err != nil || at.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link was replaced: %v", err)
	}
	if err := os.Mkdir("folder", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := term.writeOutput("folder", nil); err == nil || !strings.Contains(err.Error(), "write folder: it is a directory") {
		t.Errorf("a directory: %v", err)
	}
	if err := term.writeOutput("none/file", nil); err == nil || err.Error() != "write none/file: no such file or directory" {
		t.Errorf("no folder: %v", err)
	}
}

// TestSecretsTakeNoDetour: an attacker may have put a link or a pipe there.
func TestSecretsTakeNoDetour(t *testing.T) {
	t.Chdir(t.TempDir())
	term := &terminal{out: new(bytes.Buffer)}
	if err := unix.Mkfifo("pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("elsewhere", "link"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pipe", "link", "."} {
		if err := term.writeSecretOutput(name, []byte("secret")); err == nil {
			t.Errorf("a secret was written to %s", name)
		}
	}
	if err := os.WriteFile("file", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := term.writeSecretOutput("file", []byte("secret")); err != nil {
		t.Fatal(err)
	}
	if at, err := os.Stat("file"); err != nil || at.Mode() != 0o600 {
		t.Errorf("mode %v, %v", at.Mode(), err)
	}
	left, err := os.ReadDir(".")
	if err != nil || len(left) != 3 {
		t.Errorf("%v, %v", left, err)
	}
}
