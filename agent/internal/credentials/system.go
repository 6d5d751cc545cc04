// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// System knows systemd's own programs by their files.
type System struct{ Proc string } // "/proc" if empty

// programs are the names of the programs that ask, in the folder of systemd's manager: before
// version 255 the manager itself, in a child process.
var programs = map[Kind][]string{
	Credential: {"", "systemd-executor"},
	Volume:     {"systemd-cryptsetup"},
}

// elsewhere are further folders of the programs of a kind. Only root writes to them.
var elsewhere = map[Kind][]string{Volume: {"/usr/bin"}}

// Own reports why a process is not the program of systemd that asks for k. It compares files, by
// device and inode, and not names. The program of a unit is another file: so a process that is
// systemd's own has not become that program yet.
func (s System) Own(pid int, k Kind) error {
	proc := s.Proc
	if proc == "" {
		proc = "/proc"
	}
	of := func(pid int) string { return filepath.Join(proc, strconv.Itoa(pid), "exe") }
	manager, err := os.Readlink(of(1))
	if err != nil {
		return fmt.Errorf("find the program of process 1: %w", err)
	}
	if filepath.Base(manager) != "systemd" {
		return fmt.Errorf("process 1 runs %s, and not systemd", manager)
	}
	var seen unix.Stat_t
	if err := unix.Stat(of(pid), &seen); err != nil {
		return fmt.Errorf("look at the program of process %d: %w", pid, err)
	}
	for _, own := range candidates(of(1), filepath.Dir(manager), k) {
		var st unix.Stat_t
		if err := unix.Stat(own, &st); errors.Is(err, unix.ENOENT) {
			continue
		} else if err != nil {
			return fmt.Errorf("look at systemd's program: %w", err)
		}
		if st.Dev == seen.Dev && st.Ino == seen.Ino {
			return nil
		}
	}
	name, err := os.Readlink(of(pid))
	if err != nil {
		name = "a program that the agent cannot see"
	}
	return fmt.Errorf("process %d runs %q, which is not systemd's own program for this", pid, name)
}

// candidates returns the paths at which systemd's programs for k can be.
func candidates(manager, folder string, k Kind) (paths []string) {
	for _, name := range programs[k] {
		if name == "" {
			paths = append(paths, manager)
			continue
		}
		for _, dir := range append([]string{folder}, elsewhere[k]...) {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	return paths
}
