// SPDX-License-Identifier: Apache-2.0

package share

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	s, now := New(Limits{Rate: 2, Burst: 3, ClientAtOnce: 1, AtOnce: 1}), time.Unix(1, 0)
	take := func(client string) (n int) {
		for s.Request(client, now) {
			n++
		}
		return n
	}
	if n := take("a"); n != 3 {
		t.Errorf("at once: %d", n)
	}
	if n := take("b"); n != 3 {
		t.Errorf("another client: %d", n)
	}
	now = now.Add(time.Second)
	if n := take("a"); n != 2 {
		t.Errorf("a second later: %d", n)
	}
}

// TestManyClients: many clients take no more memory than the limit, and one that still comes is not
// forgotten for them.
func TestManyClients(t *testing.T) {
	s, now := New(Limits{Rate: 1, Burst: 1}), time.Unix(1, 0)
	s.Request("a", now)
	for i := range 3 * maxClients {
		s.Request(fmt.Sprint(i), now)
		if i%1000 == 0 && s.Request("a", now) {
			t.Fatal("a client was forgotten")
		}
		if n := len(s.now) + len(s.before); n > 2*maxClients {
			t.Fatalf("%d clients are remembered", n)
		}
	}
}

func TestAtOnce(t *testing.T) {
	s := New(Limits{Rate: 1, Burst: 1, ClientAtOnce: 2, AtOnce: 3})
	one, two := s.Begin("a"), s.Begin("a")
	if one == nil || two == nil || s.Begin("a") != nil {
		t.Error("of one client")
	}
	three := s.Begin("b")
	if three == nil || s.Begin("c") != nil || s.Busy() != 3 {
		t.Error("of all")
	}
	one()
	one() // once
	if s.Busy() != 2 || s.Begin("c") == nil || s.Begin("a") != nil {
		t.Error("after one ended")
	}
}

func TestClient(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		from string
		said []string
		want string
	}{
		{"192.0.2.1:5", nil, "192.0.2.1"},
		{"[::ffff:192.0.2.1]:5", nil, "192.0.2.1"},
		{"[2001:db8:1:2:3::4]:5", nil, "2001:db8:1:2::/64"},
		{"192.0.2.1:5", []string{"198.51.100.7"}, "192.0.2.1"}, // not a proxy of ours
		{"10.0.0.1:5", []string{"198.51.100.7"}, "198.51.100.7"},
		{"10.0.0.1:5", []string{"203.0.113.9, 198.51.100.7"}, "198.51.100.7"}, // the client wrote the first
		{"10.0.0.1:5", []string{"203.0.113.9", "198.51.100.7, 10.9.9.9"}, "198.51.100.7"},
		{"10.0.0.1:5", []string{"198.51.100.7, what"}, "10.0.0.1"},
		{"10.0.0.1:5", []string{"10.0.0.3"}, "10.0.0.3"},
		{"10.0.0.1:5", nil, "10.0.0.1"},
		{"[fd00::1]:5", []string{"2001:db8::1%eth0"}, "2001:db8::/64"},
		{"@", nil, "unknown"},
	} {
		r := &http.Request{RemoteAddr: c.from, Header: http.Header{"X-Forwarded-For": c.said}}
		if got := Client(r, proxies); got != c.want {
			t.Errorf("%s, %q: %q, want %q", c.from, c.said, got, c.want)
		}
	}
	r := &http.Request{RemoteAddr: "10.0.0.1:5", Header: http.Header{"X-Forwarded-For": {"198.51.100.7"}}, TLS: &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{RawSubjectPublicKeyInfo: []byte("k")}}}}}
	if got := Client(r, proxies); got != "key k" {
		t.Errorf("with a certificate: %q", got)
	}
}
