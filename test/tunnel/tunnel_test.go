// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/test/simulated/relying"
)

// TestBothMachines: two machines accept each other, each with an agent of its own.
func TestBothMachines(t *testing.T) {
	here, there := machines(t)
	l := service(t, anyPort, echo)
	inside := serves(t, there, l.Addr().String(), verifies(here)...)
	outside := startEnd(t, here, "connect", append([]string{"--listen", anyPort, "--to", inside.address, "--timeout", "1m", "--any-certificate", "--attest"}, verifies(there)...)...)
	if err := exchange(dialed(t, "tcp", outside.address)); err != nil {
		t.Error(err)
	}
	silent := connects(t, there, inside.address)
	resets(t, "a client that shows no evidence", silent.address)
	silent.says("not-attested", 1)
}

// TestManyAtOnce: two hundred connections at once each get their own bytes, through two processes.
func TestManyAtOnce(t *testing.T) {
	_, there := machines(t)
	outside := connects(t, there, serves(t, there, service(t, anyPort, echo).Addr().String()).address)
	before, err := there.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
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
			sent := make([]byte, 200_000)
			rand.Read(sent)
			go func() { c.Write(sent); c.(*net.TCPConn).CloseWrite() }()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%d bytes came back, %v", len(got), err)
			}
		})
	}
	all.Wait()
	after, err := there.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := after.Batches.Statements - before.Batches.Statements; n < 200 {
		t.Errorf("200 connections have %d statements: not each was attested", n)
	}
}

