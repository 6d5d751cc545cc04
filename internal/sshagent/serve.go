// SPDX-License-Identifier: Apache-2.0

package sshagent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/config"
)

// transfer is how long a message may take from its first byte to its last.
const transfer = 10 * time.Second

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

// Serve answers on l until ctx ends. Then it closes l and all connections, and returns nil once
// they have ended.
func (a *Agent) Serve(ctx context.Context, l *net.UnixListener) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer l.Close() // and wait until the socket's file is removed
	defer context.AfterFunc(ctx, func() { l.Close() })()
	places := make(chan struct{}, maxConnections)
	for {
		c, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ECONNABORTED):
			a.log(err.Error())
			pause(ctx)
			continue
		case err != nil:
			return err
		}
		select {
		case places <- struct{}{}:
			running.Go(func() {
				defer func() { <-places }()
				a.serve(ctx, c)
			})
		default:
			a.log(fmt.Sprintf("a connection was refused: %d are open", maxConnections))
			c.Close()
		}
	}
}

// pause waits a moment for what a process lacks.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(100 * time.Millisecond):
	}
}

// serve answers on one connection.
func (a *Agent) serve(ctx context.Context, c *net.UnixConn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := checkPeer(c); err != nil {
		a.log(err.Error())
		return
	}
	for {
		message, err := receive(c)
		if err == nil {
			err = send(c, a.answer(ctx, message))
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				a.log("a connection ended: " + err.Error())
			}
			return
		}
	}
}

// checkPeer refuses a process of another user, which gets here only if root passed the socket on.
func checkPeer(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) { peer, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if asked != nil {
		return asked
	}
	if uid := int(peer.Uid); uid != 0 && uid != os.Geteuid() {
		return fmt.Errorf("a process of uid %d asked, want uid %d or root", uid, os.Geteuid())
	}
	return nil
}

// receive reads one message. It waits for its first byte as long as the peer likes, and makes
// room only for a length that is allowed.
func receive(c *net.UnixConn) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c, head[:1]); err != nil {
		return nil, err
	}
	if err := c.SetReadDeadline(time.Now().Add(transfer)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(c, head[1:]); err != nil {
		return nil, fmt.Errorf("read the length of a message: %w", unexpected(err))
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 1 || n > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes is announced, want 1 to %d", n, maxMessage)
	}
	message := make([]byte, n)
	if _, err := io.ReadFull(c, message); err != nil {
		return nil, fmt.Errorf("read a message: %w", unexpected(err))
	}
	return message, c.SetReadDeadline(time.Time{})
}

// unexpected returns err for a message that was begun.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func send(c *net.UnixConn, message []byte) error {
	if err := c.SetWriteDeadline(time.Now().Add(transfer)); err != nil {
		return err
	}
	_, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...))
	return err
}
