// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/api"
)

// running reports whether an agent has the admin socket. While the agent is stopped, systemd has
// it, and a connection would start the agent: so running makes none.
func (s *sockets) running() bool {
	path := cmp.Or(s.admin, os.Getenv(api.AdminEnv), api.AdminSocket)
	inodes := listening(path)
	if len(inodes) == 0 {
		return false
	}
	agent, systemd, hidden := holders(inodes)
	if agent || systemd || !hidden {
		return agent
	}
	// An agent hides its descriptors from its own user. Another user's socket is not looked at:
	// it may be systemd's.
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Uid == uint32(os.Geteuid())
}

// listening returns the inodes of sockets that were bound to a path and take connections.
func listening(path string) map[string]bool {
	names := []string{path}
	if whole, err := filepath.Abs(path); err == nil && whole != path {
		path, names = whole, append(names, whole)
	}
	if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
		names = append(names, real)
	}
	b, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return nil
	}
	inodes := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		for _, name := range names {
			// Num RefCount Protocol Flags Type St Inode Path: proc_pid_net(5)
			before, ends := strings.CutSuffix(line, " "+name+"\n")
			f := strings.Fields(before)
			if !ends || len(f) != 7 {
				continue
			}
			if flags, err := strconv.ParseUint(f[3], 16, 32); err == nil && flags&acceptsConnections != 0 {
				inodes["socket:["+f[6]+"]"] = true
			}
		}
	}
	return inodes
}

// acceptsConnections is __SO_ACCEPTCON of the kernel.
const acceptsConnections = 1 << 16

// holders reports whether systemd has one of the sockets, whether another process has, and whether
// there are processes whose descriptors this one may not see.
func holders(inodes map[string]bool) (other, systemd, hidden bool) {
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		entries, err := os.ReadDir(p + "/fd")
		hidden = hidden || os.IsPermission(err)
		for _, e := range entries {
			if at, err := os.Readlink(p + "/fd/" + e.Name()); err != nil || !inodes[at] {
				continue
			}
			if comm, _ := os.ReadFile(p + "/comm"); strings.HasPrefix(string(comm), "systemd") {
				systemd = true
			} else {
				other = true
			}
		}
	}
	return other, systemd, hidden
}
