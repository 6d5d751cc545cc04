// SPDX-License-Identifier: Apache-2.0

package servers_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/test/tunnel/servers"
)

// TestServers: nginx and PostgreSQL, curl and psql, all as Debian packages them, over a tunnel for
// each of the two servers.
func TestServers(t *testing.T) {
	b := newBed(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, *bed)
	}{
		{"without a tunnel", withoutTunnel},
		{"by ports", byPorts},
		{"by sockets", bySockets},
		{"PROXY protocol", toldByProxy},
		{"200 at once", many},
		{"the policy refuses", refuses},
		{"kill -9", kills},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, b) })
	}
}

// withoutTunnel: the servers do by themselves what the other tests expect of them over tunnels, and
// nginx refuses connections without a header of the PROXY protocol.
func withoutTunnel(t *testing.T, b *bed) {
	for _, address := range []string{b.nginx.Plain, b.nginx.PlainSocket} {
		if err := b.site(address); err != nil {
			t.Error(err)
		}
	}
	for _, address := range []string{b.nginx.Proxy, b.nginx.ProxySocket} {
		if err := b.site(address); err == nil {
			t.Error("nginx answers without the header")
		}
	}
	for _, address := range []string{b.postgres.Address, b.postgres.Socket} {
		if out, err := b.postgres.Ask(address, "SELECT 6*7"); err != nil || out != "42" {
			t.Errorf("%q, %v", out, err)
		}
	}
	manyOf(t, b, b.nginx.Plain, b.postgres.Address)
}

// both asks both servers at addresses that lead to them, for a little and for much.
func both(t *testing.T, b *bed, http, sql string) {
	t.Helper()
	if err := b.site(http); err != nil {
		t.Error(err)
	}
	large := make([]byte, 32<<20)
	rand.Read(large)
	b.nginx.Serve(t, "large", large)
	if out, err := b.curl(http, "/large"); err != nil || !bytes.Equal(out, large) {
		t.Errorf("another file arrives: %d bytes, %v", len(out), err)
	}
	if out, err := b.postgres.Ask(sql, "SELECT 6*7"); err != nil || out != "42" {
		t.Errorf("%q, %v", out, err)
	}
	// Much in the other direction, too.
	cmd := b.postgres.Psql(sql, "CREATE TEMP TABLE lines(line text)", `\copy lines FROM pstdin`, "SELECT count(*), sum(length(line)) FROM lines")
	line := strings.Repeat("x", 99) + "\n"
	cmd.Stdin = strings.NewReader(strings.Repeat(line, 100_000))
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "100000|9900000") {
		t.Errorf("other lines arrive: %s, %v", out, err)
	}
}

func byPorts(t *testing.T, b *bed) {
	both(t, b, b.Tunnel(t, b.nginx.Plain, servers.Options{}).Connect.Address, b.Tunnel(t, b.postgres.Address, servers.Options{}).Connect.Address)
}

func bySockets(t *testing.T, b *bed) {
	dir := t.TempDir()
	http := b.Tunnel(t, b.nginx.PlainSocket, servers.Options{Listen: filepath.Join(dir, "http.sock")})
	sql := b.Tunnel(t, b.postgres.Socket, servers.Options{Listen: filepath.Join(dir, servers.SocketName(5432))})
	both(t, b, http.Connect.Address, sql.Connect.Address)
}

// toldByProxy: nginx reads the header that a tunnel sends, and logs the client's address and port as the
// access log of the serving end does, which knows them from its own socket.
func toldByProxy(t *testing.T, b *bed) {
	for to, path := range map[string]string{b.nginx.Proxy: "/?by=port", b.nginx.ProxySocket: "/?by=socket"} {
		log := filepath.Join(t.TempDir(), "access.json")
		u := b.Tunnel(t, to, servers.Options{Serve: fmt.Sprintf("proxy_protocol = \"v2\"\naccess_log = %q\n", log)})
		if out, err := b.curl(u.Connect.Address, path); err != nil || string(out) != "the site\n" {
			t.Errorf("%s: nginx answers %q, %v", path, out, err)
			continue
		}
		eventually(t, "both logs have the connection", func() error {
			peers, err := answered(log)
			if err != nil || len(peers) != 1 {
				return fmt.Errorf("the tunnel's has %q, %v", peers, err)
			}
			host, port, err := net.SplitHostPort(peers[0])
			want := host + " " + port + " " + host + " 200 " + path
			if got := b.nginx.Log(t, path); err != nil || len(got) != 1 || got[0] != want {
				return fmt.Errorf("%v: that of nginx has %q, want %q", err, got, want)
			}
			return nil
		})
	}
}

