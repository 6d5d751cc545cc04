// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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
	if err := Write(root, "a.service", DropIn("a", 0, false)); err != nil {
		t.Fatal(err)
	}
	if all, err := os.ReadDir(machine); err != nil || len(all) > 0 {
		t.Errorf("outside of the image there is %v, %v", all, err)
	}
	at := filepath.Join(root, machine, "a.service.d/50-agentd.conf")
	if b, err := os.ReadFile(at); err != nil || string(b) != string(DropIn("a", 0, false)) {
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

// TestManyFurther: values of a setting beyond those that are kept are named.
func TestManyFurther(t *testing.T) {
	for setting, value := range map[string]string{"ExecStartPre": "/bin/a", "Environment": "A=b", "EnvironmentFile": "/etc/a", "PassEnvironment": "A", "UnsetEnvironment": "A"} {
		for over := range 2 {
			root := t.TempDir()
			file := filepath.Join(root, "etc/systemd/system/a.service")
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			text := "[Service]\nExecStart=/bin/a\n" + strings.Repeat(setting+"="+value+"\n", maxFurther+over)
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			s, err := Load(root, "a.service")
			if err != nil {
				t.Fatal(err)
			}
			if kept := len(s.Beside) + len(s.Environment) + len(s.EnvironmentFiles) + len(s.Passed) + len(s.Unset); kept != maxFurther || len(s.Unread) != over {
				t.Errorf("%s: %d of %d kept, said %q", setting, kept, maxFurther+over, s.Unread)
			}
		}
	}
}
