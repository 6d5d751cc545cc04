// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// agentUser is the user that the packages make for the agent.
const agentUser = "agentd"

// AgentUID returns the user that the agent with this configuration runs as, as far as its files
// tell another process: the owner of the state folder. Before that exists, it is the user of the
// packages if root asks, and else the one who asks.
func (c *Config) AgentUID() int {
	var st unix.Stat_t
	if err := unix.Stat(c.State.Folder, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return int(st.Uid)
	}
	if os.Geteuid() == 0 {
		if u, err := user.Lookup(agentUser); err == nil {
			if uid, err := strconv.Atoi(u.Uid); err == nil {
				return uid
			}
		}
	}
	return os.Geteuid()
}

// CheckMachine reports what of this machine keeps an agent with this configuration, running as
// uid, from starting. The start, `agentd --check` and `agentctl doctor` all call it. It looks at
// nothing that can change by itself: a device may come, and an agent that has the sockets may end.
func (c *Config) CheckMachine(uid int) error {
	var errs []error
	if _, err := LookupGroup(c.Sockets.ClientGroup); err != nil {
		errs = append(errs, err)
	}
	for _, path := range []string{c.Sockets.Client, c.Sockets.Admin, c.Sockets.CredentialsPath(), c.Sockets.GatePath()} {
		if err := CheckPlace(path, uid); err != nil {
			errs = append(errs, fmt.Errorf("socket %s: %w", path, err))
		}
	}
	return errors.Join(append(errs, c.twoFolders())...)
}

// twoFolders refuses a state folder and a log folder that are one under two names. Each has a lock
// and files of its own.
func (c *Config) twoFolders() error {
	state, err := os.Stat(c.State.Folder)
	if err != nil {
		return nil
	}
	log, err := os.Stat(c.Measurement.LogFolder)
	if err != nil || !os.SameFile(state, log) {
		return nil
	}
	return fmt.Errorf("state folder %s and log folder %s are the same folder: name two", c.State.Folder, c.Measurement.LogFolder)
}

// LookupGroup returns the number of the group that gets the client socket, -1 if name is
// empty.
func LookupGroup(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("group of the client socket: %w: create it, or set sockets.client_group", err)
	}
	return strconv.Atoi(g.Gid)
}

// CheckPlace refuses a path at which an agent that runs as uid cannot make a socket, whichever user
// asks: other users can write to its folder, or something else than a socket is there. If the
// folder is missing, the agent makes it in the folder above.
func CheckPlace(path string, uid int) error {
	dir := filepath.Dir(path)
	err := CheckDirectory(dir, uid)
	if errors.Is(err, fs.ErrNotExist) {
		return CheckDirectory(filepath.Dir(dir), uid)
	}
	if err != nil {
		return err
	}
	for _, at := range []struct {
		path string
		want uint32
		what string
	}{{path, unix.S_IFSOCK, "a socket"}, {LockOf(path), unix.S_IFREG, "an empty file"}} {
		var st unix.Stat_t
		if err := unix.Lstat(at.path, &st); err == nil && st.Mode&unix.S_IFMT != at.want {
			return fmt.Errorf("a %s is there, at %s, want nothing or %s: find out which program made it, then remove it", kindOf(st.Mode), at.path, at.what)
		}
	}
	return nil
}

// kindOf names the type of a file.
func kindOf(mode uint32) string {
	for kind, name := range map[uint32]string{unix.S_IFLNK: "symbolic link", unix.S_IFDIR: "directory", unix.S_IFREG: "regular file", unix.S_IFIFO: "FIFO", unix.S_IFSOCK: "socket"} {
		if mode&unix.S_IFMT == kind {
			return name
		}
	}
	return "device"
}

// CheckDirectory refuses a folder in which a user other than root and uid could replace a socket.
func CheckDirectory(dir string, uid int) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("check directory %s: %w", dir, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%s is not a directory: name the directory itself, not a symbolic link", dir)
	case st.Uid != 0 && st.Uid != uint32(uid):
		return fmt.Errorf("directory %s belongs to uid %d, want root or uid %d", dir, st.Uid, uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("directory %s has mode %#o: other users could plant a socket there; run chmod go-w on it", dir, st.Mode&0o7777)
	}
	return nil
}
