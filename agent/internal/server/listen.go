// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// A Listener is a unix socket that the agent made, or was handed by its parent.
type Listener struct {
	*net.UnixListener
	path      string
	inherited bool
	lock      *os.File // held while the socket is ours
	made      inode    // what was bound
	once      sync.Once
}

type inode struct{ dev, ino uint64 }

// Listen makes the socket at path with mode and, where group is not -1, that group.
//
// Who can put something else at path could answer in the agent's name, or have it
// change what a link points to. So the directory must belong to root or to the agent
// and nobody else may write to it; what lies at path must be absent or a socket of the
// agent's own user that nobody answers on, and is removed only under a lock that a
// running agent holds. The socket never has more permissions than mode, whatever the
// umask, and takes no connection before it has its group.
func Listen(path string, mode fs.FileMode, group int) (*Listener, error) {
	l, err := listen(path, mode, group)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

func listen(path string, mode fs.FileMode, group int) (*Listener, error) {
	if !filepath.IsAbs(path) {
		return nil, errors.New("the path must be absolute")
	}
	if err := checkDirectory(filepath.Dir(path)); err != nil {
		return nil, err
	}
	lock, err := takeLock(path + ".lock")
	if err != nil {
		return nil, err
	}
	l := &Listener{path: path, lock: lock}
	if err := removeStale(path); err != nil {
		lock.Close()
		return nil, err
	}
	if err := l.bind(mode, group); err != nil {
		return nil, errors.Join(err, l.unlink(), lock.Close())
	}
	return l, nil
}

func checkDirectory(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("look at directory %s: %w", dir, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%s is no directory, or a symbolic link to one: name the directory itself", dir)
	case st.Uid != 0 && st.Uid != uint32(os.Geteuid()):
		return fmt.Errorf("directory %s belongs to uid %d, want root or uid %d", dir, st.Uid, os.Geteuid())
	case st.Mode&0o022 != 0:
		return fmt.Errorf("directory %s has mode %#o: others could plant a socket there; run chmod go-w on it", dir, st.Mode&0o7777)
	}
	return nil
}

// takeLock locks a file beside the socket. The file stays when the agent ends: removing
// a lock file lets two holders lock two files of one name.
func takeLock(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another agent holds %s: stop it first", path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// removeStale makes way at path, or says what is in it.
func removeStale(path string) error {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at what is there: %w", err)
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return errors.New("a symbolic link is there, which the agent did not make: find out who did, then remove it")
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return fmt.Errorf("a file of type %#o is there, want nothing or a socket", st.Mode&unix.S_IFMT)
	case st.Uid != uint32(os.Geteuid()):
		return fmt.Errorf("a socket of uid %d is there, want nothing or one of uid %d: find out who made it", st.Uid, os.Geteuid())
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return errors.New("somebody answers on the socket that is there already")
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("see whether anybody answers on the socket that is there: %w", err)
	}
	if err := unix.Unlink(path); err != nil {
		return fmt.Errorf("remove the socket that an earlier run left: %w", err)
	}
	return nil
}

func (l *Listener) bind(mode fs.FileMode, group int) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("make socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), l.path)
	defer f.Close()
	// Linux gives the file of a socket the mode of the socket, less the umask, so that
	// there is no moment in which it is open to all.
	if err := unix.Fchmod(fd, 0o600); err != nil {
		return fmt.Errorf("narrow mode: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: l.path}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(l.path, &st); err != nil {
		return fmt.Errorf("look at the socket: %w", err)
	}
	l.made = inode{uint64(st.Dev), st.Ino}
	if group >= 0 {
		if err := unix.Lchown(l.path, -1, group); err != nil {
			return fmt.Errorf("give it to group %d: %w", group, err)
		}
	}
	if err := unix.Chmod(l.path, uint32(mode.Perm())); err != nil {
		return fmt.Errorf("set mode %#o: %w", mode.Perm(), err)
	}
	// The kernel cuts this at net.core.somaxconn.
	if err := unix.Listen(fd, 4096); err != nil {
		return err
	}
	return l.adopt(f)
}

func (l *Listener) adopt(f *os.File) error {
	inner, err := net.FileListener(f)
	if err != nil {
		return err
	}
	u, ok := inner.(*net.UnixListener)
	if !ok {
		inner.Close()
		return fmt.Errorf("it is a socket of network %s, want unix", inner.Addr().Network())
	}
	u.SetUnlinkOnClose(false)
	l.UnixListener = u
	return nil
}

// Inherit takes over a listening socket that the parent made (sd_listen_fds(3)). It
// must be a unix stream socket with a path: an abstract one can be reached from
// containers. One whose file grants more than mode is refused. f is closed.
func Inherit(f *os.File, mode fs.FileMode) (*Listener, error) {
	defer f.Close()
	l, err := inherit(f, mode)
	if err != nil {
		return nil, fmt.Errorf("take over inherited socket %s: %w", f.Name(), err)
	}
	return l, nil
}

func inherit(f *os.File, mode fs.FileMode) (*Listener, error) {
	fd := int(f.Fd())
	for _, want := range []struct {
		option, value int
		what          string
	}{
		{unix.SO_DOMAIN, unix.AF_UNIX, "a unix socket"},
		{unix.SO_TYPE, unix.SOCK_STREAM, "a stream socket"},
		{unix.SO_ACCEPTCONN, 1, "listening"},
	} {
		got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, want.option)
		if err != nil {
			return nil, fmt.Errorf("look at it: %w", err)
		}
		if got != want.value {
			return nil, fmt.Errorf("it is not %s", want.what)
		}
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		return nil, fmt.Errorf("read its path: %w", err)
	}
	u, ok := addr.(*unix.SockaddrUnix)
	if !ok || !filepath.IsAbs(u.Name) {
		return nil, errors.New("it has no absolute path: abstract sockets can be reached from other namespaces")
	}
	var st unix.Stat_t
	if err := unix.Lstat(u.Name, &st); err != nil {
		return nil, fmt.Errorf("look at %s: %w", u.Name, err)
	}
	if extra := st.Mode & 0o777 &^ uint32(mode.Perm()); extra != 0 {
		return nil, fmt.Errorf("%s has mode %#o, want at most %#o: set SocketMode= in the socket unit", u.Name, st.Mode&0o777, mode.Perm())
	}
	l := &Listener{path: u.Name, inherited: true}
	return l, l.adopt(f)
}

// Path is where clients find the socket.
func (l *Listener) Path() string { return l.path }

// Close closes the socket; one that the agent made also loses its name.
func (l *Listener) Close() error {
	err := l.UnixListener.Close()
	l.once.Do(func() {
		if !l.inherited {
			err = errors.Join(err, l.unlink(), l.lock.Close())
		}
	})
	return err
}

// unlink takes the name away, unless something else has it by now.
func (l *Listener) unlink() error {
	var st unix.Stat_t
	if l.made == (inode{}) || unix.Lstat(l.path, &st) != nil || l.made != (inode{uint64(st.Dev), st.Ino}) {
		return nil
	}
	return unix.Unlink(l.path)
}

// waiting reports whether connections wait to be accepted.
func (l *Listener) waiting() bool {
	n := 0
	raw, err := l.SyscallConn()
	if err != nil {
		return false
	}
	raw.Control(func(fd uintptr) {
		n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	})
	return n > 0
}
