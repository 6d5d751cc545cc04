// SPDX-License-Identifier: Apache-2.0

// Package oci reads what the engines of containers hand to their runtimes: the bundle with its
// config.json, and the state that hooks get on standard input. Both are specified by the Open
// Container Initiative (runtime-spec 1.0 to 1.2, config.md and runtime.md). It also adds one hook
// to a configuration, and changes nothing else of it.
//
// # Two readers, one meaning
//
// A runtime and this package must understand a configuration alike. runc takes the last of two
// members of one name, and takes "Process" for "process"; crun does neither. So a configuration
// with a member twice, or with a member that differs from a known one only in case, is refused.
//
// # Limits
//
// All sizes are capped. The file and its folder must belong to root, and no other user may be able
// to write them.
package oci

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// Caps on what is read.
const (
	MaxConfig = 1 << 20 // bytes of a config.json; engines write about 50 KiB
	MaxState  = 1 << 20 // bytes of a state, which repeats the annotations
	MaxID     = 1024    // bytes of the id of a container
	MaxPath   = 4096    // bytes of a path
	maxList   = 4096    // elements of each list of a configuration
)

// Times of the measurement of a container. Each who waits is more patient than the next, and so has
// the answer of that one and not an error of its own.
const (
	HookTimeout  = 22 * time.Minute // that a runtime waits for the hook
	HookPatience = 21 * time.Minute // that the hook waits for the agent
)

// ConfigName is the name of the configuration in its bundle.
const ConfigName = "config.json"

// A Bundle is the folder of a container, opened, with its configuration as it was read.
type Bundle struct {
	Dir    *os.File
	Config []byte
	Mode   os.FileMode // of the configuration
}

// Close closes the folder.
func (b *Bundle) Close() error { return b.Dir.Close() }

// OpenBundle opens the bundle at an absolute path below the open folder root, and reads its
// configuration. Links are followed as if root were the root of the file system.
func OpenBundle(root *os.File, path string) (*Bundle, error) {
	if !strings.HasPrefix(path, "/") || len(path) > MaxPath || strings.ContainsRune(path, 0) {
		return nil, fmt.Errorf("bundle: want an absolute path of at most %d bytes", MaxPath)
	}
	dir, err := In(root, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("open bundle: %w", err)
	}
	b := &Bundle{Dir: dir}
	if err := b.read(); err != nil {
		dir.Close()
		return nil, fmt.Errorf("%s of the bundle: %w", ConfigName, err)
	}
	return b, nil
}

// In opens a path below the open folder root, as if that were the root of the file system. Links
// of the kernel, as in /proc, are not followed.
func In(root *os.File, path string, flags int) (*os.File, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for range 16 { // EAGAIN: a rename or mount elsewhere came in between (openat2(2))
		fd, err := unix.Openat2(int(root.Fd()), path, &how)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		return os.NewFile(uintptr(fd), path), nil
	}
	return nil, &os.PathError{Op: "open", Path: path, Err: unix.EAGAIN}
}

func (b *Bundle) read() (err error) {
	if err := owned(b.Dir, "the folder"); err != nil {
		return err
	}
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY
	fd, err := unix.Openat(int(b.Dir.Fd()), ConfigName, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	b.Config, b.Mode, err = readOwned(os.NewFile(uintptr(fd), ConfigName), MaxConfig)
	return err
}

// ReadOwned returns the content of a regular file below the open folder root, of at most limit
// bytes, if it belongs to root and no other user can write it. See [In].
func ReadOwned(root *os.File, path string, limit int64) ([]byte, error) {
	f, err := In(root, path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	b, _, err := readOwned(f, limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}

// readOwned reads f, and closes it.
func readOwned(f *os.File, limit int64) ([]byte, os.FileMode, error) {
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, errors.New("not a regular file")
	}
	if err := owned(f, "the file"); err != nil {
		return nil, 0, err
	}
	b, err := durable.ReadAll(f, limit)
	return b, info.Mode().Perm(), err
}

// owned refuses what another user than root, or than the user of this process, owns or can write.
func owned(f *os.File, what string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	switch {
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to uid %d, and not to root", what, st.Uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%s has mode %04o, so that other users can write it", what, st.Mode&0o7777)
	}
	return nil
}
