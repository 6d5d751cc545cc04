// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"os"
	"path/filepath"
	"testing"
)

// A process is systemd's own by the file that it runs, whatever the name of that.
func TestOwn(t *testing.T) {
	dir := t.TempDir()
	system, proc := filepath.Join(dir, "lib"), filepath.Join(dir, "proc")
	file := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	runs := func(pid, path string) {
		if err := os.MkdirAll(filepath.Join(proc, pid), 0o755); err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(proc, pid, "exe"))
		if err := os.Symlink(path, filepath.Join(proc, pid, "exe")); err != nil {
			t.Fatal(err)
		}
	}
	manager, executor, cryptsetup := file("lib/systemd"), file("lib/systemd-executor"), file("lib/systemd-cryptsetup")
	runs("1", manager)
	link := filepath.Join(dir, "hard link")
	if err := os.Link(executor, link); err != nil {
		t.Fatal(err)
	}
	s := System{Proc: proc}
	for _, c := range []struct {
		path string
		kind Kind
		ok   bool
	}{
		{manager, Credential, true}, {executor, Credential, true}, {link, Credential, true}, {cryptsetup, Volume, true},
		{cryptsetup, Credential, false}, {manager, Volume, false}, {executor, Volume, false},
		{file("elsewhere/systemd"), Credential, false}, {file("elsewhere/systemd-executor"), Credential, false},
		{file("elsewhere/systemd-cryptsetup"), Volume, false}, {filepath.Join(dir, "gone"), Credential, false},
	} {
		runs("7", c.path)
		if err := s.Own(7, c.kind); (err == nil) != c.ok {
			t.Errorf("%s for a %s: %v", c.path, c.kind, err)
		}
	}
	if err := s.Own(8, Credential); err == nil {
		t.Error("a process that is not there")
	}
	// An upgrade replaced systemd's files, and process 1 runs the old one.
	runs("7", executor)
	if err := os.Remove(executor); err != nil {
		t.Fatal(err)
	}
	file("lib/systemd-executor.new")
	if err := os.Rename(filepath.Join(system, "systemd-executor.new"), executor); err != nil {
		t.Fatal(err)
	}
	runs("7", link) // the file of before
	if err := s.Own(7, Credential); err == nil {
		t.Error("the program of before the upgrade")
	}
	// Process 1 is something else.
	runs("1", file("lib/init"))
	runs("7", filepath.Join(system, "init"))
	if err := s.Own(7, Credential); err == nil {
		t.Error("process 1 is not systemd")
	}
}
