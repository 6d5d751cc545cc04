// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// both starts both ends for a service.
func both(t *testing.T, s net.Listener) (inside, outside *running) {
	t.Helper()
	inside = start(t, serves(t, s.Addr()))
	return inside, start(t, connects(t, inside.address))
}

// TestEndsPassThrough: bytes pass both ways, and so does the end of each direction alone: a service
// answers after the program has ended its side, and a program can send after the service has.
func TestEndsPassThrough(t *testing.T) {
	t.Parallel()
	late := make(chan []byte, 1)
	l := service(t, func(c net.Conn) {
		all, err := io.ReadAll(c)
		if err != nil {
			t.Error(err)
		}
		c.Write(all)
	})
	_, outside := both(t, l)
	c := dialed(t, outside.address)
	sent := make([]byte, 3<<20)
	rand.Read(sent)
	if _, err := c.Write(sent); err != nil {
		t.Fatal(err)
	}
	c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d came back, %v", len(got), len(sent), err)
	}
	first := service(t, func(c net.Conn) {
		io.WriteString(c, "first")
		c.(*net.TCPConn).CloseWrite()
		all, _ := io.ReadAll(c)
		late <- all
	})
	_, outside = both(t, first)
	c = dialed(t, outside.address)
	if got, err := io.ReadAll(c); err != nil || string(got) != "first" {
		t.Errorf("%q, %v", got, err)
	}
	io.WriteString(c, "later")
	c.CloseWrite()
	if got := <-late; string(got) != "later" {
		t.Errorf("the service got %q", got)
	}
}

// TestRefusedIsReset: a program whose machine is refused sees a reset, and the service never hears of
// it. Both ends say why.
func TestRefusedIsReset(t *testing.T) {
	t.Parallel()
	var heard atomic.Int64
	l := service(t, func(net.Conn) { heard.Add(1) })
	inside := start(t, serves(t, l.Addr()))
	s := connects(t, inside.address)
	s.Policy = policyFor(t, otherUnit)
	outside := start(t, s)
	c := dialed(t, outside.address)
	io.WriteString(c, "a secret")
	wasReset(t, "a refused machine", c)
	outside.says("refused: attested TLS: policy: ")
	inside.says("refused: attested TLS: the other end refused (policy)")
	if n := heard.Load(); n > 0 {
		t.Errorf("the service was connected to %d times", n)
	}
}

// TestServiceIsDown: what cannot be connected to is a reset for the program, and a line.
func TestServiceIsDown(t *testing.T) {
	t.Parallel()
	l := service(t, echo)
	l.Close()
	inside, outside := both(t, l)
	resets(t, "without a service", outside.address)
	inside.says("unreachable")
	again, err := net.Listen("tcp", l.Addr().String())
	if err != nil {
		t.Skip("another process has the port now:", err)
	}
	defer again.Close()
	go func() {
		if c, err := again.Accept(); err == nil {
			echo(c)
		}
	}()
	if err := exchange(dialed(t, outside.address)); err != nil {
		t.Errorf("when the service is back: %v", err)
	}
}

// TestCutIsNotAnEnd: an attacker in the network who ends a connection below TLS does not make either
// program believe that it has all.
func TestCutIsNotAnEnd(t *testing.T) {
	t.Parallel()
	got := make(chan error, 1)
	l := service(t, func(c net.Conn) {
		io.WriteString(c, "half of ")
		_, err := io.Copy(io.Discard, c)
		got <- err
	})
	inside := start(t, serves(t, l.Addr()))
	var network [2]*net.TCPConn
	ready := make(chan bool)
	attacker := service(t, func(c net.Conn) {
		on := dialed(t, inside.address)
		network = [2]*net.TCPConn{c.(*net.TCPConn), on}
		close(ready)
		go io.Copy(on, c)
		io.Copy(c, on)
	})
	outside := start(t, connects(t, attacker.Addr().String()))
	c := dialed(t, outside.address)
	b := make([]byte, len("half of "))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	<-ready
	for _, x := range network {
		x.CloseWrite() // an end of TCP, without that of TLS
	}
	wasReset(t, "the program", c)
	if err := <-got; err == nil {
		t.Error("the service saw an end")
	}
}

