// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify"
)

// patience is how long a test waits for what must happen.
const patience = 2 * time.Minute

// machine is an agent that makes evidence by hand.
type machine struct{ tb testing.TB }

func (m machine) Evidence(_ context.Context, r api.EvidenceRequest) ([]byte, error) {
	return m.EvidenceWithKey(context.Background(), r, nil)
}

func (m machine) EvidenceWithKey(_ context.Context, r api.EvidenceRequest, key crypto.Signer) ([]byte, error) {
	recipe := evidencetest.New()
	recipe.Statement.Nonce, recipe.Statement.Audience, recipe.Statement.UserData = r.Nonce, r.Audience, r.UserData
	recipe.Statement.PublicKey, recipe.Statement.Freshness = r.PublicKey, r.Freshness
	if key != nil {
		recipe.Prove(m.tb, key, nil)
	}
	return recipe.Encode(m.tb), nil
}

// Units that policies name as the caller: that of the machine, and another one.
const (
	itsUnit   = "billing.service"
	otherUnit = "shell.service"
)

// policyFor accepts a machine whose caller is in a unit.
func policyFor(tb testing.TB, unit string) *verify.Policy {
	tb.Helper()
	text := fmt.Sprintf("version = 1\nfreshness = \"anchored\"\nmax_anchor_age = \"10m\"\n\n[[launch]]\nmeasurement = %q\nkind = \"plain\"\ncovers = \"firmware+kernel+cmdline\"\n\n[caller]\nunit = %q\n",
		hex.EncodeToString(evidencetest.Measurement), unit)
	p, err := verify.ParsePolicy([]byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// attests returns an attester of a machine.
func attests(tb testing.TB) *attestedtls.Attester { return &attestedtls.Attester{Agent: machine{tb}} }

// running is an end under test.
type running struct {
	tb       testing.TB
	address  string
	settings *Settings // that it loads next; guarded by mu
	bad      error     // in place of settings

	mu      sync.Mutex
	lines   []string
	hangups chan os.Signal
	stop    context.CancelFunc
	ended   chan error
}

// limits are the usual ones for a machine that is slow.
func limits() Limits {
	l := DefaultLimits()
	l.Exchange, l.Connect = patience, patience
	return l
}

// serves are the settings of an end inside a machine, for a service.
func serves(tb testing.TB, to net.Addr) *Settings {
	return &Settings{Role: Serve, To: Address{to.Network(), to.String()}, Attester: attests(tb), Limits: limits()}
}

// connects are the settings of an end outside, to an end inside.
func connects(tb testing.TB, to string) *Settings {
	return &Settings{
		Role: Connect, To: Address{"tcp", to}, AnyCertificate: true, Policy: policyFor(tb, itsUnit),
		Trust:    verify.Config{Roots: verify.Roots{SNP: evidencetest.Roots(tb)}},
		Verifier: attestedtls.VerifierOptions{Now: func() time.Time { return evidencetest.Time }},
		Limits:   limits(),
	}
}

// start runs an end until the test ends.
func start(tb testing.TB, s *Settings) *running {
	tb.Helper()
	return startWith(tb, s, nil)
}

// startWith runs an end that gives figures out on a socket.
func startWith(tb testing.TB, s *Settings, figures net.Listener) *running {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{tb: tb, address: l.Addr().String(), settings: s, hangups: make(chan os.Signal), stop: stop, ended: make(chan error, 1)}
	go func() {
		r.ended <- Run(ctx, Options{Listeners: []net.Listener{l}, Metrics: figures, Reload: r.hangups, Load: r.load, Log: r.log})
	}()
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Log(r.printed())
		}
		r.stop()
		select {
		case err := <-r.ended:
			if err != nil {
				tb.Errorf("the end ended with %v", err)
			}
		case <-time.After(patience):
			tb.Error("the end does not end")
		}
	})
	return r
}

func (r *running) load() (*Settings, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bad != nil {
		return nil, r.bad
	}
	s := *r.settings
	return &s, nil
}

func (r *running) log(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
}

// reload has the end load other settings, and returns when it did.
func (r *running) reload(change func(*Settings), bad error) {
	r.tb.Helper()
	r.mu.Lock()
	s := *r.settings
	if change != nil {
		change(&s)
	}
	r.settings, r.bad, r.lines = &s, bad, nil
	r.mu.Unlock()
	select {
	case r.hangups <- syscall.SIGHUP:
	case <-time.After(patience):
		r.tb.Fatal("the end does not look at its signals")
	}
	r.says("reload")
}

// says waits until the end has printed a line with these words.
func (r *running) says(words string) {
	r.tb.Helper()
	eventually(r.tb, "a line with "+words, func() bool { return strings.Contains(r.printed(), words) })
}

func (r *running) printed() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}

// eventually waits until a fact holds.
func eventually(tb testing.TB, what string, fact func() bool) {
	tb.Helper()
	for end := time.Now().Add(patience); !fact(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("%s did not come", what)
		}
	}
}

// service answers each connection with handle, until the test ends.
func service(tb testing.TB, handle func(net.Conn)) net.Listener {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
	return l
}

// echo repeats what it gets, and ends when that ends.
func echo(c net.Conn) { io.Copy(c, c) }

// dialed connects to an address.
func dialed(tb testing.TB, address string) *net.TCPConn {
	tb.Helper()
	c, err := dialTo(address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

func dialTo(address string) (*net.TCPConn, error) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn), nil
}

// resets checks that a connection to an address is reset, at once or later. A reset that arrives
// early enough is already an error of connecting.
func resets(tb testing.TB, what, address string) {
	tb.Helper()
	c, err := dialTo(address)
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	wasReset(tb, what, c)
}

// exchange sends a line, and reads it again.
func exchange(c net.Conn) error {
	const line = "hello\n"
	if _, err := io.WriteString(c, line); err != nil {
		return err
	}
	b := make([]byte, len(line))
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != line {
		return errors.New("another line came back: " + string(b))
	}
	return nil
}

// wasReset checks that a connection breaks off, and does not end.
func wasReset(tb testing.TB, what string, c net.Conn) {
	tb.Helper()
	if n, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		tb.Errorf("%s: %d bytes and %v, want a reset", what, n, err)
	}
}
