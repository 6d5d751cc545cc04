// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestReadAuth(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name    string
		content string
		mode    os.FileMode
		ok      bool
	}{
		{"good", "secret", 0o600, true},
		{"read only", "secret", 0o400, true},
		{"for the group", "secret", 0o640, false},
		{"for all", "secret", 0o604, false},
		{"empty", "", 0o600, false},
		{"too long", string(make([]byte, maxAuth+1)), 0o600, false},
	} {
		path := filepath.Join(dir, c.name)
		if err := errors.Join(os.WriteFile(path, []byte(c.content), 0o600), os.Chmod(path, c.mode)); err != nil { // whatever the umask
			t.Fatal(err)
		}
		b, err := readAuth(path)
		if (err == nil) != c.ok || c.ok && string(b) != c.content {
			t.Errorf("%s: %q, %v", c.name, b, err)
		}
	}
	if b, err := readAuth(""); b != nil || err != nil {
		t.Errorf("no file: %q, %v", b, err)
	}
	if _, err := readAuth(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that does not exist: %v", err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readAuth(fifo); err == nil || !strings.Contains(err.Error(), fifo) {
		t.Errorf("a FIFO, whose opening waits for a writer: %v", err)
	}
}
