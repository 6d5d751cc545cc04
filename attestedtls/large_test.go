// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestPlaces: one address cannot take all places for large evidence, and an end that waits gets one
// that is given back. Case 129.
func TestPlaces(t *testing.T) {
	ended, end := context.WithCancelCause(t.Context())
	end(context.DeadlineExceeded)
	p := newPlaces()
	from := func(text string) netip.Prefix {
		return origin(net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(text), 7)))
	}
	take := func(a netip.Prefix, want bool) {
		t.Helper()
		if err := p.take(ended, a); (err == nil) != want || err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v takes a place: %v, want %v; %d are taken", a, err, want, p.taken)
		}
	}
	for range maxLargeOfOne {
		take(from("192.0.2.1"), true)
		take(from("2001:db8::1"), true)
	}
	for _, same := range []string{"192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8::1%eth0"} {
		take(from(same), false)
	}
	take(from("192.0.2.2"), true)
	take(from("2001:db8:0:1::1"), true)
	for p.taken < maxLarge {
		take(origin(&net.UnixAddr{}), true)
	}
	take(origin(&net.UnixAddr{}), false)
	take(from("192.0.2.3"), false)
	got := make(chan error, 1)
	go func() { got <- p.take(t.Context(), from("192.0.2.3")) }()
	p.give(from("192.0.2.1"))
	if err := waitFor(t, got); err != nil {
		t.Error(err)
	}
	for range maxLargeOfOne - 1 {
		p.give(from("192.0.2.1"))
	}
	if _, kept := p.of[from("192.0.2.1")]; kept || p.of[from("192.0.2.3")] != 1 {
		t.Errorf("places by address: %v", p.of)
	}
}

// TestSlowEvidence: an end that sends large evidence too slowly loses its place, and one that gets
// no place in time is told so. Case 129.
func TestSlowEvidence(t *testing.T) {
	t.Parallel()
	if got := largeTime(1 << 20); got != 6*time.Second {
		t.Errorf("a document of 1 MiB may take %v", got)
	}
	announced := append(binary.BigEndian.AppendUint32(nil, 2*maxMessage), bytes.Repeat([]byte(" "), maxMessage+1)...)
	slow := func(p *puppet) {
		if err := p.shake().receive(new(hello)); err != nil {
			t.Error(err)
		}
		p.send(&hello{Type: kindHello}, announced)
		p.told(CodeTimeout)
	}
	c, _ := honest(t, nil)
	err := toClient(t, c, slow)
	has(t, err, CodeTimeout, false)
	if !errors.Is(err, errSlow) || c.Verifier.large.taken != 0 {
		t.Errorf("%v, and %d places are taken", err, c.Verifier.large.taken)
	}

	for range maxLarge {
		if err := c.Verifier.large.take(t.Context(), netip.Prefix{}); err != nil {
			t.Fatal(err)
		}
	}
	a, b := wire(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Conn(a, "server.example").Handshake(ctx) }()
	p := puppetServer(t, b)
	if err := p.shake().receive(new(hello)); err != nil {
		t.Error(err)
	}
	p.send(&hello{Type: kindHello}, announced)
	cancel(context.DeadlineExceeded) // as the timer would
	p.told(CodeTimeout)
	has(t, waitFor(t, done), CodeTimeout, false)
}
