// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/declared"
	"github.com/cvm-agentd/agentd/internal/delivery"
)

// carried is a process on the machine that listens for deliveries.
type carried struct {
	cmd     *exec.Cmd
	address string
	ended   chan struct{}

	mu   sync.Mutex
	said bytes.Buffer
}

// began is what such a process says first.
const began = "listening on "

// start starts a process of the machine, in a unit, and waits for its address.
func (b *bed) start(cmd *exec.Cmd, unit string) *carried {
	b.t.Helper()
	cmd.Env = append(cmd.Environ(), declared.Variable+"="+unit)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StderrPipe()
	must(b.t, err)
	must(b.t, cmd.Start())
	c := &carried{cmd: cmd, ended: make(chan struct{})}
	lines := bufio.NewReader(out)
	for c.address == "" {
		line, err := lines.ReadString('\n')
		c.said.WriteString(line)
		if err != nil {
			b.t.Fatalf("%v does not listen: %s", cmd.Args, &c.said)
		}
		_, c.address, _ = strings.Cut(strings.TrimSpace(line), began)
	}
	go func() {
		defer close(c.ended)
		for {
			line, err := lines.ReadString('\n')
			c.mu.Lock()
			c.said.WriteString(line)
			c.mu.Unlock()
			if err != nil {
				cmd.Wait()
				return
			}
		}
	}()
	b.t.Cleanup(c.kill)
	return c
}

func (c *carried) kill() {
	c.cmd.Process.Kill()
	<-c.ended
}

func (c *carried) output() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said.String()
}

// rules writes what may be delivered to the machine, and makes the key of the one sender.
func (b *bed) rules(listen string) string {
	b.t.Helper()
	key, public := filepath.Join(b.home, "key.pem"), filepath.Join(b.root, "sender.pem")
	if _, err := os.Stat(key); err != nil {
		b.openssl("genpkey", "-algorithm", "ed25519", "-out", key)
		b.openssl("pkey", "-in", key, "-pubout", "-out", public)
	}
	name := filepath.Join(b.root, "deliveries.toml")
	must(b.t, os.WriteFile(name, fmt.Appendf(nil, "listen = %q\n\n[[deliver]]\napp = \"billing\"\nnames = [\"token\"]\nsenders = [%q]\nreplace = true\nvalid_for = \"1m\"\n", listen, public), 0o600))
	return name
}

// serve listens for deliveries, as the unit of the package does.
func (b *bed) serve(unit string) *carried {
	b.t.Helper()
	return b.start(b.command("secret", "serve", b.rules("127.0.0.1:0")), unit)
}

// over are the arguments of send over a connection.
func (b *bed) over(address string, more ...string) []string {
	return append([]string{"secret", "send", "--to", address, "--policy", "billing.toml", "--app", "billing", "--sender-key", "key.pem",
		"--trust-test-root-that-vouches-for-no-hardware", b.Root(), "token"}, more...)
}

// TestOverConnection: one command delivers, and another one replaces what it delivered. The file of the
// delivery says so.
func TestOverConnection(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.serve(delivery.Unit)
	out := b.do("hunter2", b.over(c.address, "--delivery", "d", "--save-log", "log")...)
	if !strings.Contains(string(out), `the agent stored "token" for billing`) {
		t.Errorf("it says %s", out)
	}
	if got := b.loaded("billing.service", "token"); got != "hunter2" {
		t.Errorf("the unit gets %q\n%s", got, c.output())
	}
	if got := b.loaded("ledger.service", "token"); got != "" {
		t.Errorf("another unit gets %q", got)
	}
	record, err := os.ReadFile(filepath.Join(b.home, "d"))
	must(t, err)
	if r, err := delivery.ParseRecord(record); err != nil || !r.Stored || r.Sent == nil || r.Sent.Name != "token" {
		t.Errorf("the file of the delivery is %s, %v", record, err)
	}
	b.refused("a file that is there", "", 1, "swordfish", b.over(c.address, "--replace", "--delivery", "d")...)
	b.refused("a secret that is there", api.CodeExists, 1, "swordfish", b.over(c.address)...)
	policy, err := os.ReadFile(filepath.Join(b.home, "billing.toml"))
	must(t, err)
	b.file("continued.toml", []byte(strings.Replace(string(policy), "version = 1\n", "version = 1\ncontinuation = \"required\"\n", 1)))
	continued := func(more ...string) []string {
		args := b.over(c.address, append([]string{"--replace"}, more...)...)
		args[5] = "continued.toml"
		return args
	}
	b.refused("no known log, and the policy wants one", "", 5, "swordfish", continued()...)
	b.do("swordfish", continued("--known-log", "log", "--save-log", "log")...)
	if got := b.loaded("billing.service", "token"); got != "swordfish" {
		t.Errorf("the unit gets %q\n%s", got, c.output())
	}
	if n := strings.Count(c.output(), "a delivered secret is stored"); n != 2 {
		t.Errorf("%d deliveries are logged:\n%s", n, c.output())
	}
}