// TestLimits: one connection more than may be open is reset, of one address or in all.
func TestLimits(t *testing.T) {
	t.Parallel()
	for _, limit := range []string{"max-connections)", "max-connections-per-address"} {
		inside := start(t, serves(t, service(t, echo).Addr()))
		s := connects(t, inside.address)
		if s.Limits.PerAddress = 3; limit == "max-connections)" {
			s.Limits.Connections, s.Limits.PerAddress = 3, 100
		}
		outside := start(t, s)
		var open []*net.TCPConn
		for range 3 {
			c := dialed(t, outside.address)
			if err := exchange(c); err != nil {
				t.Fatal(err)
			}
			open = append(open, c)
		}
		resets(t, limit, outside.address)
		outside.says(limit)
		open[0].Close()
		eventually(t, "room for another", func() bool {
			c, err := dialTo(outside.address)
			if err != nil {
				return false // reset before the handshake of TCP was over
			}
			defer c.Close()
			return exchange(c) == nil
		})
	}
}

// TestIdle: a connection on which nothing passes is cut off, and one on which something passes stays
// longer than that.
func TestIdle(t *testing.T) {
	t.Parallel()
	inside := start(t, serves(t, service(t, echo).Addr()))
	s := connects(t, inside.address)
	s.Limits.Idle = 500 * time.Millisecond
	outside := start(t, s)
	c := dialed(t, outside.address)
	for began := time.Now(); time.Since(began) < 2*s.Limits.Idle; time.Sleep(s.Limits.Idle / 50) {
		if err := exchange(c); err != nil {
			t.Fatal(err)
		}
	}
	wasReset(t, "an idle connection", c)
}

// TestReload: new settings are for new connections. Bad ones, and those that need a restart, change
// nothing. A connection that is open stays.
func TestReload(t *testing.T) {
	t.Parallel()
	first, second := service(t, echo), service(t, func(c net.Conn) { io.WriteString(c, "second") })
	inside, outside := both(t, first)
	open := dialed(t, outside.address)
	works := func(when string) {
		t.Helper()
		if err := exchange(open); err != nil {
			t.Errorf("%s, the open connection: %v", when, err)
		}
		if err := exchange(dialed(t, outside.address)); err != nil {
			t.Errorf("%s, a new connection: %v", when, err)
		}
	}
	works("at first")
	for name, change := range map[string]func(*Settings){
		"a caller that is not named": func(s *Settings) { s.Policy = policyFor(t, itsUnit); s.Policy.Caller.Unit = "" },
		"no policy":                  func(s *Settings) { s.Policy = nil },
		"another audience":           func(s *Settings) { s.Verifier.Audience = "other" },
		"judging open connections":   func(s *Settings) { s.Verifier.JudgeOpen = true },
		"continuing evidence":        func(s *Settings) { s.Verifier.Continue = time.Minute },
		"a limit of nothing":         func(s *Settings) { s.Limits.Connections = 0 },
		"warn for any machine":       func(s *Settings) { s.Warn = true },
	} {
		before := outside.settings
		outside.reload(change, nil)
		outside.says("the settings of before stay in force")
		works("after " + name)
		outside.settings = before
	}
	outside.reload(nil, errors.New("the file is not a policy"))
	outside.says("reload: the file is not a policy: the settings of before stay in force")
	works("after a bad file")
	inside.reload(func(s *Settings) { s.To = Address{"tcp", second.Addr().String()} }, nil)
	if got, err := io.ReadAll(dialed(t, outside.address)); err != nil || string(got) != "second" {
		t.Errorf("the new service: %q, %v", got, err)
	}
	if err := exchange(open); err != nil {
		t.Errorf("the open connection to the old service: %v", err)
	}
	outside.reload(func(s *Settings) { s.Policy = policyFor(t, otherUnit) }, nil)
	resets(t, "a new connection under a policy that refuses", outside.address)
	if err := exchange(open); err != nil {
		t.Errorf("the open connection under a policy that refuses: %v", err)
	}
}

// TestCloseOpen: a policy that turns to refuse closes open connections, if that is asked for.
func TestCloseOpen(t *testing.T) {
	t.Parallel()
	inside := start(t, serves(t, service(t, echo).Addr()))
	s := connects(t, inside.address)
	s.Verifier.JudgeOpen = true
	outside := start(t, s)
	open := dialed(t, outside.address)
	if err := exchange(open); err != nil {
		t.Fatal(err)
	}
	outside.reload(func(s *Settings) { s.Policy = policyFor(t, otherUnit) }, nil)
	outside.says("the new policy refuses 1 open connection")
	wasReset(t, "the open connection", open)
	outside.says("withdrawn: attested TLS: policy")
}

