// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// shareBurst is how many requests a client of these tests may send at once. Then it is one a second.
const shareBurst = 20

// statuses sends as many requests as a share has at once, and returns how many were answered with a
// status. The header names the client's address.
func (w *worker) statuses(status int, c *http.Client, forwarded string) (n int) {
	w.t.Helper()
	for range shareBurst {
		r, err := http.NewRequest("GET", w.url+"/v1/jwks", nil)
		if err != nil {
			w.t.Fatal(err)
		}
		r.Header.Set("X-Forwarded-For", forwarded)
		answer, err := c.Do(r)
		if err != nil {
			w.t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode == status {
			n++
		}
	}
	return n
}

// oneShare reports whether a client has one share, whatever address its requests name. On a machine that
// is so slow that a share fills up meanwhile, it tries again with addresses that were not used.
func (w *worker) oneShare(c *http.Client) bool {
	w.t.Helper()
	for i := range 5 {
		w.statuses(429, c, "192.0.2.1")
		w.statuses(429, c, "192.0.2.1")
		if w.statuses(200, c, fmt.Sprintf("198.51.100.%d", i)) < shareBurst {
			return true
		}
	}
	return false
}

// TestClientsWithCertificates: with an authority of clients, others do not come in, and each certificate
// has a share of its own, whatever address the client names.
func TestClientsWithCertificates(t *testing.T) {
	b := newBed(t, false)
	b.extra = fmt.Sprintf("client_ca = %q\ntrusted_proxies = [\"127.0.0.1\"]", b.path("ca.crt"))
	b.limits = fmt.Sprintf("rate = 1\nburst = %d\n", shareBurst)
	one, two, stranger := b.ca.issue(t, "one"), b.ca.issue(t, "two"), newAuthority(t).issue(t, "one")
	b.own = &one
	w := b.start("one")
	for name, c := range map[string]*http.Client{"no certificate": b.clientWith(nil), "a stranger's": b.clientWith(&stranger)} {
		if code, err := ask(c, "GET", w.url+"/v1/jwks", nil, nil); err == nil {
			t.Errorf("%s: %d", name, code)
		}
	}
	if !w.oneShare(w.client) {
		t.Error("a client got another share with another address")
	}
	if n := w.statuses(200, b.clientWith(&two), "192.0.2.2"); n != shareBurst {
		t.Error("two certificates have one share")
	}
	if code, err := ask(b.alice(), "GET", w.admin+"/admin/v1/head", nil, nil); err != nil || code != 200 {
		t.Errorf("an administrator: %d, %v", code, err)
	}
}

// TestAuthoritiesTurn: a certificate of an authority that was taken away does not count any more, also on
// a connection that was there before.
func TestAuthoritiesTurn(t *testing.T) {
	b := newBed(t, false)
	b.extra = fmt.Sprintf("client_ca = %q", b.path("ca.crt"))
	own := b.ca.issue(t, "one")
	b.own = &own
	w, alice, next := b.start("one"), b.alice(), newAuthority(t)
	want := func(what string, c, administrator *http.Client, code int) {
		t.Helper()
		eventually(t, func() error {
			var a answer
			if got, err := ask(c, "GET", w.url+"/v1/jwks", nil, &a); err != nil || got != code || code == 403 && a.Code != "not-permitted" {
				return fmt.Errorf("%s, a client: %d, %w, %s", what, got, err, a.Code)
			}
			if got, err := ask(administrator, "GET", w.admin+"/admin/v1/head", nil, &a); err != nil || got != code || code == 403 && a.Code != "not-permitted" {
				return fmt.Errorf("%s, an administrator: %d, %w, %s", what, got, err, a.Code)
			}
			return nil
		})
	}
	want("at first", w.client, alice, 200)
	first, err := net.Dial("tcp", strings.TrimPrefix(w.url, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	config := w.client.Transport.(*http.Transport).TLSClientConfig.Clone()
	config.ServerName, config.NextProtos = "127.0.0.1", nil
	kept := tls.Client(first, config) // which is not closed meanwhile
	if err := kept.Handshake(); err != nil {
		t.Fatal(err)
	}
	b.write("ca.crt", encode("CERTIFICATE", next.root.Raw))
	w.Process.Signal(t, syscall.SIGHUP)
	newOwn, newAlice := next.issue(t, "one"), next.issue(t, "alice")
	want("of the next authority", b.clientWith(&newOwn), b.clientWith(&newAlice), 200)
	if code, err := ask(alice, "GET", w.admin+"/admin/v1/head", nil, nil); code == 200 {
		t.Errorf("an administrator of the authority before: %d, %v", code, err)
	}
	fmt.Fprint(kept, "GET /v1/jwks HTTP/1.1\r\nHost: verifier\r\n\r\n")
	if r, err := http.ReadResponse(bufio.NewReader(kept), nil); err != nil || r.StatusCode != 403 {
		t.Errorf("a client of the authority before: %v, %v", r, err)
	}
	want("still", b.clientWith(&newOwn), b.clientWith(&newAlice), 200)
}

// TestForwarded: the address that a load balancer names has the share, if the load balancer is trusted.
func TestForwarded(t *testing.T) {
	for _, trusted := range []bool{true, false} {
		b := newBed(t, false)
		if trusted {
			b.extra = "trusted_proxies = [\"127.0.0.0/8\"]"
		}
		b.limits = fmt.Sprintf("rate = 1\nburst = %d\n", shareBurst)
		w := b.start("one")
		if trusted {
			w.statuses(200, w.client, "192.0.2.1")
			if n := w.statuses(200, w.client, "192.0.2.2"); n != shareBurst {
				t.Errorf("another address that the load balancer names: %d requests were answered", n)
			}
		} else if !w.oneShare(w.client) {
			t.Error("a client got another share with another address")
		}
	}
}

// TestConnections: one more connection than the limit waits until another one ends.
func TestConnections(t *testing.T) {
	b := newBed(t, false)
	b.limits = "connections = 1\n"
	w := b.start("one")
	get := func(c *http.Client) error {
		_, err := ask(c, "GET", w.url+"/healthz", nil, nil)
		return err
	}
	second := make(chan error, 1)
	go func() { second <- get(b.clientWith(nil)) }()
	for range 50 {
		if err := get(w.client); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-second:
		t.Errorf("a second connection was served: %v", err)
		return
	default:
	}
	w.client.CloseIdleConnections()
	if err := <-second; err != nil {
		t.Error(err)
	}
}