// TestConnectionRefused: case 130. A machine, a program or a sender that is not the right one gets nothing.
func TestConnectionRefused(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.serve(delivery.Unit)
	b.openssl("genpkey", "-algorithm", "ed25519", "-out", filepath.Join(b.home, "stranger.pem"))
	args := b.over(c.address)
	args[9] = "stranger.pem"
	b.refused("a sender that is not listed", "", 6, "hunter2", args...)
	args = b.over(c.address)
	args[len(args)-1] = "password"
	b.refused("a secret that is not listed", api.CodeNotPermitted, 7, "hunter2", args...)
	args = b.over(c.address)
	args[7] = "ledger"
	args[5] = filepath.Base(b.policy("ledger"))
	b.refused("an app that is not listed", api.CodeNotPermitted, 7, "hunter2", args...)
	b.refused("a unit that is not that of the policy", "", 5, "hunter2", b.over(c.address, "--unit", "other.service")...)
	b.refused("a ticket that is valid for longer", api.CodeOtherTicket, 1, "hunter2", b.over(c.address, "--max-validity", "59s")...)
	accomplice := b.serve("other.service")
	b.refused("a program in another unit", "", 5, "hunter2", b.over(accomplice.address)...)
	args = b.over(c.address)
	b.refused("another root of trust", "", 2, "hunter2", append(args[:10:10], "token")...)
	b.program("billing", "billing two")
	b.refused("a program that the policy does not list", "", 5, "hunter2", b.over(c.address)...)
	b.program("billing", "billing one")
	for what, more := range map[string][]string{
		"a ticket": {"--ticket", "x"}, "an age": {"--max-age", "1h"}, "a file": {"--out", "x"}, "no time": {"--max-validity", "0s"}, "an address without a port": {"--to", "localhost"},
	} {
		args := b.over(c.address, more...)
		if more[0] == "--to" {
			args = append(args[:2:2], append([]string{"--to", "localhost"}, args[4:len(args)-2]...)...)
		}
		b.refused("over a connection, "+what, "", 1, "hunter2", args...)
	}
	if got := b.stored(); got != "" {
		t.Errorf("stored: %s\n%s", got, c.output())
	}
	// A file of rules that another user can write is not used.
	rules := b.rules("127.0.0.1:0")
	must(t, os.Chmod(rules, 0o666))
	b.refused("rules that any user can write", "", 1, "", "secret", "serve", rules)
	must(t, os.Chmod(rules, 0o600))
	must(t, os.Chmod(filepath.Join(b.root, "sender.pem"), 0o666))
	b.refused("a sender's key that any user can write", "", 1, "", "secret", "serve", rules)
}

// TestConnectionKilled: case 130. Either end, and the agent, is killed while the sender has a ticket and waits
// for its secret. The secret arrives once, or not at all, and the next delivery succeeds.
func TestConnectionKilled(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.serve(delivery.Unit)
	waiting := func() (*exec.Cmd, io.WriteCloser, *bytes.Buffer) {
		t.Helper()
		cmd := b.command(b.over(c.address, "--replace")...)
		if b.stored() == "" {
			cmd = b.command(b.over(c.address)...)
		}
		in, err := cmd.StdinPipe()
		must(t, err)
		said := new(bytes.Buffer)
		cmd.Stderr = said
		must(t, cmd.Start())
		until(t, "the sender has a ticket, and reads the secret", func() bool { return readsInput(t, cmd.Process.Pid) })
		return cmd, in, said
	}

	sender, _, _ := waiting()
	must(t, sender.Process.Kill())
	_ = sender.Wait()
	if got := b.stored(); got != "" {
		t.Errorf("a sender that was killed: stored %s", got)
	}

	sender, in, said := waiting()
	c.kill()
	address := c.address
	c = b.start(b.command("secret", "serve", b.rules(address)), delivery.Unit)
	_, err := in.Write([]byte("hunter2"))
	must(t, err)
	must(t, in.Close())
	if err := sender.Wait(); err != nil {
		t.Fatalf("a carrier that was killed: %v\n%s\n%s", err, said, c.output())
	}
	if got := b.loaded("billing.service", "token"); got != "hunter2" {
		t.Errorf("the unit gets %q", got)
	}

	sender, in, said = waiting()
	b.restart()
	_, err = in.Write([]byte("swordfish"))
	must(t, err)
	must(t, in.Close())
	if err := sender.Wait(); err == nil || !strings.Contains(said.String(), string(api.CodeTicketUnknown)) {
		t.Errorf("an agent that was restarted: %v\n%s", err, said)
	}
	if got := b.loaded("billing.service", "token"); got != "hunter2" {
		t.Errorf("the unit gets %q", got)
	}
	b.do("swordfish", b.over(c.address, "--replace")...)
	if got := b.loaded("billing.service", "token"); got != "swordfish" {
		t.Errorf("the unit gets %q", got)
	}
}

