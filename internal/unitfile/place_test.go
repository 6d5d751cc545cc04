// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNothingLeavesTheImage: a folder of an image that is a link leads to a folder of the image, and a
// drop-in is written there. A pipe in the place of the drop-in keeps no caller waiting.
func TestNothingLeavesTheImage(t *testing.T) {
	root, machine := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc/systemd"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(machine, filepath.Join(root, "etc/systemd/system")); err != nil {
		t.Fatal(err)
	}
	if err := Write(root, "a.service", DropIn("a", 0)); err != nil {
		t.Fatal(err)
	}
	if all, err := os.ReadDir(machine); err != nil || len(all) > 0 {
		t.Errorf("outside of the image there is %v, %v", all, err)
	}
	at := filepath.Join(root, machine, "a.service.d/50-agentd.conf")
	if b, err := os.ReadFile(at); err != nil || string(b) != string(DropIn("a", 0)) {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := Read(root, "a.service"); err != nil {
		t.Error(err)
	}
	if err := Remove(root, "a.service"); err != nil {
		t.Error(err)
	}
	if _, err := Read(root, "a.service"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read after its removal: %v", err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), unix.Mkfifo(at, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(root, "a.service"); err == nil {
		t.Error("a pipe was read")
	}
}
