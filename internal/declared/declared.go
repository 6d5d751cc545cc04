// SPDX-License-Identifier: Apache-2.0

// Package declared lets callers of a simulated machine say themselves which system unit
// they are, so that what is for units can be shown and tried without systemd.
//
// It checks nothing: any program can be any unit. That is the opposite of what the agent is
// for, so a test checks that only agentd-sim imports it.
package declared

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/cvm-agentd/agentd/internal/caller"
)

// Variable is the environment variable in which a caller declares its unit.
const Variable = "AGENTD_SIM_DECLARED_UNIT"

// maxEnvironment is how many bytes of a process's environment are read.
const maxEnvironment = 1 << 20

// IdentitiesWithoutChecking believes each caller that declares a unit when it was
// started. Uid and everything else stay as inner established them.
func IdentitiesWithoutChecking(inner caller.Kernel) caller.Kernel {
	return believing{inner}
}

type believing struct{ inner caller.Kernel }

// UID asks inner.
func (b believing) UID(c *net.UnixConn) (uint32, error) { return b.inner.UID(c) }

// Identify asks inner, and then the caller.
func (b believing) Identify(c *net.UnixConn) (*caller.Peer, error) {
	return believe(b.inner.Identify(c))
}

// Find asks inner, and then the process.
func (b believing) Find(pid int) (*caller.Peer, error) { return believe(b.inner.Find(pid)) }

// Numbers asks inner.
func (b believing) Numbers(p *caller.Peer) error { return b.inner.Numbers(p) }

// believe makes p be of the unit that it declares, if it declares one.
func believe(p *caller.Peer, err error) (*caller.Peer, error) {
	if err != nil {
		return nil, err
	}
	unit, err := environment(p.PID)
	if err != nil || unit == "" {
		return p, nil
	}
	p.Invocation = nil // it is of the unit that the process is really in
	// The same rules as for a path of the kernel's: no name that systemd would not give.
	if p.Unit, err = caller.UnitOf("/system.slice/" + unit); err != nil {
		p.Unit, p.UnitReason = "", fmt.Sprintf("declared in %s: %v", Variable, err)
		return p, nil
	}
	p.UnitReason, p.UnitStarted = "", nil
	return p, nil
}

// environment returns the unit that the process was started with, "" if with none.
func environment(pid int) (string, error) { return variable(pid, Variable) }

// SystemdVariable is the variable with which a caller declares to be systemd, if it is not empty.
const SystemdVariable = "AGENTD_SIM_DECLARED_SYSTEMD"

// SystemdWithoutChecking returns nil for a process that declares to be systemd.
func SystemdWithoutChecking(pid int) error {
	is, err := variable(pid, SystemdVariable)
	if err == nil && is == "" {
		err = fmt.Errorf("process %d does not declare to be systemd in %s", pid, SystemdVariable)
	}
	return err
}

// variable returns a variable of the environment that a process was started with.
func variable(pid int, name string) (string, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return "", err
	}
	defer f.Close()
	all, err := io.ReadAll(io.LimitReader(f, maxEnvironment))
	if err != nil {
		return "", err
	}
	for v := range bytes.SplitSeq(all, []byte{0}) {
		if value, ok := strings.CutPrefix(string(v), name+"="); ok {
			return value, nil
		}
	}
	return "", nil
}