// readsInput reports whether a thread of a process is in read(2) of its standard input
// (proc_pid_syscall(5): number of the call, then its arguments).
func readsInput(t *testing.T, pid int) bool {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	must(t, err)
	for _, f := range files {
		text, _ := os.ReadFile(f) // the thread may have ended
		if fields := strings.Fields(string(text)); len(fields) > 1 && fields[0] == strconv.Itoa(syscall.SYS_READ) && fields[1] == "0x0" {
			return true
		}
	}
	return false
}

// TestRelayed: case 130. A relay that changes, cuts or diverts what it passes on keeps the secret from arriving,
// and no more. What arrives is what was sent, once.
func TestRelayed(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.serve(delivery.Unit)
	other := newBed(t)
	must(t, os.WriteFile(filepath.Join(other.home, "key.pem"), nil, 0o600)) // its rules list the same sender
	key, err := os.ReadFile(filepath.Join(b.root, "sender.pem"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(other.root, "sender.pem"), key, 0o600))
	second := other.serve(delivery.Unit)

	// After the ticket, all connections lead to another machine that the policy accepts.
	r := newRelay(t, c.address)
	cmd := b.command(b.over(r.address())...)
	in, err := cmd.StdinPipe()
	must(t, err)
	var said bytes.Buffer
	cmd.Stderr = &said
	must(t, cmd.Start())
	until(t, "there is a ticket", func() bool { return strings.Contains(c.output(), "a ticket was made") })
	until(t, "the sender has it, and reads the secret", func() bool { return readsInput(t, cmd.Process.Pid) })
	r.divert(second.address)
	_, err = in.Write([]byte("hunter2"))
	must(t, err)
	must(t, in.Close())
	if err := cmd.Wait(); err == nil || !strings.Contains(said.String(), "no receipt came") {
		t.Errorf("a message at another machine: %v\n%s", err, &said)
	}
	if got := b.stored() + other.stored(); got != "" {
		t.Errorf("stored: %s", got)
	}

	// The first connections are changed, at one byte each, and cut. The last one is not.
	for at := int64(100); at < 12_000; at += 2_900 {
		r := newRelay(t, c.address)
		r.change.Store(at)
		more := []string{}
		if b.stored() != "" {
			more = append(more, "--replace")
		}
		_, said, code := b.run("hunter2", b.over(r.address(), more...)...)
		if code == 0 {
			t.Errorf("byte %d is changed: exit code 0\n%s", at, said)
		}
	}
	if got := b.stored(); got != "" {
		t.Errorf("stored: %s", got)
	}
	b.do("hunter2", b.over(newRelay(t, c.address).address())...)
	if got := b.loaded("billing.service", "token"); got != "hunter2" {
		t.Errorf("the unit gets %q", got)
	}
}

// relay passes on what comes.
type relay struct {
	l      net.Listener
	change atomic.Int64 // number of the byte of each connection that is changed, toward the sender

	mu   sync.Mutex
	to   string
	open []net.Conn
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &relay{l: l, to: to}
	t.Cleanup(func() { l.Close(); r.divert("") })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go r.pass(near)
		}
	}()
	return r
}

func (r *relay) address() string { return r.l.Addr().String() }

// divert ends all connections, and has later ones lead elsewhere.
func (r *relay) divert(to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = to
	for _, c := range r.open {
		c.Close()
	}
}

func (r *relay) pass(near net.Conn) {
	r.mu.Lock()
	far, err := net.Dial("tcp", r.to)
	if err == nil {
		r.open = append(r.open, near, far)
	}
	r.mu.Unlock()
	if err != nil {
		near.Close()
		return
	}
	go func() { io.Copy(far, near); far.Close() }()
	defer near.Close()
	b, passed := make([]byte, 1<<10), int64(0)
	for {
		n, err := far.Read(b)
		if at := r.change.Load() - passed; r.change.Load() > 0 && at >= 0 && at < int64(n) {
			b[at] ^= 1
		}
		passed += int64(n)
		if _, failed := near.Write(b[:n]); err != nil || failed != nil {
			return
		}
	}
}
