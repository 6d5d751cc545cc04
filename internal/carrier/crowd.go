// SPDX-License-Identifier: Apache-2.0

package carrier

import (
	"net"
	"net/netip"
	"sync"
)

// A crowd counts who is there, and lets only so many in.
type crowd struct {
	most, mostEach int // in all, and of one name

	mu  sync.Mutex // guards the two below
	all int
	of  map[string]int
}

// enter lets one of that name in, unless it is too full. Leave is to be called once.
func (c *crowd) enter(name string) (leave func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= c.most || c.of[name] >= c.mostEach {
		return nil, false
	}
	if c.of == nil {
		c.of = make(map[string]int)
	}
	c.all++
	c.of[name]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.all--
		if c.of[name]--; c.of[name] == 0 {
			delete(c.of, name)
		}
	}, true
}

// origin names the party at an address: an IPv4 address, or an IPv6 network of 64 bits, of which a
// party usually has all addresses.
func origin(a net.Addr) string {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.Network()
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}
