// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/agent"
)

// made are the names that identify the folder of a machine: what every start makes, and what
// a person may have put there before the first one.
var made = []string{"agentd.sock", "apps.d", "config.toml", "platform"}

// prepare makes the folder of a machine, or refuses one that is something else: machines
// are switched on by people who mistype paths, some of them as root. It returns the
// folder without symbolic links.
func prepare(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	var at unix.Stat_t
	if err := unix.Stat(dir, &at); err != nil {
		return "", fmt.Errorf("stat %s: %w", dir, err)
	}
	switch {
	case int(at.Uid) != os.Geteuid():
		return "", fmt.Errorf("folder %s belongs to uid %d, and this is uid %d: name one of your own", dir, at.Uid, os.Geteuid())
	case at.Mode&0o022 != 0:
		return "", fmt.Errorf("folder %s has mode %04o: other users could plant files there: run chmod go-w on it, or name another", dir, at.Mode&0o7777)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	known := slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return slices.Contains(made, e.Name()) })
	if len(entries) > 0 && !known {
		return "", fmt.Errorf("folder %s contains %q and nothing of a simulated machine: name a new folder, or an empty one", dir, entries[0].Name())
	}
	for _, sub := range []string{"apps.d", "certs", "log", "state"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// forget removes the measurement log, as a boot does, and nothing else that may be there.
func forget(folder string) error {
	for _, name := range []string{agent.LogFile, agent.LogFile + ".new"} {
		if err := os.Remove(filepath.Join(folder, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// maxSocketPath is the room in struct sockaddr_un, less the zero byte at its end: unix(7).
const maxSocketPath = 107

// checkSockets refuses paths that no socket can have.
func checkSockets(paths ...string) error {
	for _, p := range paths {
		if len(p) > maxSocketPath {
			return fmt.Errorf("socket %s: the path has %d bytes, and can have %d: name a folder with a shorter path", p, len(p), maxSocketPath)
		}
	}
	return nil
}

// checkTPM refuses what is not an address of a TPM.
func checkTPM(address string) error {
	path, isUnix := strings.CutPrefix(address, "unix:")
	number, isFD := strings.CutPrefix(address, "fd:")
	switch {
	case address == "", isUnix && path != "", isFD && number != "", filepath.IsAbs(address):
		return nil
	}
	return fmt.Errorf("--tpm %q: want unix:/path, /dev/tpmrm0 or fd:N", address)
}
