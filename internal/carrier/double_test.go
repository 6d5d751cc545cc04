// SPDX-License-Identifier: Apache-2.0

package carrier

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/delivery"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var sender, other, stranger = evidencetest.Key('s'), evidencetest.Key('o'), evidencetest.Key('x')

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// machine is the agent of a machine: what it was asked, and what it answers.
type machine struct {
	t testing.TB

	mu       sync.Mutex
	quotes   int
	asked    []api.TicketRequest
	received [][]byte
	fails    error // of both
	during   func()
}

func (m *machine) Evidence(ctx context.Context, r api.EvidenceRequest) ([]byte, error) {
	return m.EvidenceWithKey(ctx, r, nil)
}

func (m *machine) EvidenceWithKey(_ context.Context, r api.EvidenceRequest, key crypto.Signer) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.quotes++
	e := evidencetest.New()
	s := &e.Statement
	s.Nonce, s.Audience, s.UserData, s.PublicKey, s.Freshness = r.Nonce, r.Audience, r.UserData, r.PublicKey, r.Freshness
	s.Caller = evidence.Caller{PID: 77, Started: 60_000, Method: evidence.MethodPidfd, Unit: delivery.Unit, UnitStarted: new(uint64(60_000))}
	if key != nil {
		e.Prove(m.t, key, nil)
	}
	return e.Encode(m.t), nil
}

func (m *machine) Ticket(_ context.Context, r api.TicketRequest) (*api.DeliveryTicket, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, r)
	if m.fails != nil {
		return nil, m.fails
	}
	return &api.DeliveryTicket{Ticket: []byte("the ticket"), App: r.App, Name: r.Name, ValidFor: r.ValidFor}, nil
}

func (m *machine) Receive(_ context.Context, b []byte) (*api.ReceivedSecret, error) {
	m.mu.Lock()
	m.received = append(m.received, bytes.Clone(b))
	during, err := m.during, m.fails
	m.mu.Unlock()
	if during != nil {
		during()
	}
	if err != nil {
		return nil, err
	}
	return &api.ReceivedSecret{Receipt: []byte("the receipt"), App: "billing", Name: "token"}, nil
}

// counts returns how often the machine was asked for a quote, a ticket, and to store.
func (m *machine) counts() [3]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return [3]int{m.quotes, len(m.asked), len(m.received)}
}

// fail has the agent refuse from now on.
func (m *machine) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fails = err
}

// listed is the file of rules, with two senders of billing and one of ledger.
const listed = `listen = "127.0.0.1:0"

[[deliver]]
app = "billing"
names = ["token", "password"]
senders = ["sender.pem", "other.pem"]

[[deliver]]
app = "billing"
names = ["certificate"]
senders = ["sender.pem"]
replace = true
valid_for = "90s"

[[deliver]]
app = "ledger"
names = ["token"]
senders = ["other.pem"]
`

// pemOf is the file of a public key.
func pemOf(t testing.TB, key crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// files reads the files of senders' keys.
func files(t testing.TB) func(string) ([]byte, error) {
	keys := map[string][]byte{"sender.pem": pemOf(t, public(sender)), "other.pem": pemOf(t, public(other))}
	return func(name string) ([]byte, error) {
		if b := keys[name]; b != nil {
			return b, nil
		}
		return nil, fmt.Errorf("no file %s", name)
	}
}

// served is a machine that serves.
type served struct {
	*machine
	*Server
	address string
	log     *lockedBuffer
	stop    func() // ends it, and waits
}

// lockedBuffer is a log that many goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve starts a machine.
func serve(t *testing.T, change func(*Server)) *served {
	t.Helper()
	rules, err := ParseRules([]byte(listed), files(t))
	must(t, err)
	m, log := &machine{t: t}, new(lockedBuffer)
	s := NewServer(Config{Rules: rules, Agent: m, Evidence: m, Log: slog.New(slog.NewTextHandler(log, nil))})
	if change != nil {
		change(s)
	}
	l, err := net.Listen("tcp", rules.Listen)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("it does not end")
		}
	})
	t.Cleanup(stop)
	return &served{m, s, l.Addr().String(), log, stop}
}

// policy accepts what a machine makes.
func policy(t testing.TB, more string) *verify.Policy {
	t.Helper()
	p, err := verify.ParsePolicy(fmt.Appendf(nil, "version = 1\n%s\n[[launch]]\nmeasurement = %q\nkind = \"plain\"\ncovers = \"firmware+kernel+cmdline\"\n", more, hex.EncodeToString(evidencetest.Measurement)))
	must(t, err)
	return p
}

// client returns the end of a sender.
func client(t testing.TB, address string, key ed25519.PrivateKey) *Client {
	t.Helper()
	_, over := Policies(policy(t, ""), delivery.Unit)
	v, err := attestedtls.NewVerifier(over, attestedtls.VerifierOptions{Config: verify.Config{Roots: verify.Roots{SNP: evidencetest.Roots(t)}}, Now: func() time.Time { return evidencetest.Time }})
	must(t, err)
	c, err := NewClient(address, v, key)
	must(t, err)
	c.Patience = patience
	return c
}

// dial connects as a sender.
func dial(t testing.TB, address string, key ed25519.PrivateKey) *Session {
	t.Helper()
	s, err := client(t, address, key).Dial(t.Context())
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

// sealed is a message that nothing here opens.
var sealed = []byte("agentd/delivery/sealed/1\n and so on")

func ask(app, name string) *delivery.Ask {
	return &delivery.Ask{Challenge: delivery.Challenge{7}, App: app, Name: name}
}
