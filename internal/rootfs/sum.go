// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/pcr"
)

// engineFolders are folders over which engines mount, and engineFiles are files that they make or
// mount over. Images and mounted roots differ in them.
var (
	engineFolders = []string{"/dev", "/proc", "/sys"}
	engineFiles   = []string{"/.dockerenv", "/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf", "/run/.containerenv"}
	mtabTargets   = []string{"/proc/mounts", "/proc/self/mounts", "../proc/mounts", "../proc/self/mounts"}
)

func isEngineFolder(path string) bool { return slices.Contains(engineFolders, path) }

// OfEngine reports whether a path is one of those that engines make themselves.
func OfEngine(p string) bool {
	if slices.Contains(engineFiles, p) {
		return true
	}
	return slices.ContainsFunc(engineFolders, func(f string) bool { return p == f || strings.HasPrefix(p, f+"/") })
}

// A Sum computes the digest of a root file system, of files in the order of their paths.
type Sum struct {
	mounted func(string) bool
	hash    *pcr.ManifestHash
	root    pcr.ContainerRoot
}

// NewSum returns a Sum without files. Mounted is as in [Options].
func NewSum(mounted func(path string) bool) *Sum {
	return &Sum{mounted: mounted, hash: pcr.NewManifestHash()}
}

// LeavesOut reports whether a file does not count. Target is that of a link. Of a file, mode and
// size must be known, but not its digest.
func (s *Sum) LeavesOut(e *pcr.ManifestEntry, target string) bool {
	empty := e.Mode&unix.S_IFMT == unix.S_IFREG && e.Size == 0
	if !OfEngine(e.Path) {
		return empty && s.mounted(e.Path)
	}
	for p := e.Path; p != "/"; p = path.Dir(p) {
		if s.mounted(p) {
			return true
		}
	}
	return empty || e.Mode&unix.S_IFMT == unix.S_IFLNK && e.Path == "/etc/mtab" && slices.Contains(mtabTargets, target)
}

// Add adds a file, unless it is left out.
func (s *Sum) Add(e *pcr.ManifestEntry, target string) error {
	if s.LeavesOut(e, target) {
		return nil
	}
	if s.root.Files == MaxFiles {
		return fmt.Errorf("%q: more than %d files", e.Path, MaxFiles)
	}
	if e.Size > MaxBytes || s.root.Bytes+e.Size > MaxBytes {
		return fmt.Errorf("%q: more than %d bytes in all files", e.Path, uint64(MaxBytes))
	}
	s.root.Files++
	s.root.Bytes += e.Size
	s.hash.Add(e)
	return nil
}

// Root returns digest, files and bytes of the files so far.
func (s *Sum) Root() pcr.ContainerRoot {
	root := s.root
	root.Digest = s.hash.Digest()
	return root
}
