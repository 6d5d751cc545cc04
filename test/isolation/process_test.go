// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A process is a party that runs.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
	err   bytes.Buffer
}

// start starts a party as its user, and waits until it works.
func start(t *testing.T, p party) *process {
	t.Helper()
	return startAll(t, p)[0]
}

// startAll starts parties, and waits until all of them work.
func startAll(t *testing.T, parties ...party) []*process {
	t.Helper()
	var all []*process
	for _, p := range parties {
		all = append(all, launch(t, p))
	}
	for _, x := range all {
		if line, err := x.out.ReadString('\n'); line != "ready\n" {
			t.Fatalf("a party did not start: %q, %v\n%s", line, err, x.err.String())
		}
	}
	return all
}

// launch starts a party as its user.
func launch(t *testing.T, p party) *process {
	t.Helper()
	text, err := json.Marshal(p)
	must(t, err)
	x := &process{t: t, cmd: exec.Command("/proc/self/exe")}
	x.cmd.Env = []string{partyVariable + "=" + string(text), "AGENTD_SIM_DECLARED_UNIT=" + p.Unit}
	x.cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig:  unix.SIGKILL,
		Credential: &syscall.Credential{Uid: p.UID, Gid: p.UID, Groups: []uint32{p.Group}},
	}
	x.cmd.Stderr = &x.err
	x.stdin, err = x.cmd.StdinPipe()
	must(t, err)
	out, err := x.cmd.StdoutPipe()
	must(t, err)
	x.out = bufio.NewReader(out)
	must(t, x.cmd.Start())
	t.Cleanup(func() {
		x.cmd.Process.Kill()
		x.cmd.Wait()
	})
	return x
}

// end tells the party to end, unless it counts its requests, and returns what it saw.
func (x *process) end(tell bool) account {
	x.t.Helper()
	if tell {
		x.stdin.Close()
	}
	var a account
	if err := json.NewDecoder(x.out).Decode(&a); err != nil {
		x.t.Fatalf("a party did not account for itself: %v\n%s", err, x.err.String())
	}
	return a
}