// answered returns the peers of connections that got an answer and ended in order, of an access log of
// a tunnel.
func answered(log string) (peers []string, err error) {
	b, err := os.ReadFile(log)
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(b) {
		var r struct {
			Peer, Result string
			Down         uint64
		}
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, err
		}
		if r.Result == "closed" && r.Down > 0 {
			peers = append(peers, r.Peer)
		}
	}
	return peers, nil
}

// atOnce is how many connections are open at the same time.
const atOnce = 200

func many(t *testing.T, b *bed) {
	manyOf(t, b, b.Tunnel(t, b.nginx.Plain, servers.Options{}).Connect.Address, b.Tunnel(t, b.postgres.Address, servers.Options{}).Connect.Address)
}

// manyOf has many connections to each server open at once.
func manyOf(t *testing.T, b *bed, http, sql string) {
	t.Helper()
	begin := time.Now()
	manyRequests(t, b, http)
	manySessions(t, b, sql)
	t.Logf("%d connections to each server in %v", atOnce, time.Since(begin))
}

// manyRequests begins requests, and ends them when nginx has all of their connections.
func manyRequests(t *testing.T, b *bed, address string) {
	t.Helper()
	var all sync.WaitGroup
	defer all.Wait()
	whole := make(chan struct{})
	for range atOnce {
		all.Go(func() {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(servers.Patience))
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n")
			<-whole
			io.WriteString(c, "Connection: close\r\n\r\n")
			if out, err := io.ReadAll(c); err != nil || !bytes.HasPrefix(out, []byte("HTTP/1.1 200 ")) || !bytes.HasSuffix(out, []byte("the site\n")) {
				t.Errorf("nginx answers %q, %v", out, err)
			}
		})
	}
	defer close(whole)
	eventually(t, "nginx has all connections", func() error {
		out, err := b.curl(b.nginx.Plain, "/status")
		if err != nil {
			return err
		}
		m := regexp.MustCompile(`Active connections: (\d+)`).FindSubmatch(out)
		if m == nil {
			return fmt.Errorf("no number in %q", out)
		}
		if n, err := strconv.Atoi(string(m[1])); err != nil || n < atOnce {
			return fmt.Errorf("%d connections, %v", n, err)
		}
		return nil
	})
}

