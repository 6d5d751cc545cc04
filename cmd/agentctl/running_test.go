// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// asSystemd is the environment variable with which the test binary is a process that has the socket
// in descriptor 3, and makes the file that the variable names when a connection comes.
const asSystemd = "AGENTCTL_TEST_AS_SYSTEMD"

// waitForConnection is that process.
func waitForConnection() {
	l, err := net.FileListener(os.NewFile(3, "socket"))
	if err != nil {
		os.Exit(1)
	}
	if c, err := l.Accept(); err == nil {
		os.WriteFile(os.Getenv(asSystemd), nil, 0o600)
		c.Close()
	}
	os.Exit(0)
}

// TestNoConnectionWakesAStoppedAgent: while systemd alone has the socket, neither an upgrade nor the key
// TAB connects, which would start the agent. While an agent has it too, they ask.
func TestNoConnectionWakesAStoppedAgent(t *testing.T) {
	dir := t.TempDir()
	path, woken := filepath.Join(dir, "admin.sock"), filepath.Join(dir, "woken")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	systemd := filepath.Join(dir, "systemd") // the kernel names a process after its file
	if err := os.WriteFile(systemd, self, 0o700); err != nil {
		t.Fatal(err)
	}
	// The agent answers first: the other process would take connections from it.
	asked := make(chan string, 100)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		w.Write([]byte(`{"apps":[{"name":"billing","state":"measured"}]}`))
	})}
	go server.Serve(l)
	commands := [][]string{
		{"app", "changes", "--note=" + filepath.Join(dir, "note"), "--if-running"},
		{"__complete", "app", "show", ""}, {"__complete", "key", "show", ""}, {"__complete", "unseal", "--name", ""},
	}
	on := func(args []string) []string {
		return append([]string{args[0], "--admin=" + path, "--socket=" + path}, args[1:]...)
	}
	for _, args := range commands {
		if agentctl(t, on(args)...); len(asked) == 0 {
			t.Errorf("%v: a running agent is not asked", args)
		}
		for len(asked) > 0 {
			<-asked
		}
	}
	cmd := exec.Command(systemd)
	cmd.Env, cmd.ExtraFiles = append(os.Environ(), asSystemd+"="+woken), []*os.File{file}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	server.Close()
	file.Close()
	for _, args := range commands {
		code, stdout, stderr := agentctl(t, on(args)...)
		if args[0] != "__complete" && (code != exitOK || stdout != "" || stderr != "") || strings.Contains(stdout, "billing") {
			t.Errorf("%v: exit code %d, %q, %q", args, code, stdout, stderr)
		}
	}
	// What connects in spite of that is noticed.
	if _, err := os.Stat(woken); err == nil {
		t.Fatal("a connection woke the agent")
	}
	if code, _, _ := agentctl(t, "app", "changes", "--admin="+path, "--socket="+path); code != exitUnavailable {
		t.Errorf("without --if-running: exit code %d", code)
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("nothing connected")
	}
	if _, err := os.Stat(woken); err != nil {
		t.Error(err)
	}
}
