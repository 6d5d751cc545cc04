// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/tunnel/servers"
)

// TestTellsSystemd: systemd learns that a worker is ready, also without its database, when it has read
// the configuration again, and when it is about to end.
func TestTellsSystemd(t *testing.T) {
	m, err := simulated.NewManager(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	t.Setenv("NOTIFY_SOCKET", m.Address)
	b := newBed(t, false)
	b.database = `url = "postgres://tester@127.0.0.1:1/postgres?sslmode=disable"` // at which nothing listens
	w := b.start("one")
	said := make(chan string, 16)
	go func() {
		defer close(said)
		for {
			s, err := m.Receive()
			if err != nil {
				return
			}
			said <- s
		}
	}()
	want := func(what, state string) {
		t.Helper()
		select {
		case s := <-said:
			if !strings.HasPrefix(s, state) {
				t.Fatalf("%s: systemd was told %q, want %q", what, s, state)
			}
		case <-time.After(servers.Patience):
			t.Fatalf("%s: systemd was not told %q\n%s", what, state, w.Output())
		}
	}
	want("serving", "READY=1")
	w.Process.Signal(t, syscall.SIGHUP)
	want("reading again", "RELOADING=1\nMONOTONIC_USEC=")
	want("read again", "READY=1")
	w.Process.Signal(t, syscall.SIGTERM)
	want("ending", "STOPPING=1")
}

// TestUnit has systemd read the unit of the package, and say how exposed it is.
func TestUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	b, err := os.ReadFile("../systemd/agentd-verifier.service")
	if err != nil {
		t.Fatal(err)
	}
	// The program is replaced by one that is installed everywhere: verify wants to find it.
	unit := filepath.Join(t.TempDir(), "agentd-verifier.service")
	if err := os.WriteFile(unit, bytes.Replace(b, []byte("/usr/sbin/agentd-verifier "), []byte("/bin/true "), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		cmd := exec.Command(analyze, append(args, unit)...)
		cmd.Env = append(cmd.Environ(), "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	run("verify", "--man=no", "--recursive-errors=no")
	out := run("security", "--offline=true", "--no-pager")
	found := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("no score in:\n%s", out)
	}
	if score, err := strconv.ParseFloat(found[1], 64); err != nil || score > 1.5 {
		t.Errorf("exposure %v, want at most 1.5 (%v)", score, err)
	}
}