// manySessions has psql open sessions that wait for a lock, and releases it when all wait.
func manySessions(t *testing.T, b *bed, address string) {
	t.Helper()
	holder := b.open(t, b.postgres.Address)
	defer holder.in.Close()
	if _, err := holder.ask("SELECT pg_advisory_lock(7)"); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	defer all.Wait()
	for i := range atOnce {
		all.Go(func() {
			want := strconv.Itoa(i)
			if out, err := b.postgres.Ask(address, "SELECT pg_advisory_lock_shared(7)", "SELECT "+want); err != nil || strings.TrimSpace(out) != want {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
	defer holder.ask("SELECT pg_advisory_unlock(7)")
	eventually(t, "all sessions wait", func() error {
		out, err := b.postgres.Ask(b.postgres.Address, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
		if err == nil && out != strconv.Itoa(atOnce) {
			err = fmt.Errorf("%s sessions wait", out)
		}
		return err
	})
}

// refuses: a policy that turns to refuse ends new connections, and open ones only if that is
// configured. One that cannot be read changes nothing.
func refuses(t *testing.T, b *bed) {
	http, sql := b.Tunnel(t, b.nginx.Plain, servers.Options{}), b.Tunnel(t, b.postgres.Address, servers.Options{})
	closing := b.Tunnel(t, b.postgres.Address, servers.Options{Connect: "close_open = true\n"})
	all := []*servers.Tunnel{http, sql, closing}
	stays, closes := b.open(t, sql.Connect.Address), b.open(t, closing.Connect.Address)
	for _, s := range []*session{stays, closes} {
		if out, err := s.ask("SELECT 1"); err != nil || out != "1" {
			t.Fatalf("%q, %v", out, err)
		}
	}
	ask := func(u *servers.Tunnel) error {
		if u == http {
			return b.site(u.Connect.Address)
		}
		_, err := b.postgres.Ask(u.Connect.Address, "SELECT 1")
		return err
	}
	follow := func(policy func(*servers.Tunnel) []byte) {
		for _, u := range all {
			u.Write(t, policy(u))
			u.Connect.Signal(t, syscall.SIGHUP)
		}
	}

	follow(func(u *servers.Tunnel) []byte {
		return bytes.ReplaceAll(u.Accepts, []byte(servers.Unit), []byte("other.service"))
	})
	for _, u := range all {
		eventually(t, "new connections are refused", func() error {
			if ask(u) == nil {
				return errors.New("a new connection is accepted")
			}
			return nil
		})
	}
	closes.ends(t)
	if out, err := stays.ask("SELECT 2"); err != nil || out != "2" {
		t.Errorf("an open connection was closed, and that is not configured: %q, %v", out, err)
	}

	follow(func(u *servers.Tunnel) []byte { return u.Accepts })
	for _, u := range all {
		eventually(t, "new connections are accepted again", func() error { return ask(u) })
	}
	follow(func(u *servers.Tunnel) []byte { return []byte("version = 1\nno policy\n") })
	for _, u := range all {
		eventually(t, "the end says that it keeps its policy", func() error {
			if !strings.Contains(u.Connect.Output(), u.Policy) {
				return fmt.Errorf("it says %s", u.Connect.Output())
			}
			return nil
		})
		if err := ask(u); err != nil {
			t.Errorf("after a policy that cannot be read: %v", err)
		}
	}
	if out, err := stays.ask("SELECT 3"); err != nil || out != "3" {
		t.Errorf("%q, %v", out, err)
	}
}

// client keeps asking, and counts.
type client struct{ answered, failed atomic.Int64 }

// kills: each end is killed while clients keep asking. They go on when it runs again. A session that
// is open ends at once, and nothing that PostgreSQL confirmed is lost.
func kills(t *testing.T, b *bed) {
	http, sql := b.Tunnel(t, b.nginx.Plain, servers.Options{}), b.Tunnel(t, b.postgres.Address, servers.Options{})
	if _, err := b.postgres.Ask(b.postgres.Address, "CREATE TABLE kept(n bigint PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	var curls, psqls client
	stop := make(chan struct{})
	var all sync.WaitGroup
	keep := func(c *client, ask func() error) {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if ask() == nil {
					c.answered.Add(1)
				} else {
					c.failed.Add(1)
				}
			}
		})
	}
	keep(&curls, func() error { return b.site(http.Connect.Address) })
	keep(&psqls, func() error {
		_, err := b.postgres.Ask(sql.Connect.Address, fmt.Sprintf("INSERT INTO kept VALUES (%d) ON CONFLICT DO NOTHING", psqls.answered.Load()))
		return err
	})
	more := func(what string, n *atomic.Int64) {
		before := n.Load()
		eventually(t, what, func() error {
			if now := n.Load(); now < before+3 {
				return fmt.Errorf("%d more", now-before)
			}
			return nil
		})
	}
	for range 3 {
		for _, u := range []*servers.Tunnel{http, sql} {
			c := &curls
			if u == sql {
				c = &psqls
			}
			for _, e := range []*servers.End{u.Serve, u.Connect} {
				more("clients are answered", &c.answered)
				var open *session
				if u == sql {
					open = b.open(t, sql.Connect.Address)
					if _, err := open.ask("SELECT 1"); err != nil {
						t.Fatal(err)
					}
				}
				e.Kill()
				if open != nil {
					open.ends(t)
				}
				more("clients notice", &c.failed)
				e.Start(t)
			}
		}
	}
	more("curl is answered again", &curls.answered)
	more("psql is answered again", &psqls.answered)
	// curl retries by itself, too.
	http.Serve.Kill()
	retried := make(chan error, 1)
	go func() {
		_, err := b.curl(http.Connect.Address, "/", "--retry", "100", "--retry-all-errors", "--retry-delay", "1")
		retried <- err
	}()
	more("curl notices", &curls.failed)
	http.Serve.Start(t)
	if err := <-retried; err != nil {
		t.Error(err)
	}
	close(stop)
	all.Wait()
	t.Logf("curl: %d answered, %d failed; psql: %d and %d", curls.answered.Load(), curls.failed.Load(), psqls.answered.Load(), psqls.failed.Load())
	want := fmt.Sprintf("%d|%d", psqls.answered.Load(), psqls.answered.Load()-1)
	if out, err := b.postgres.Ask(b.postgres.Address, fmt.Sprintf("SELECT count(*), max(n) FROM kept WHERE n < %d", psqls.answered.Load())); err != nil || out != want {
		t.Errorf("PostgreSQL has %q, confirmed %s, %v", out, want, err)
	}
}
