// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/simulated/relying"
	"github.com/cvm-agentd/agentd/verify"
)

// patience is how long a test waits for what must happen.
const patience = 2 * time.Minute

// shared is what all tests use: the commands, and two machines of one kind of chip.
var shared struct {
	commands string
	here     *simulated.Machine
	there    *simulated.Machine
}

func TestMain(m *testing.M) {
	os.Exit(simulated.Main(m, func(commands, dir string) (stop func() error, err error) {
		shared.commands = commands
		here, err := simulated.Start(commands, filepath.Join(dir, "here"), "")
		if err != nil {
			return nil, err
		}
		there, err := simulated.Start(commands, filepath.Join(dir, "there"), filepath.Join(dir, "here", "platform"))
		if err != nil {
			return here.Stop, err
		}
		shared.here, shared.there = here, there
		return func() error { return errors.Join(here.Stop(), there.Stop()) }, nil
	}))
}

// machines returns the two machines. It skips the test if there are none.
func machines(t *testing.T) (here, there *simulated.Machine) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts simulated machines: not with -short")
	}
	if shared.there == nil {
		t.Skip(simulated.ErrNoTPM)
	}
	return shared.here, shared.there
}

// accepts returns a verifier of a machine under its own policy, changed. That does not name the
// caller, since a test is not a unit of systemd. Continues, if given, is VerifierOptions.Continue.
func accepts(t *testing.T, m *simulated.Machine, change func(*verify.Policy), continues ...time.Duration) *attestedtls.Verifier {
	t.Helper()
	policy := relying.Policy(t, m)
	if change != nil {
		change(policy)
	}
	options := attestedtls.VerifierOptions{Config: relying.Trust(t, m), AcceptAnyCaller: true}
	for _, most := range continues {
		options.Continue = most
	}
	v, err := attestedtls.NewVerifier(policy, options)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// of returns an attester of a machine.
func of(m *simulated.Machine) *attestedtls.Attester { return &attestedtls.Attester{Agent: m.Client()} }

// ends collects how exchanges ended.
type ends struct {
	mu        sync.Mutex
	errs      []error
	continued []bool // of those with a verdict
}

func (e *ends) note(c *attestedtls.Conn, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.errs = append(e.errs, err)
	if v := c.Verdict(); v != nil {
		e.continued = append(e.continued, v.Continued)
	}
}

// listen serves connections that repeat what they get, until the test ends.
func listen(t *testing.T, s *attestedtls.Server) (address string, all *ends) {
	t.Helper()
	all = &ends{}
	s.Ended, s.Timeout = all.note, patience
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	attested := s.Listener(l)
	go func() {
		for {
			c, err := attested.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String(), all
}

// echo sends a line and reads it again.
func echo(c net.Conn) error {
	const line = "hello\n"
	c.SetDeadline(time.Now().Add(patience))
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

// TestTwoMachines: two machines, each with an agent of its own, accept each other. The verdicts
// name the machines.
func TestTwoMachines(t *testing.T) {
	here, there := machines(t)
	client := &attestedtls.Client{Timeout: patience, AnyCertificate: true, Verifier: accepts(t, there, nil), Attester: of(here), Application: "echo"}
	server := &attestedtls.Server{Verifier: accepts(t, here, nil), Attester: of(there), Application: "echo"}
	address, _ := listen(t, server)
	conn, err := client.Dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := echo(conn); err != nil {
		t.Fatal(err)
	}
	claims := conn.Claims()
	if claims == nil || !claims.Machine.TestRoot || claims.Statement.Freshness != "anchored" || claims.Statement.KeyProof == nil {
		t.Errorf("claims %+v", claims)
	}
	if conn.Verdict().Appraisal.Check("statement.key-proof").Verdict != verify.Pass {
		t.Error("the key is only named by the caller")
	}
}

// TestThousandConnections: a thousand connections cost at most one report.
func TestThousandConnections(t *testing.T) {
	_, there := machines(t)
	const connections, atOnce = 1000, 20
	client := &attestedtls.Client{Timeout: patience, AnyCertificate: true, Verifier: accepts(t, there, nil)}
	address, _ := listen(t, &attestedtls.Server{Attester: of(there)})
	before, err := there.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	turns, nonces := make(chan struct{}, connections), sync.Map{}
	for range connections {
		turns <- struct{}{}
	}
	close(turns)
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for range turns {
				conn, err := client.Dial(t.Context(), "tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				nonces.Store(string(conn.Claims().Statement.Nonce), true)
				conn.Close()
			}
		})
	}
	all.Wait()
	after, err := there.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	different := 0
	for range nonces.Range {
		different++
	}
	if n := after.Batches.Fresh - before.Batches.Fresh; n > 1 {
		t.Errorf("%d connections cost %d reports", connections, n)
	}
	if n := after.Batches.Statements - before.Batches.Statements; n != connections || different != connections {
		t.Errorf("%d connections have %d statements with %d nonces", connections, n, different)
	}
}

// pass passes frames on, as they are, until one end is done.
func pass(from, to *tls.Conn) {
	defer to.CloseWrite()
	io.Copy(to, from)
}

// TestRelay: an attacker with a copy of a leaf's private key is between two machines. The evidence
// is genuine, and names that key; it is for another connection. Case 129.
func TestRelay(t *testing.T) {
	here, there := machines(t)
	roots, stolen := relying.Leaf(t, "server.example")
	for _, c := range []struct {
		name   string
		client *attestedtls.Client
		server *attestedtls.Server
	}{
		{"key of the server", &attestedtls.Client{Verifier: accepts(t, there, nil)}, &attestedtls.Server{Attester: of(there)}},
		{"key of the client", &attestedtls.Client{Attester: of(here)}, &attestedtls.Server{Verifier: accepts(t, here, nil)}},
		{"keys of both", &attestedtls.Client{Attester: of(here), Verifier: accepts(t, there, nil)}, &attestedtls.Server{Attester: of(there), Verifier: accepts(t, here, nil)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, server := c.client, c.server
			config := &tls.Config{RootCAs: roots, ServerName: "server.example", Certificates: []tls.Certificate{stolen}}
			client.TLS, server.TLS, client.Timeout = config, config, patience
			address, served := listen(t, server)
			if conn, err := client.Dial(t.Context(), "tcp", address); err != nil {
				t.Fatalf("without an attacker: %v", err)
			} else if err := echo(conn); err != nil {
				t.Fatalf("without an attacker: %v", err)
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			attacker := &tls.Config{RootCAs: roots, ServerName: "server.example", Certificates: []tls.Certificate{stolen}, NextProtos: []string{attestedtls.Protocol}, ClientAuth: tls.RequestClientCert}
			go func() {
				inner, err := l.Accept()
				if err != nil {
					return
				}
				victim := tls.Server(inner, attacker)
				real, err := tls.Dial("tcp", address, attacker)
				if err != nil {
					return
				}
				go pass(victim, real)
				pass(real, victim)
			}()
			conn, err := client.Dial(t.Context(), "tcp", l.Addr().String())
			if err == nil { // the end that verifies may be the server
				err = echo(conn)
			}
			if !errors.Is(err, attestedtls.CodeExporter) {
				t.Errorf("the client says %v, want %s", err, attestedtls.CodeExporter)
			}
			for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
				served.mu.Lock()
				all := served.errs
				served.mu.Unlock()
				if len(all) == 2 {
					if !errors.Is(all[1], attestedtls.CodeExporter) {
						t.Errorf("the server says %v, want %s", all[1], attestedtls.CodeExporter)
					}
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("the server's exchanges came to %v", all)
				}
			}
		})
	}
}

// TestOtherMachine: a machine that the policy does not list is refused, and says nothing.
func TestOtherMachine(t *testing.T) {
	_, there := machines(t)
	other := func(p *verify.Policy) { p.Launches[0].Measurement = strings.Repeat("ab", 48) }
	address, _ := listen(t, &attestedtls.Server{Attester: of(there)})
	client := &attestedtls.Client{Timeout: patience, AnyCertificate: true, Verifier: accepts(t, there, other)}
	if _, err := client.Dial(t.Context(), "tcp", address); !errors.Is(err, attestedtls.CodePolicy) {
		t.Errorf("got %v, want %s", err, attestedtls.CodePolicy)
	}
}
