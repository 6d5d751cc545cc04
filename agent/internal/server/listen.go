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

	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/durable"
)

// A Listener is a unix socket that the agent made, or inherited from its parent.
type Listener struct {
	*net.UnixListener
	path      string
	inherited bool
	unlock    func() // gives up the lock of the path
	made      inode  // inode that was bound
	once      sync.Once
}

type inode struct{ dev, ino uint64 }

// Listen makes the socket at path with mode and, if group is not -1, with that group.
//
// An attacker who can put something else at path could answer instead of the agent, or make
// it change the target of a link. So the directory must belong to root or to the agent, and
// no other user may write to it. At path there must be nothing, or a socket of the agent's
// own user on which no program answers. It is removed only under a lock, which a running
// agent holds. The socket never has more permissions than mode, whatever the umask, and
// accepts no connection before it has its group.
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
	if err := config.CheckPlace(path, os.Geteuid()); err != nil {
		return nil, err
	}
	if err := makeDirectory(filepath.Dir(path)); err != nil {
		return nil, err
	}
	unlock, err := durable.LockFile(config.LockOf(path))
	if err != nil {
		return nil, err
	}
	l := &Listener{path: path, unlock: unlock}
	if err := removeStale(path); err != nil {
		unlock()
		return nil, err
	}
	if err := l.bind(mode, group); err != nil {
		defer unlock()
		return nil, errors.Join(err, l.unlink())
	}
	return l, nil
}

// makeDirectory makes the folder of a socket, if it is missing. Callers of all users must get
// through, whatever the umask; DirectoryMode= of the packaged sockets is the same.
func makeDirectory(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the folder of the socket: %w", err)
	}
	return config.CheckDirectory(dir, os.Geteuid())
}

// removeStale removes an unused socket at path, or says what is there.
func removeStale(path string) error {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("check what is there: %w", err)
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return errors.New("a symbolic link is there, which the agent did not make: find out which program made it, then remove it")
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return fmt.Errorf("a file of type %#o is there, want nothing or a socket", st.Mode&unix.S_IFMT)
	case st.Uid != uint32(os.Geteuid()):
		return fmt.Errorf("a socket of uid %d is there, want nothing or one of uid %d: find out which program made it", st.Uid, os.Geteuid())
	}
	answers, err := answered(path)
	if err != nil {
		return fmt.Errorf("check whether a program answers on the socket that is there: %w", err)
	}
	if answers {
		return errors.New("another program answers on the socket that is there: stop it first")
	}
	if err := unix.Unlink(path); err != nil {
		return fmt.Errorf("remove the socket that an earlier run left: %w", err)
	}
	return nil
}

// answered reports whether a program may answer on the socket at path. The kernel accepts
// connections for a process that was killed and cannot end, too.
func answered(path string) (bool, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: path})
	if errors.Is(err, unix.ECONNREFUSED) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return false, err
	}
	var of *unix.Ucred // which process made the socket
	var asked error
	if err := raw.Control(func(fd uintptr) { of, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return false, err
	}
	if asked != nil {
		return false, asked
	}
	return !durable.Ended(int(of.Pid)), nil
}

func (l *Listener) bind(mode fs.FileMode, group int) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("make socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), l.path)
	defer f.Close()
	// Linux gives the file of a socket the mode of the socket, less the umask. So it is
	// never open to all.
	if err := unix.Fchmod(fd, 0o600); err != nil {
		return fmt.Errorf("narrow mode: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: l.path}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(l.path, &st); err != nil {
		return fmt.Errorf("check the socket: %w", err)
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
	// The kernel limits this to net.core.somaxconn.
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
// containers. The path must be the configured one, in a folder that only root or the agent
// writes to. It refuses a socket whose file grants more than mode, or belongs to another user
// than root or the agent's own. It closes f.
func Inherit(f *os.File, path string, mode fs.FileMode) (*Listener, error) {
	defer f.Close()
	l, err := inherit(f, path, mode)
	if err != nil {
		return nil, fmt.Errorf("take over inherited socket %s: %w", f.Name(), err)
	}
	return l, nil
}

func inherit(f *os.File, path string, mode fs.FileMode) (*Listener, error) {
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
			return nil, fmt.Errorf("check it: %w", err)
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
	if u.Name != path {
		return nil, fmt.Errorf("its path is %s, and the configuration says %s: make ListenStream= of the socket unit and the configuration the same", u.Name, path)
	}
	if err := config.CheckDirectory(filepath.Dir(path), os.Geteuid()); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(u.Name, &st); err != nil {
		return nil, fmt.Errorf("check %s: %w", u.Name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK || st.Uid != 0 && st.Uid != uint32(os.Geteuid()) {
		return nil, fmt.Errorf("%s has type %#o and belongs to uid %d, want a socket of root or uid %d", u.Name, st.Mode&unix.S_IFMT, st.Uid, os.Geteuid())
	}
	if extra := st.Mode & 0o777 &^ uint32(mode.Perm()); extra != 0 {
		return nil, fmt.Errorf("%s has mode %#o, want at most %#o: set SocketMode= in the socket unit", u.Name, st.Mode&0o777, mode.Perm())
	}
	l := &Listener{path: u.Name, inherited: true}
	return l, l.adopt(f)
}

// Path returns the path of the socket.
func (l *Listener) Path() string { return l.path }

// Close closes the socket, and removes its name if the agent made it.
func (l *Listener) Close() error {
	err := l.UnixListener.Close()
	l.once.Do(func() {
		if !l.inherited {
			err = errors.Join(err, l.unlink())
			l.unlock()
		}
	})
	return err
}

// unlink removes the name, unless something else has it by now.
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
