// SPDX-License-Identifier: Apache-2.0

package declared

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/caller"
)

type fixed struct{ peer *caller.Peer }

func (f fixed) UID(*net.UnixConn) (uint32, error) { return 0, nil }

func (f fixed) Identify(*net.UnixConn) (*caller.Peer, error) {
	if f.peer == nil {
		return nil, caller.ErrGone
	}
	p := *f.peer
	return &p, nil
}

func (f fixed) Find(int) (*caller.Peer, error) { return f.Identify(nil) }

func (f fixed) Numbers(*caller.Peer) error { return caller.ErrUnknown }

// executing waits until the kernel shows the environment of a process. It does so only at
// the end of execve, when Start may have returned already.
func executing(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err == nil && len(b) > 0 {
			return
		}
	}
	t.Fatal("the process has no environment")
}

func TestDeclared(t *testing.T) {
	for declared, want := range map[string]string{
		"":                                  "real.service", // nothing declared
		Variable + "=billing.service":       "billing.service",
		Variable + "=../../x.service":       "",
		Variable + "=system.slice":          "",
		Variable + "X=billing.service":      "real.service",
		"X" + Variable + "=billing.service": "real.service",
	} {
		cmd := exec.Command("sleep", "60")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), declared}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		executing(t, cmd.Process.Pid)
		believing := IdentitiesWithoutChecking(fixed{&caller.Peer{PID: cmd.Process.Pid, UID: 7, Unit: "real.service"}})
		p, err := believing.Identify(nil)
		found, failed := believing.Find(cmd.Process.Pid)
		cmd.Process.Kill()
		cmd.Wait()
		if err != nil || p.Unit != want || (p.UnitReason == "") != (want != "") || p.UID != 7 {
			t.Errorf("%q: %+v, %v; want %q", declared, p, err, want)
		}
		if failed != nil || found.Unit != want {
			t.Errorf("%q, found by its number: %+v, %v; want %q", declared, found, failed, want)
		}
	}
	if err := IdentitiesWithoutChecking(fixed{}).Numbers(nil); !errors.Is(err, caller.ErrUnknown) {
		t.Errorf("got %v: what numbers mean is not for a process to say", err)
	}
	if _, err := IdentitiesWithoutChecking(fixed{}).Identify(nil); !errors.Is(err, caller.ErrGone) {
		t.Errorf("got %v", err)
	}
	if p, err := IdentitiesWithoutChecking(fixed{&caller.Peer{Unit: "real.service"}}).Identify(nil); err != nil || p.Unit != "real.service" {
		t.Errorf("a process that is gone: %+v, %v", p, err)
	}
}

// A process is systemd to the simulator only if it says so by itself.
func TestDeclaredSystemd(t *testing.T) {
	for declared, ok := range map[string]bool{"": false, Variable + "=billing.service": false, SystemdVariable + "=": false, SystemdVariable + "=1": true} {
		cmd := exec.Command("sleep", "60")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), declared}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		executing(t, cmd.Process.Pid)
		err := SystemdWithoutChecking(cmd.Process.Pid)
		cmd.Process.Kill()
		cmd.Wait()
		if (err == nil) != ok {
			t.Errorf("%q: %v", declared, err)
		}
	}
}
