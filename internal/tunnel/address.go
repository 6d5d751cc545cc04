// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/internal/socket"
)

// An Address is what an end listens on, or connects to.
type Address struct {
	Network string // "tcp" or "unix"
	Name    string // HOST:PORT, or the absolute path of a unix socket
}

// maxUnixPath is the longest path of a unix socket (sun_path of unix(7)).
const maxUnixPath = 107

// ParseAddress reads HOST:PORT, or unix:PATH with an absolute path. The port is a number. Only an
// address to listen on may leave the host out, which is all addresses of this machine, or have port
// 0, which is one that is free.
func ParseAddress(s string, listen bool) (Address, error) {
	if path, is := strings.CutPrefix(s, "unix:"); is {
		switch {
		case !filepath.IsAbs(path) || strings.ContainsRune(path, 0): // @NAME is abstract: any local user can have it first
			return Address{}, fmt.Errorf("%q: want unix: and an absolute path", s)
		case len(path) > maxUnixPath:
			return Address{}, fmt.Errorf("%.40q...: the path has %d bytes, and a unix socket at most %d", s, len(path), maxUnixPath)
		}
		return Address{"unix", path}, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return Address{}, fmt.Errorf("%q: want HOST:PORT or unix:PATH", s)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil:
		return Address{}, fmt.Errorf("%q: the port is not a number of at most 65535", s)
	case n == 0 && !listen:
		return Address{}, fmt.Errorf("%q: want a port to connect to", s)
	case host == "" && !listen:
		return Address{}, fmt.Errorf("%q: want a host to connect to", s)
	case strings.ContainsAny(host, " \t\r\n/\x00") || len(host) > 255:
		return Address{}, fmt.Errorf("%.300q: that is not a host", s)
	}
	return Address{"tcp", net.JoinHostPort(host, port)}, nil
}

// String returns what ParseAddress reads.
func (a Address) String() string {
	if a.Network == "unix" {
		return "unix:" + a.Name
	}
	return a.Name
}

// Host returns the host of an address of TCP.
func (a Address) Host() string {
	host, _, _ := net.SplitHostPort(a.Name)
	return host
}

// Local reports whether what goes to the address surely stays on this machine.
func (a Address) Local() bool {
	if a.Network == "unix" || a.Host() == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(a.Host())
	return err == nil && ip.Unmap().IsLoopback()
}

// Listen listens on an address. A unix socket has mode 0600, and only root and this process's user
// may be able to write to its folder.
func (a Address) Listen(ctx context.Context) (net.Listener, error) {
	if a.Network == "unix" {
		return socket.Listen(ctx, a.Name)
	}
	return new(net.ListenConfig).Listen(ctx, a.Network, a.Name)
}

// address returns an address of a connection as a person reads it.
func address(a net.Addr) string {
	if a == nil {
		return ""
	}
	if u, is := a.(*net.UnixAddr); is {
		return "unix:" + u.Name // that of a client is empty
	}
	return a.String()
}

// party returns what connections are counted for one: an address of IPv4, or the first 64 bits of
// one of IPv6, since a host can have all of these. It is the zero prefix for other peers.
func party(a net.Addr) netip.Prefix {
	t, is := a.(*net.TCPAddr)
	if !is {
		return netip.Prefix{}
	}
	ip := t.AddrPort().Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// errNoListener is returned if an end has nothing to listen on.
var errNoListener = errors.New("no socket to listen on")
