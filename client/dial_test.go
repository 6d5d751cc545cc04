// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// full returns a socket whose queue has no room, and accepts one connection when told to.
func full(t *testing.T) (path string, accept func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 64 {
		c, err := net.Dial("unix", path)
		if errors.Is(err, unix.EAGAIN) {
			return path, func() {
				n, _, err := unix.Accept(fd)
				if err != nil {
					t.Error(err)
					return
				}
				unix.Close(n)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the queue of the socket never was full")
	return "", nil
}

// A full queue is waited for.
func TestDialWaitsForRoom(t *testing.T) {
	path, accept := full(t)
	time.AfterFunc(20*time.Millisecond, accept)
	c, err := dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// One that stays full is waited for as long as the caller allows, and the error says why.
func TestDialGivesUp(t *testing.T) {
	path, _ := full(t)
	synctest.Test(t, func(t *testing.T) { // no time passes before the first attempt
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := dial(ctx, path); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("error %v, want EAGAIN", err)
		}
	})
}