// TestPolicyExpires: when a policy expires while the tunnel runs, new connections are refused, and open
// ones end only if that was asked for. A reload brings another policy.
func TestPolicyExpires(t *testing.T) {
	t.Parallel()
	inside := start(t, serves(t, service(t, echo).Addr()))
	for _, closes := range []bool{false, true} {
		var late atomic.Bool
		s := connects(t, inside.address)
		s.Expires, s.Verifier.JudgeOpen = evidencetest.Time.Add(time.Second), closes
		s.Verifier.Now = func() time.Time {
			if late.Load() {
				return evidencetest.Time.Add(time.Second)
			}
			return evidencetest.Time
		}
		outside := start(t, s)
		open := dialed(t, outside.address)
		if err := exchange(open); err != nil {
			t.Fatal(err)
		}
		late.Store(true)
		resets(t, "a new connection once the policy expired", outside.address)
		outside.says("refused: attested TLS: policy: the policy expired at ")
		if closes {
			wasReset(t, "the open connection", open)
			outside.says("withdrawn: attested TLS: policy: the policy expired at ")
		} else if err := exchange(open); err != nil {
			t.Errorf("the open connection: %v", err)
		}
		outside.reload(nil, nil)
		outside.says("the policy expired at ")
		outside.says("the settings of before stay in force")
		outside.reload(func(s *Settings) { s.Expires = s.Expires.Add(time.Second) }, nil)
		if err := exchange(dialed(t, outside.address)); err != nil {
			t.Errorf("under a policy that lasts longer: %v", err)
		}
	}
}

// counted is a machine that counts how often evidence is made.
type counted struct {
	machine
	n *atomic.Int64
}

func (c counted) EvidenceWithKey(ctx context.Context, r api.EvidenceRequest, key crypto.Signer) ([]byte, error) {
	c.n.Add(1)
	return c.machine.EvidenceWithKey(ctx, r, key)
}

// TestContinue: with Continue, later connections rest on the evidence of the first, and records say
// so. What a new policy refuses is refused by new evidence.
func TestContinue(t *testing.T) {
	t.Parallel()
	var made atomic.Int64
	in := serves(t, service(t, echo).Addr())
	in.Attester = &attestedtls.Attester{Agent: counted{machine{t}, &made}}
	inside, log := start(t, in), &lines{}
	s := connects(t, inside.address)
	s.Verifier.Continue, s.Access = time.Minute, log
	outside := start(t, s)
	for i := range 3 {
		c := dialed(t, outside.address)
		if err := exchange(c); err != nil {
			t.Fatal(err)
		}
		c.CloseWrite()
		io.ReadAll(c)
		if line := log.next(t, i); line["verdict"] != "accepted" || (line["continued"] == true) != (i > 0) {
			t.Errorf("connection %d: %v", i, line)
		}
	}
	if n := made.Load(); n != 1 {
		t.Errorf("evidence was made %d times for 3 connections", n)
	}
	outside.reload(func(s *Settings) { s.Policy = policyFor(t, otherUnit) }, nil)
	resets(t, "under a policy that refuses", outside.address)
	if n := made.Load(); n != 2 {
		t.Errorf("evidence was made %d times, and a refusal needs its own", n)
	}
}

// TestStop: an end that is told to stop accepts no more, lets an open connection go on, and cuts off
// one that stays longer than the drain timeout.
func TestStop(t *testing.T) {
	t.Parallel()
	inside := start(t, serves(t, service(t, echo).Addr()))
	s := connects(t, inside.address)
	outside := start(t, s)
	open := dialed(t, outside.address)
	if err := exchange(open); err != nil {
		t.Fatal(err)
	}
	outside.stop()
	eventually(t, "an end of accepting", func() bool {
		c, err := net.Dial("tcp", outside.address)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if err := exchange(open); err != nil {
		t.Errorf("while it drains: %v", err)
	}
	open.CloseWrite()
	if _, err := io.ReadAll(open); err != nil {
		t.Errorf("an end while it drains: %v", err)
	}
	if err := <-outside.ended; err != nil {
		t.Error(err)
	}
	outside.ended <- nil

	s = connects(t, inside.address)
	s.Limits.Drain = 50 * time.Millisecond
	outside = start(t, s)
	open = dialed(t, outside.address)
	if err := exchange(open); err != nil {
		t.Fatal(err)
	}
	outside.stop()
	wasReset(t, "a connection that stays", open)
}

// TestManyAtOnce: two hundred connections at once each get their own bytes.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	_, outside := both(t, service(t, echo))
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			c, err := net.Dial("tcp", outside.address)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			sent := make([]byte, 50_000)
			rand.Read(sent)
			go func() { c.Write(sent); c.(*net.TCPConn).CloseWrite() }()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%d bytes came back, %v", len(got), err)
			}
		})
	}
	all.Wait()
}

