// SPDX-License-Identifier: Apache-2.0

package sshagent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// transfer is how long a message may take from its first byte to its last.
const transfer = 10 * time.Second

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
