// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/server"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
)

// noApps declares nothing; the routes asked here need no more.
type noApps struct{ server.Apps }

func (noApps) ByUnit(string, uint32) (caller.App, bool)           { return caller.App{}, false }
func (noApps) Container(*caller.Peer) *caller.Container           { return nil }
func (noApps) Beside(*caller.Peer) bool                           { return false }
func (noApps) Settle(context.Context, string)                     {}
func (noApps) Covers(string, evidence.Digest) bool                { return false }
func (noApps) Await(context.Context) error                        { return nil }
func (noApps) List() []api.App                                    { return nil }
func (noApps) Reload(context.Context) (r api.Reloaded, err error) { return }

// serveReal serves with real identities, on sockets that any uid may reach.
// Its limits of time are none for a client that a busy machine keeps off the processor.
func serveReal(t *testing.T, identified ...chan struct{}) (client, admin string) {
	t.Helper()
	i, err := New(Options{Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	s := server.New(server.Config{
		Identifier: telling{i, identified}, Apps: noApps{}, Logger: slog.New(slog.DiscardHandler),
		Limits: server.Limits{HeaderTimeout: patience, BodyTimeout: patience, Patience: 10},
	})
	dir, err := os.MkdirTemp("", "peer")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	client, admin = filepath.Join(dir, "c"), filepath.Join(dir, "a")
	served := make(chan error, 2)
	for path, socket := range map[string]server.Socket{client: server.Client, admin: server.Admin} {
		l, err := server.Listen(path, 0o666, -1)
		if err != nil {
			t.Fatal(err)
		}
		go func() { served <- s.Serve(l, socket) }()
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Shutdown(ctx)
		for range 2 {
			if err := <-served; err != nil {
				t.Error(err)
			}
		}
		os.RemoveAll(dir)
	})
	return client, admin
}

// telling tells a test of every connection whose peer was looked for.
type telling struct {
	*Identifier
	identified []chan struct{}
}

func (i telling) Identify(c *net.UnixConn) (*caller.Peer, error) {
	p, err := i.Identifier.Identify(c)
	for _, c := range i.identified {
		c <- struct{}{}
	}
	return p, err
}

func get(t *testing.T, socket, target string) (int, string) {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", socket)
	}}}
	answer, err := c.Get("http://a" + target)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

func TestSelfForReal(t *testing.T) {
	socket, _ := serveReal(t)
	status, body := get(t, socket, api.CallSelf.Path)
	var self api.Self
	if err := json.Unmarshal([]byte(body), &self); err != nil || status != 200 {
		t.Fatal(status, body, err)
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if self.UID != uint32(os.Getuid()) || self.Executable == nil || self.Executable.Path != exe || self.Executable.Digest == nil {
		t.Errorf("got %s", body)
	}
	if self.Keys.Yes || self.Measured.Yes || self.Keys.Reason == "" || self.Measured.Reason == "" || self.Unit == "" && self.UnitReason == "" {
		t.Errorf("got %s", body)
	}
}

// case 1, from outside: a child asks over the connection of its parent, which has ended.
func TestForkForReal(t *testing.T) {
	identified := make(chan struct{}, 1)
	socket, _ := serveReal(t, identified)
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{roleEnv + "=fork and ask", socketEnv + "=" + socket}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, os.Stderr
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	<-identified // while the parent runs; TestParentExits has it the other way round
	if _, err := io.WriteString(ours, "."); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil { // the parent alone: the child goes on
		t.Fatal(err)
	}
	if _, err := io.WriteString(ours, "."); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(ours)
	if err != nil || !strings.Contains(string(b), "HTTP/1.1 403 ") || !strings.Contains(string(b), `"code":"peer-gone"`) {
		t.Errorf("got %q %v", b, err)
	}
}

// Any uid but root's is turned away from the admin socket, even if it reaches it.
func TestAdminForReal(t *testing.T) {
	needRoot(t)
	client, admin := serveReal(t)
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	for _, c := range []struct {
		socket string
		uid    uint32
		want   string
	}{
		{admin, 0, `"apps":[]`},
		{admin, 4242, `"code":"not-permitted"`},
		{client, 0, `"code":"not-permitted"`},
	} {
		cmd := exec.Command("curl", "-sS", "--noproxy", "*", "--unix-socket", c.socket, "http://a"+api.CallApps.Path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.uid, Gid: c.uid}}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("uid %d on %s: %s %v, want %s", c.uid, c.socket, out, err, c.want)
		}
	}
	// case 5: nor is root of a user namespace.
	cmd := exec.Command("curl", "-sS", "--noproxy", "*", "--unix-socket", admin, "http://a"+api.CallApps.Path)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 31337, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 31337, Size: 1}},
		Credential:  &syscall.Credential{NoSetGroups: true},
	}
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Skipf("no user namespaces here: %v", err)
	}
	if !strings.Contains(string(out), `"code":"not-permitted"`) {
		t.Errorf("root of a user namespace: %s", out)
	}
}

// case 8, with real processes: a thousand half-open connections, one answer, and no descriptor
// left open.
func TestHalfOpenForReal(t *testing.T) {
	socket, _ := serveReal(t)
	before := openFiles(t)
	var conns []net.Conn
	for range 1000 {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "GET /v1/self HT")
		conns = append(conns, c)
	}
	began := time.Now()
	if status, body := get(t, socket, api.CallSelf.Path); status != 200 {
		t.Error(status, body)
	}
	t.Logf("answered with a thousand half-open connections in %v", time.Since(began))
	for _, c := range conns {
		c.Close()
	}
	eventually(t, "all descriptors are closed", func() bool { return openFiles(t) <= before })
}

func openFiles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}
