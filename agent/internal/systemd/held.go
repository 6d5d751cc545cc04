// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// heldName begins the names of connections in systemd's descriptor store.
const heldName = "connection-"

// MostHeld is how many connections can be in the store at once.
const MostHeld = 128

// Hold has systemd keep a connection open until release is called, also if this process is killed.
// The other end sees no end of the connection before that, except for one by CloseWrite. The next
// process of the service finds it in [Passed.Interrupted]. It is [ErrNoStore] without a service
// manager. systemd does not answer: it ignores a service that has no store.
func Hold(c *net.UnixConn) (release func(), err error) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil, ErrNoStore
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	name := heldName + rand.Text()
	var sent error
	if err = raw.Control(func(fd uintptr) { sent = send("FDSTORE=1\nFDNAME="+name, unix.UnixRights(int(fd))) }); err == nil {
		err = sent
	}
	if err != nil {
		return nil, fmt.Errorf("have systemd hold a connection: %w", err)
	}
	return func() { _ = forget(name) }, nil // if it fails, systemd sees the end of the connection
}

// forget has systemd close its descriptors of that name.
func forget(name string) error { return send("FDSTOREREMOVE=1\nFDNAME="+name, nil) }

// isHeld reports whether a descriptor of that name was kept by Hold.
func isHeld(name string) bool { return strings.HasPrefix(name, heldName) }

// Interrupted returns the connections that the process before held when it ended. The caller
// closes each, after what release is for. What is not a connection is closed.
func (p Passed) Interrupted() (open []*net.UnixConn, release func(), errs error) {
	var names []string
	for _, f := range p.held {
		names = append(names, f.Name())
		c, err := net.FileConn(f)
		f.Close()
		u, ok := c.(*net.UnixConn)
		switch {
		case err != nil:
			errs = errors.Join(errs, fmt.Errorf("take over %s: %w", f.Name(), err))
		case !ok:
			errs = errors.Join(errs, fmt.Errorf("take over %s: it is not a unix socket", f.Name()), c.Close())
		default:
			open = append(open, u)
		}
	}
	return open, func() {
		for _, name := range names {
			_ = forget(name)
		}
	}, errs
}
