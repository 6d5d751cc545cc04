// SPDX-License-Identifier: Apache-2.0

package hangfs

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrImpossible is returned if this process cannot mount.
var ErrImpossible = errors.New("mounting takes root and /dev/fuse")

// ownNamespace marks a process that has a mount namespace of its own.
const ownNamespace = "AGENTD_TEST_MOUNT_NAMESPACE"

// noNamespace in its place marks one whose mounts might reach other processes.
const noNamespace = "none"

// OwnNamespace begins the program again in a mount namespace of its own, which ends with it and
// its children. Without root it does nothing. It is for the first line of TestMain.
func OwnNamespace() error {
	if os.Geteuid() != 0 || os.Getenv(ownNamespace) != "" {
		return nil
	}
	runtime.LockOSThread() // until the program begins again, or for good
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil // in a container: tests that mount skip
	}
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if errors.Is(err, unix.EINVAL) { // the root is not a mount, as after chroot(2)
		return os.Setenv(ownNamespace, noNamespace)
	}
	if err != nil {
		return fmt.Errorf("keep mounts to this process: %w", err)
	}
	return syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), ownNamespace+"=1"))
}

// An FS is a mounted file system.
type FS struct {
	Path string // of its root

	dev *os.File
	end chan struct{} // closed when nothing is served any more

	mu     sync.Mutex // guards all below
	silent map[Op]bool
	held   []request // that were read and have no answer
}

// Mount mounts a new file system at the folder path. The error is [ErrImpossible] if this
// process must not. This process must not use the file system: what waits for an answer of its
// own process could never be given up.
func Mount(path string) (*FS, error) {
	if os.Getenv(ownNamespace) == noNamespace {
		return nil, fmt.Errorf("%w, and a root that is a mount", ErrImpossible)
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrImpossible, err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("hangfs", path, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("%w: mount %s: %w", ErrImpossible, path, err)
	}
	// Before the mount the device would be in error, which the runtime remembers.
	f := &FS{Path: path, dev: os.NewFile(uintptr(fd), "/dev/fuse"), end: make(chan struct{}), silent: make(map[Op]bool)}
	go func() {
		defer close(f.end)
		f.serve()
	}()
	return f, nil
}

// Hang makes it silent: requests of these kinds are read, and get no answer.
func (f *FS) Hang(ops ...Op) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, op := range ops {
		f.silent[op] = true
	}
}

// Held returns how many requests of a kind were read and have no answer. Their callers cannot be
// killed.
func (f *FS) Held(op Op) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.held {
		if r.Op == op {
			n++
		}
	}
	return n
}

// Answer has it answer everything again, what it held first.
func (f *FS) Answer() {
	f.mu.Lock()
	held := f.held
	f.held = nil
	clear(f.silent)
	f.mu.Unlock()
	for _, r := range held {
		f.answer(r)
	}
}

// Close ends the file system. Who waits gets an error, and no path leads to it any more.
func (f *FS) Close() error {
	err := f.dev.Close() // the only descriptor: the kernel gives the connection up
	<-f.end
	if gone := unix.Unmount(f.Path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); gone != nil {
		err = errors.Join(err, fmt.Errorf("unmount %s: %w", f.Path, gone))
	}
	return err
}
