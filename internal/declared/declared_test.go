// SPDX-License-Identifier: Apache-2.0

package declared

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/cvm-agentd/agentd/internal/caller"
)

type fixed struct{ peer *caller.Peer }

func (f fixed) Identify(*net.UnixConn) (*caller.Peer, error) {
	if f.peer == nil {
		return nil, caller.ErrGone
	}
	p := *f.peer
	return &p, nil
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
		p, err := IdentitiesWithoutChecking(fixed{&caller.Peer{PID: cmd.Process.Pid, UID: 7, Unit: "real.service"}}).Identify(nil)
		cmd.Process.Kill()
		cmd.Wait()
		if err != nil || p.Unit != want || (p.UnitReason == "") != (want != "") || p.UID != 7 {
			t.Errorf("%q: %+v, %v; want %q", declared, p, err, want)
		}
	}
	if _, err := IdentitiesWithoutChecking(fixed{}).Identify(nil); !errors.Is(err, caller.ErrGone) {
		t.Errorf("got %v", err)
	}
	if p, err := IdentitiesWithoutChecking(fixed{&caller.Peer{Unit: "real.service"}}).Identify(nil); err != nil || p.Unit != "real.service" {
		t.Errorf("a process that is gone: %+v, %v", p, err)
	}
}
