// SPDX-License-Identifier: Apache-2.0

// Package share counts what each client of a service takes: requests a second, and requests at the same
// time.
package share

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits are those of one client, and of all together.
type Limits struct {
	Rate, Burst  int // requests a second, and at once, of one client
	ClientAtOnce int // long requests at the same time, of one client
	AtOnce       int // and of all
}

// maxClients is how many clients are remembered, twice: those of now and those of before. A client that
// is forgotten begins anew.
const maxClients = 1 << 16

// Shares are those of all clients. Many goroutines may use it.
type Shares struct {
	limits Limits

	mu     sync.Mutex
	all    int               // long requests; with mu
	now    map[string]*share // with mu
	before map[string]*share // with mu
}

// share is that of one client.
type share struct {
	rate   *rate.Limiter
	atOnce int // with mu of Shares
}

// New returns the shares of no client.
func New(l Limits) *Shares { return &Shares{limits: l, now: map[string]*share{}} }

// of returns the share of a client. To forget the client that came longest ago exactly would take a list
// under the same lock; two generations do as well, with half as many remembered at the worst.
func (s *Shares) of(client string) *share {
	if x := s.now[client]; x != nil {
		return x
	}
	x := s.before[client]
	if x == nil {
		x = &share{rate: rate.NewLimiter(rate.Limit(s.limits.Rate), s.limits.Burst)}
	}
	if len(s.now) >= maxClients {
		s.now, s.before = map[string]*share{}, s.now
	}
	s.now[client] = x
	return x
}

// Request reports whether a client may make a request now.
func (s *Shares) Request(client string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of(client).rate.AllowN(now, 1)
}

// Begin counts a long request. It returns what ends it, nil if the client, or all together, have as many
// as they may.
func (s *Shares) Begin(client string) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.of(client)
	if s.all >= s.limits.AtOnce || x.atOnce >= s.limits.ClientAtOnce {
		return nil
	}
	s.all++
	x.atOnce++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		x.atOnce--
	})
}

// Busy returns how many long requests there are.
func (s *Shares) Busy() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

// Client returns the name under which a client is counted: that of its certificate's key if it has one,
// otherwise its address. Of IPv6 it is the network of 64 bits, since one client has all of it. What a
// proxy that is trusted says about the address counts, read from the end: a client can write the
// beginning of X-Forwarded-For, and not what proxies add to it.
func Client(r *http.Request, proxies []netip.Prefix) string {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return "key " + string(r.TLS.VerifiedChains[0][0].RawSubjectPublicKeyInfo)
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "unknown"
	}
	trusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	a := from.Addr().Unmap().WithZone("")
	said := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(said) - 1; i >= 0 && trusted(a); i-- {
		next, err := netip.ParseAddr(strings.TrimSpace(said[i]))
		if err != nil {
			break
		}
		a = next.Unmap().WithZone("")
	}
	if a.Is6() {
		p, err := a.Prefix(64)
		if err == nil {
			return p.String()
		}
	}
	return a.String()
}
