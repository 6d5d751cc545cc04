// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Places for large evidence: how many exchanges may read and judge more than maxMessage at once, in
// all and from one address. So peers that are not known yet make this end keep at most as many
// documents of its MaxEvidence, each a few times while it is decoded, and one of them leaves places to
// the others.
const (
	maxLarge        = 16
	maxLargeOfOne   = 4
	largePatience   = 2 * time.Second // for a place, besides what the size takes
	largeLeastSpeed = 256 << 10       // bytes in a second; an end that is slower gives its place up
)

// errSlow is why an exchange ended whose end sent large evidence too slowly.
var errSlow = errors.New("evidence comes too slowly")

// places are the turns of exchanges that read large evidence.
type places struct {
	mu    sync.Mutex // guards the three below
	taken int
	of    map[netip.Prefix]int // by address
	freed chan struct{}        // closed when one is given back
}

func newPlaces() *places { return &places{of: map[netip.Prefix]int{}, freed: make(chan struct{})} }

// take waits for a place for an end at an address, or returns the cause of the end of ctx.
func (p *places) take(ctx context.Context, a netip.Prefix) error {
	for {
		p.mu.Lock()
		freed := p.freed
		if p.taken < maxLarge && (!a.IsValid() || p.of[a] < maxLargeOfOne) {
			p.taken++
			p.of[a]++
			p.mu.Unlock()
			return nil
		}
		p.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// give gives a place back.
func (p *places) give(a netip.Prefix) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	if p.of[a]--; p.of[a] == 0 {
		delete(p.of, a)
	}
	close(p.freed)
	p.freed = make(chan struct{})
}

// origin returns what one party is taken to have of addresses: one of IPv4, or 64 bits of IPv6. It is
// not valid for ends without an address of IP, which share places without a limit of their own.
func origin(a net.Addr) netip.Prefix {
	t, _ := a.(*net.TCPAddr) // nil has an address that is not valid
	ip := t.AddrPort().Addr().Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	out, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return out
}

// largeTime returns how long an end may take to send so many bytes.
func largeTime(size int) time.Duration {
	return largePatience + time.Duration(size)*time.Second/largeLeastSpeed
}