// settings writes a file of settings for an end that verifies the machine there.
func settings(t *testing.T, policy, root, to, more string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tunnel.toml")
	text := "listen = \"127.0.0.1:0\"\nany_certificate = true\naccept_any_program_of_the_machine = true\ntimeout = \"1m\"\n" +
		"policy = \"" + policy + "\"\nto = \"" + to + "\"\ntrust_test_root_that_vouches_for_no_hardware = \"" + root + "\"\n" + more
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestPolicyTurns: a policy that turns to refuse ends new connections, and open ones only if that was
// asked for. A policy that cannot be read changes nothing. Neither does a file of settings with an
// unknown key.
func TestPolicyTurns(t *testing.T) {
	_, there := machines(t)
	inside := serves(t, there, service(t, anyPort, echo).Addr().String())
	good, err := os.ReadFile(there.Policy())
	if err != nil {
		t.Fatal(err)
	}
	for _, closes := range []bool{false, true} {
		policy := filepath.Join(t.TempDir(), "policy.toml")
		write := func(text []byte) {
			if err := os.WriteFile(policy, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(good)
		more := ""
		if closes {
			more = "close_open = true\n"
		}
		file := settings(t, policy, there.Root(), inside.address, more)
		outside := startEnd(t, there, "connect", "--config", file)
		open := dialed(t, "tcp", outside.address)
		if err := exchange(open); err != nil {
			t.Fatal(err)
		}
		write([]byte("version = 1\nno_such_rule = true\n"))
		outside.reload("the settings of before stay in force")
		write(good)
		text, _ := os.ReadFile(file)
		os.WriteFile(file, append([]byte("no_such_key = true\n"), text...), 0o600)
		outside.reload("tunnel.toml:1:1: no_such_key: unknown key")
		os.WriteFile(file, text, 0o600)
		outside.reload("agentctl: reloaded")
		for _, c := range []net.Conn{open, dialed(t, "tcp", outside.address)} {
			if err := exchange(c); err != nil {
				t.Fatalf("after reloads that change nothing: %v", err)
			}
		}
		measured := inHexadecimal.FindString(string(good))
		write([]byte(strings.ReplaceAll(string(good), measured, strings.Repeat("ab", 48))))
		outside.reload("agentctl: reloaded")
		resets(t, "a new connection", outside.address)
		outside.says("refused: attested TLS: policy", 1)
		if !closes {
			if err := exchange(open); err != nil {
				t.Errorf("the open connection: %v", err)
			}
			continue
		}
		wasReset(t, "the open connection", open)
		outside.says("withdrawn: attested TLS: policy", 1)
	}
}

// TestEnrolmentsTurn: a machine counts once its enrolment apart from the policy is approved and the end
// outside has read that, and not any more once it is removed. Open connections end then, if so asked.
func TestEnrolmentsTurn(t *testing.T) {
	_, there := machines(t)
	inside := serves(t, there, service(t, anyPort, echo).Addr().String())
	text, err := os.ReadFile(there.Policy())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	policy, folder := filepath.Join(dir, "policy.toml"), filepath.Join(dir, "enrolments")
	machine := filepath.Join(folder, "machine.json")
	write := func(file string, content []byte) {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	write(policy, append([]byte("outside_enrolments = \"approved\"\n"), text...))
	write(machine, relying.Enrolment(t, there, ""))
	outside := startEnd(t, there, "connect", "--config", settings(t, policy, there.Root(), inside.address, "close_open = true\nenrolments = \""+folder+"\"\n"))
	resets(t, "while it is pending", outside.address)
	outside.says("refused: attested TLS: policy", 1)

	write(machine, relying.Enrolment(t, there, "alice"))
	outside.reload("agentctl: reloaded")
	open := dialed(t, "tcp", outside.address)
	if err := exchange(open); err != nil {
		t.Fatalf("once it is approved: %v", err)
	}
	write(machine, []byte("{}\n"))
	outside.reload("the settings of before stay in force")
	if err := exchange(open); err != nil {
		t.Fatalf("after a reload of a list that cannot be read: %v", err)
	}
	if err := os.Remove(machine); err != nil {
		t.Fatal(err)
	}
	outside.reload("agentctl: reloaded")
	wasReset(t, "the open connection, once it is removed", open)
	resets(t, "once it is removed", outside.address)
	outside.says("withdrawn: attested TLS: policy", 1)
}

// TestServeIsKilled: when the end inside is killed, the program sees a reset, also in the middle of an
// answer. When it is back, new connections work, and the end outside was not touched.
func TestServeIsKilled(t *testing.T) {
	_, there := machines(t)
	l := service(t, anyPort, echo)
	inside := serves(t, there, l.Addr().String())
	outside := connects(t, there, inside.address)
	open := dialed(t, "tcp", outside.address)
	if err := exchange(open); err != nil {
		t.Fatal(err)
	}
	inside.kill()
	wasReset(t, "when the end inside is killed", open)
	resets(t, "while the end inside is down", outside.address)
	outside.says("unreachable: connect to "+inside.address, 1)
	startEnd(t, there, "serve", "--listen", inside.address, "--to", l.Addr().String(), "--timeout", "1m")
	if err := exchange(dialed(t, "tcp", outside.address)); err != nil {
		t.Errorf("when it is back: %v", err)
	}
}

// TestConnectIsKilled: when the end outside is killed, the service sees that the connection broke off.
// Its socket, which a kill leaves behind, is taken by the next.
func TestConnectIsKilled(t *testing.T) {
	_, there := machines(t)
	broke := make(chan error, 9)
	l := service(t, anyPort, func(c net.Conn) {
		_, err := io.Copy(c, c)
		broke <- err
	})
	inside := serves(t, there, l.Addr().String())
	dir, err := os.MkdirTemp("", "tunnel-") // short: so is the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	args := append([]string{"--listen", "unix:" + path, "--to", inside.address, "--timeout", "1m", "--any-certificate"}, verifies(there)...)
	outside := startEnd(t, there, "connect", args...)
	if at, err := os.Stat(path); err != nil || at.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", at, err)
	}
	first := dialed(t, "unix", path)
	if err := exchange(first); err != nil {
		t.Fatal(err)
	}
	first.Close()
	received := func() error {
		select {
		case err := <-broke:
			return err
		case <-time.After(patience):
			t.Fatal("the service does not hear of an end")
			return nil
		}
	}
	if err := received(); err != nil {
		t.Errorf("the end in order is %v to the service", err)
	}
	open := dialed(t, "unix", path)
	if err := exchange(open); err != nil {
		t.Fatal(err)
	}
	second := run(t, there, nil, append([]string{"tunnel", "connect"}, args...)...)
	second.says("another program answers on the socket", 1)
	outside.kill()
	if err := received(); err == nil {
		t.Error("the service saw an end")
	}
	startEnd(t, there, "connect", args...)
	if err := exchange(dialed(t, "unix", path)); err != nil {
		t.Errorf("after a kill: %v", err)
	}
}

// TestSlowPeers: clients that connect and say nothing, or a byte at a time, are gone when their time is
// over, and hold up no other address.
func TestSlowPeers(t *testing.T) {
	_, there := machines(t)
	inside := startEnd(t, there, "serve", "--listen", anyPort, "--to", service(t, anyPort, echo).Addr().String(), "--timeout", "10s", "--max-connections-per-address", "20")
	var slow []net.Conn
	for i := range 20 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		c, err := d.Dial("tcp", inside.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		slow = append(slow, c)
		if i%2 == 0 {
			go func() { // the beginning of a record of TLS, slowly
				for _, b := range []byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3} {
					if _, err := c.Write([]byte{b}); err != nil {
						return
					}
					time.Sleep(100 * time.Millisecond)
				}
			}()
		}
	}
	outside := connects(t, there, inside.address)
	if err := exchange(dialed(t, "tcp", outside.address)); err != nil {
		t.Errorf("beside slow clients: %v", err)
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	if more, err := d.Dial("tcp", inside.address); err == nil {
		more.SetDeadline(time.Now().Add(patience))
		wasReset(t, "one more of that address", more)
	}
	inside.says("max-connections-per-address", 1)
	for _, c := range slow {
		c.SetDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, c); os.IsTimeout(err) {
			t.Error("a slow client is still connected")
		}
	}
}

// TestPassedSockets: sockets that systemd opened are served. What is not a socket that listens is
// refused, and so is an address beside them.
func TestPassedSockets(t *testing.T) {
	_, there := machines(t)
	to := service(t, anyPort, echo).Addr().String()
	l, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	listens, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer listens.Close()
	folder, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	pass := func(f *os.File) func(*exec.Cmd) {
		return func(c *exec.Cmd) {
			c.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"`, "sh", c.Path}, c.Args[1:]...)
			c.Path, c.Err = "/bin/sh", nil
			c.ExtraFiles = []*os.File{f}
		}
	}
	inside := run(t, there, pass(listens), "tunnel", "serve", "--to", to, "--timeout", "1m")
	inside.waitListening()
	if err := exchange(dialed(t, "tcp", connects(t, there, l.Addr().String()).address)); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		f    *os.File
		args []string
		says string
	}{
		{folder, nil, "want sockets"},
		{listens, []string{"--listen", anyPort}, "systemd passed a socket, and listen names one"},
	} {
		e := run(t, there, pass(c.f), append([]string{"tunnel", "serve", "--to", to}, c.args...)...)
		e.says(c.says, 1)
	}
}

// TestStop: an end that is told to stop lets an open connection end, and then ends as the signal asks.
// An operator who asks twice does not wait.
func TestStop(t *testing.T) {
	_, there := machines(t)
	inside := serves(t, there, service(t, anyPort, echo).Addr().String())
	for _, again := range []bool{false, true} {
		outside := connects(t, there, inside.address, "--drain-timeout", "10m")
		open := dialed(t, "tcp", outside.address)
		if err := exchange(open); err != nil {
			t.Fatal(err)
		}
		outside.cmd.Process.Signal(syscall.SIGTERM)
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
		if again {
			outside.cmd.Process.Signal(syscall.SIGTERM)
		} else {
			open.(*net.TCPConn).CloseWrite()
			if _, err := io.ReadAll(open); err != nil {
				t.Error(err)
			}
		}
		select {
		case err := <-outside.ended:
			if status, is := outside.cmd.ProcessState.Sys().(syscall.WaitStatus); !is || status.Signal() != syscall.SIGTERM {
				t.Errorf("it ended with %v", err)
			}
			outside.ended <- nil
		case <-time.After(patience):
			t.Error("it does not end")
		}
	}
}

// TestTold: what a service, an operator and monitoring are told of connections, by flags of processes:
// a header of PROXY protocol, the access log, and figures. A browser gets evidence from the same port.
func TestTold(t *testing.T) {
	_, there := machines(t)
	headers := make(chan string, 9)
	l := service(t, anyPort, func(c net.Conn) {
		b := make([]byte, 16)
		io.ReadFull(c, b)
		headers <- string(b[:12])
		io.CopyN(io.Discard, c, int64(b[14])<<8+int64(b[15]))
		echo(c)
	})
	log := filepath.Join(t.TempDir(), "access.log")
	inside := serves(t, there, l.Addr().String(), "--proxy-protocol", "v2", "--access-log", log, "--well-known")
	dir, err := os.MkdirTemp("", "tunnel-") // short: so is the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	figures := filepath.Join(dir, "figures")
	outside := connects(t, there, inside.address, "--access-log", "-", "--metrics", "unix:"+figures)
	c := dialed(t, "tcp", outside.address)
	if err := exchange(c); err != nil {
		t.Fatal(err)
	}
	c.(*net.TCPConn).CloseWrite()
	io.ReadAll(c)
	if got := <-headers; got != "\r\n\r\n\x00\r\nQUIT\n" {
		t.Errorf("the service was told %q", got)
	}
	eventually(t, "lines of both access logs", func() bool {
		b, _ := os.ReadFile(log)
		return strings.Contains(string(b), `"result":"closed"`) && strings.Contains(outside.out.String(), `"verdict":"accepted"`)
	})
	monitoring := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", figures)
	}}}
	if b := get(t, monitoring, "http://tunnel/metrics"); !strings.Contains(b, `agentd_tunnel_connections_ended_total{result="closed"} 1`) {
		t.Errorf("monitoring reads\n%s", b)
	}
	browser := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	if b := get(t, browser, "https://"+inside.address+"/.well-known/agentd/evidence?nonce="+strings.Repeat("ab", 16)); !strings.Contains(b, `"statement"`) {
		t.Errorf("a browser reads %.200s", b)
	}
	rotated := log + ".1"
	if err := os.Rename(log, rotated); err != nil {
		t.Fatal(err)
	}
	inside.reload("agentctl: reloaded")
	if err := exchange(dialed(t, "tcp", outside.address)); err != nil {
		t.Error(err)
	}
	browser.CloseIdleConnections()
	eventually(t, "a line in the new file", func() bool {
		b, _ := os.ReadFile(log)
		return strings.Contains(string(b), `"result":"web"`)
	})
}

// get returns what is at a URL.
func get(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	answer, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v", url, answer.StatusCode, err)
	}
	return string(b)
}