// TestBothVerify: with a policy, the end inside verifies the one outside too.
func TestBothVerify(t *testing.T) {
	t.Parallel()
	for unit, passes := range map[string]bool{itsUnit: true, otherUnit: false} {
		var heard atomic.Int64
		l := service(t, func(c net.Conn) { heard.Add(1); echo(c) })
		in := serves(t, l.Addr())
		other := connects(t, "")
		in.Policy, in.Trust, in.Verifier = policyFor(t, unit), other.Trust, other.Verifier
		inside := start(t, in)
		out := connects(t, inside.address)
		out.Attester = attests(t)
		outside := start(t, out)
		c := dialed(t, outside.address)
		if passes {
			if err := exchange(c); err != nil {
				t.Error(err)
			}
			continue
		}
		wasReset(t, "a refused client", c)
		inside.says("policy")
		if n := heard.Load(); n > 0 {
			t.Errorf("the service heard of %d refused clients", n)
		}
	}
}

// TestMisuse: settings that make no sense are refused at the start.
func TestMisuse(t *testing.T) {
	for name, change := range map[string]func(*Settings){
		"no policy":         func(s *Settings) { s.Policy = nil },
		"no limit":          func(s *Settings) { s.Limits.Idle = 0 },
		"any and warn":      func(s *Settings) { s.Warn = true },
		"no caller":         func(s *Settings) { s.Policy = policyFor(t, itsUnit); s.Policy.Caller.Unit = "" },
		"a role of its own": func(s *Settings) { s.Role = "other" },
	} {
		s := connects(t, "127.0.0.1:1")
		change(s)
		l := service(t, echo)
		err := Run(context.Background(), Options{Listeners: []net.Listener{l}, Load: func() (*Settings, error) { return s, nil }, Reload: make(chan os.Signal), Log: func(string) {}})
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
			c.Close()
			t.Errorf("%s: it still listens", name)
		}
	}
	if err := Run(context.Background(), Options{}); !errors.Is(err, errNoListener) {
		t.Errorf("without a socket: %v", err)
	}
}

// TestAddresses: what is not an address is refused, and what is one comes back as it was.
func TestAddresses(t *testing.T) {
	for text, want := range map[string]string{
		":8443": "tcp :8443", "127.0.0.1:80": "tcp 127.0.0.1:80", "[::1]:80": "tcp [::1]:80", "host.example:1": "tcp host.example:1",
		"unix:/run/s": "unix /run/s", "127.0.0.1:0": "tcp 127.0.0.1:0",
		"": "", "host": "", "host:": "", "host:http": "", "host:65536": "", "::1:80": "", "unix:": "", "unix:s": "", "unix:@s": "",
		"unix:/" + strings.Repeat("a", maxUnixPath): "", "a b:1": "", "a/b:1": "", strings.Repeat("a", 256) + ":1": "", "unix:/a\x00b": "",
	} {
		a, err := ParseAddress(text, true)
		if got := a.Network + " " + a.Name; (err == nil) != (want != "") || err == nil && (got != want || a.String() != text) {
			t.Errorf("%.60q: %s, %v, want %q", text, got, err, want)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	}
	for _, text := range []string{":80", "host:0"} {
		if _, err := ParseAddress(text, false); err == nil {
			t.Errorf("%q can be connected to", text)
		}
	}
	for text, want := range map[string]bool{"127.0.0.1:1": true, "[::1]:1": true, "localhost:1": true, "unix:/s": true, "10.0.0.1:1": false, "host:1": false, ":1": false, "[::ffff:127.0.0.1]:1": true} {
		if a, err := ParseAddress(text, true); err != nil || a.Local() != want {
			t.Errorf("%s is local: %v, %v", text, a.Local(), err)
		}
	}
	for text, want := range map[string]string{"1.2.3.4": "1.2.3.4/32", "::ffff:1.2.3.4": "1.2.3.4/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%lo": "fe80::/64"} {
		ip, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(text, "1"))
		if err != nil || party(ip).String() != want {
			t.Errorf("%s counts for %v, %v, want %s", text, party(ip), err, want)
		}
	}
	if party(&net.UnixAddr{Name: "/s", Net: "unix"}).IsValid() {
		t.Error("peers on unix sockets are counted as one address")
	}
}
