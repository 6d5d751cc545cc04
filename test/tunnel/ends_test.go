// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/simulated/relying"
)

// patience is how long a test waits for what must happen.
const patience = 2 * time.Minute

// shared is what all tests use: the commands, and two machines of one kind of chip.
var shared struct {
	commands    string
	here, there *simulated.Machine
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
	t.Parallel()
	return shared.here, shared.there
}

// printed is what a process prints; it may be read while it is written.
type printed struct {
	mu sync.Mutex
	b  strings.Builder
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(b)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}

// An end is a process of agentctl tunnel.
type end struct {
	t       *testing.T
	cmd     *exec.Cmd
	out     printed // what it printed
	errs    printed // what it printed for people
	address string  // that it listens on
	ended   chan error
}

// run starts a command line of agentctl for a machine, and ends it with the test.
func run(t *testing.T, m *simulated.Machine, change func(*exec.Cmd), args ...string) *end {
	t.Helper()
	e := &end{t: t, cmd: exec.Command(filepath.Join(shared.commands, "agentctl"), args...), ended: make(chan error, 1)}
	e.cmd.Env = append(os.Environ(), "AGENTD_SOCKET="+m.Socket())
	e.cmd.Stdout, e.cmd.Stderr = &e.out, &e.errs
	if change != nil {
		change(e.cmd)
	}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { e.ended <- e.cmd.Wait() }()
	t.Cleanup(func() {
		e.cmd.Process.Kill()
		<-e.ended
		if t.Failed() {
			t.Logf("agentctl %s\n%s%s", strings.Join(args, " "), e.out.String(), e.errs.String())
		}
	})
	return e
}

// listening is what an end says when it listens.
var listening = regexp.MustCompile(`(?m)^agentctl: (?:serve|connect) on (.+), to `)

// startEnd starts an end of a tunnel, and returns when it listens.
func startEnd(t *testing.T, m *simulated.Machine, role string, args ...string) *end {
	t.Helper()
	e := run(t, m, nil, append([]string{"tunnel", role}, args...)...)
	e.waitListening()
	return e
}

func (e *end) waitListening() {
	e.t.Helper()
	eventually(e.t, "a line that names the address", func() bool {
		if len(e.ended) > 0 {
			e.t.Fatalf("it ended: %s", e.errs.String())
		}
		found := listening.FindStringSubmatch(e.errs.String())
		if found != nil {
			e.address = found[1]
		}
		return found != nil
	})
}

// says waits until the end has printed these words for people so many times.
func (e *end) says(words string, times int) {
	e.t.Helper()
	eventually(e.t, fmt.Sprintf("%q, %d times", words, times), func() bool { return strings.Count(e.errs.String(), words) >= times })
}

// reload has it read its files again, and waits for what it says of that.
func (e *end) reload(says string) {
	e.t.Helper()
	times := strings.Count(e.errs.String(), says)
	e.cmd.Process.Signal(syscall.SIGHUP)
	e.says(says, times+1)
}

// kill ends it at once, as kill -9 does.
func (e *end) kill() {
	e.cmd.Process.Kill()
	e.ended <- <-e.ended
}

// serves starts the end of a machine, for a service.
func serves(t *testing.T, m *simulated.Machine, to string, more ...string) *end {
	t.Helper()
	return startEnd(t, m, "serve", append([]string{"--listen", "127.0.0.1:0", "--to", to, "--timeout", "1m"}, more...)...)
}

// verifies are the flags with which an end verifies machine m under a policy of its own. That does not
// name the caller, since a test is not a unit of systemd.
func verifies(m *simulated.Machine) []string {
	return []string{"--policy", m.Policy(), "--trust-test-root-that-vouches-for-no-hardware", m.Root(), "--accept-any-program-of-the-machine"}
}

// connects starts an end that verifies machine m.
func connects(t *testing.T, m *simulated.Machine, to string, more ...string) *end {
	t.Helper()
	args := append([]string{"--listen", "127.0.0.1:0", "--to", to, "--timeout", "1m"}, more...)
	if !strings.Contains(strings.Join(more, " "), "--policy") {
		args = append(args, verifies(m)...)
	}
	if !strings.Contains(strings.Join(more, " "), "--roots") {
		args = append(args, "--any-certificate")
	}
	return startEnd(t, m, "connect", args...)
}

// eventually waits until a fact holds.
func eventually(t *testing.T, what string, fact func() bool) {
	t.Helper()
	for late := time.Now().Add(patience); !fact(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("%s did not come", what)
		}
	}
}

// service answers each connection with handle, until the test ends.
func service(t *testing.T, address string, handle func(net.Conn)) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
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

const anyPort = "127.0.0.1:0"

// echo repeats what it gets.
func echo(c net.Conn) { io.Copy(c, c) }

// dialed connects to an end.
func dialed(t *testing.T, network, address string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout(network, address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// exchange sends a line and reads it again.
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
func wasReset(t *testing.T, what string, c net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%s: %d bytes and %v, want a reset", what, n, err)
	}
}

// resets checks that a connection to an address is reset, at once or later. A reset that arrives
// early enough is already an error of connecting.
func resets(t *testing.T, what, address string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, patience)
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	wasReset(t, what, c)
}

// relyingLeaf is a certificate with its key, and what vouches for it.
type relyingLeaf struct {
	roots *x509.CertPool
	pair  tls.Certificate
}

// leaf writes a certificate for a name, its key and the roots that vouch for it, and returns the flags
// that name them.
func leaf(t *testing.T, name string) (own, roots []string, key relyingLeaf) {
	t.Helper()
	pool, pair := relying.Leaf(t, name)
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate, private := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	for file, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, private: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"--certificate", certificate, "--key", private}, []string{"--roots", certificate, "--server-name", name}, relyingLeaf{pool, pair}
}

// inHexadecimal is a launch measurement in a policy.
var inHexadecimal = regexp.MustCompile(`[0-9a-f]{96}`)
