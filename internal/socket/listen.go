// SPDX-License-Identifier: Apache-2.0

// Package socket makes the unix sockets of programs that run for one user, and takes those that
// systemd opened for a program.
package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/config"
)

// Listen makes the socket at path, with mode 0600. Only root and this process's user may write to
// its folder: another user could put its own socket there. A socket of this user on which no program
// answers is replaced.
func Listen(ctx context.Context, path string) (*net.UnixListener, error) {
	l, err := listen(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

func listen(ctx context.Context, path string) (*net.UnixListener, error) {
	if !filepath.IsAbs(path) {
		return nil, errors.New("the path must be absolute")
	}
	if err := config.CheckDirectory(filepath.Dir(path), os.Geteuid()); err != nil {
		return nil, err
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	// The file of a socket gets the mode that the socket has when it is bound.
	narrow := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }), err)
	}}
	l, err := narrow.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil
}

// removeStale removes a socket that an earlier run left, and nothing else.
func removeStale(ctx context.Context, path string) error {
	at, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if at.Mode().Type() != fs.ModeSocket || at.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
		return errors.New("a file is there that is not a socket of this user: use another path")
	}
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		c.Close()
		return errors.New("another program answers on the socket that is there: stop it first")
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("check whether a program answers on the socket that is there: %w", err)
	}
	return os.Remove(path)
}
