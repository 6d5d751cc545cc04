// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cvm-agentd/agentd/test/simulated"
)

// Unit is the unit as which serving ends run.
const Unit = "agentd-tunnel@web.service"

// End is one end of a tunnel: agentctl, its configuration and the address on which it listens.
type End struct {
	*Process
	Address string

	command func() *exec.Cmd
}

// Network returns the network of an address.
func Network(address string) string {
	if filepath.IsAbs(address) {
		return "unix"
	}
	return "tcp"
}

// named returns an address as a tunnel names it.
func named(address string) string {
	if filepath.IsAbs(address) {
		return "unix:" + address
	}
	return address
}

// Start starts the end, again after it was killed.
func (e *End) Start(tb testing.TB) {
	tb.Helper()
	e.Process = Start(tb, e.command(), syscall.SIGKILL, func() error {
		c, err := net.Dial(Network(e.Address), e.Address)
		if err == nil {
			c.Close()
		}
		return err
	})
	process := e.Process
	tb.Cleanup(func() { // before the process is ended
		if tb.Failed() {
			tb.Logf("%v: %s", process.cmd.Args, process.Output())
		}
	})
}

// Tunnel is a tunnel to a server.
type Tunnel struct {
	Serve, Connect *End
	Policy         string // file of the connecting end
	Accepts        []byte // what is in it first
}

// Options change the configuration of a tunnel.
type Options struct {
	Listen         string // of the connecting end; empty: a port
	Serve, Connect string // lines of their files
	AnyCaller      bool   // for a machine that does not believe which unit a caller is
}

// Machine is a machine whose tunnels are wanted, and the folder of the commands.
type Machine struct {
	*simulated.Machine
	Commands string
}

// Tunnel starts a tunnel to the address of a server. Its connecting end accepts the machine's
// evidence by the policy in a file of its own.
func (m Machine) Tunnel(tb testing.TB, to string, o Options) *Tunnel {
	tb.Helper()
	dir := tb.TempDir() // no other user may write configuration
	u := &Tunnel{Policy: filepath.Join(dir, "policy.toml")}
	text, err := os.ReadFile(m.Machine.Policy())
	if err != nil {
		tb.Fatal(err)
	}
	u.Accepts = fmt.Appendf(text, "\n[caller]\nunit = %q\n", Unit)
	if o.AnyCaller {
		u.Accepts, o.Connect = text, o.Connect+"accept_any_program_of_the_machine = true\n"
	}
	u.Write(tb, u.Accepts)
	if o.Listen == "" {
		o.Listen = Local(Port(tb))
	}
	u.Serve = m.end(tb, dir, "serve", Local(Port(tb)), fmt.Sprintf("to = %q\n%s", named(to), o.Serve))
	u.Connect = m.end(tb, dir, "connect", o.Listen, fmt.Sprintf("to = %q\npolicy = %q\nany_certificate = true\n%s", u.Serve.Address, u.Policy, o.Connect))
	u.Serve.Start(tb)
	u.Connect.Start(tb)
	return u
}

// Write replaces the policy.
func (u *Tunnel) Write(tb testing.TB, policy []byte) {
	tb.Helper()
	if err := os.WriteFile(u.Policy+".new", policy, 0o644); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(u.Policy+".new", u.Policy); err != nil {
		tb.Fatal(err)
	}
}

// end readies one end.
func (m Machine) end(tb testing.TB, dir, command, address, lines string) *End {
	tb.Helper()
	config := filepath.Join(dir, command+".toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "listen = %q\n%s", named(address), lines), 0o644); err != nil {
		tb.Fatal(err)
	}
	args := []string{"tunnel", command, "--config", config}
	if command == "connect" {
		args = append(args, "--trust-test-root-that-vouches-for-no-hardware", m.Root())
	}
	return &End{Address: address, command: func() *exec.Cmd {
		cmd := exec.Command(filepath.Join(m.Commands, "agentctl"), args...)
		cmd.Env = append(os.Environ(), "AGENTD_SOCKET="+m.Socket(), "AGENTD_SIM_DECLARED_UNIT="+Unit)
		return cmd
	}}
}
