// SPDX-License-Identifier: Apache-2.0

package attacks

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/test/swtpm"
)

const (
	reviewed = "#!/bin/sh\nexit 0 # as it was reviewed\n"
	evil     = "#!/bin/sh\nexit 7 # the attacker's\n"
)

// watched switches a machine on over a TPM that runs on when the agent ends, and has it
// measure the reviewed program of the application "svc". Its policy wants that and no other.
func watched(t *testing.T, dir string, tpm *swtpm.TPM) (x *target, program, policyText string, again func() *target) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts simulated machines: not with -short")
	}
	address := tpm.Listen().Address()
	again = func() *target { return switchOn(t, dir, "--tpm", address, "--declare-identity-without-checking") }
	x = again()
	program = x.declare("svc", reviewed)
	policyText = policy("unlisted_apps = \"refuse\"\n", fmt.Sprintf("\n[[app]]\nname = \"svc\"\nunit = \"svc.service\"\nuser = %q\ndigests = [%q]\n", username(t), x.digest("svc")))
	nonce, file := x.attest()
	x.verify(policyText, nonce, file).accepted(t, "the machine before the attack")
	return x, program, policyText, again
}

// runInstead puts the attacker's program in the place of the reviewed one, and runs it.
func runInstead(t *testing.T, program string) {
	t.Helper()
	must(t, os.WriteFile(program, []byte(evil), 0o700))
	cmd := exec.Command(program)
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 7 {
		t.Fatalf("the attacker's program did not run: %v", err)
	}
}

// TestSwapBehindTheAgentsBackCountsAsObserved: case 98. Root ends the agent, runs another
// program under the path of an application, puts the reviewed one back, and starts the agent
// again. Each digest in the log is one that the policy lists.
func TestSwapBehindTheAgentsBackCountsAsObserved(t *testing.T) {
	for how, c := range map[string]struct {
		end func(*target)
		why string // word of the interval's end
	}{
		"killed":  {func(x *target) { x.Kill() }, "crashed"},
		"stopped": {func(x *target) { must(t, x.Stop()) }, "stopped"},
	} {
		t.Run(how, func(t *testing.T) {
			x, program, pinned, again := watched(t, filepath.Join(t.TempDir(), "m"), swtpm.Start(t))
			c.end(x)
			runInstead(t, program)
			must(t, os.WriteFile(program, []byte(reviewed), 0o700))
			x = again()
			x.do("measure", "--app", "svc")
			nonce, file := x.attest()
			x.verify(pinned, nonce, file).refused(t, "an application that nothing watched for a while", 5, "policy.app-covered")

			// A policy that asks only for now is answered, with the gap by its name.
			now := x.verify(pinned+"covered = \"now\"\n", nonce, file)
			now.accepted(t, "the application as it is now")
			if ends := now.ends(t, "svc"); len(ends) != 2 || ends[0] != c.why || ends[1] != "" {
				t.Errorf("the intervals of coverage ended with %q, want %q and one that is open", ends, c.why)
			}
		})
	}
}

// TestProcessOfTheGapCountsAsObserved: case 98. The attacker's program does not end when the
// reviewed one is put back: it goes on, and asks the new agent for evidence as the unit of the
// application. Its executable is not what the policy looks at: the unit, the application and
// its digest all suit.
func TestProcessOfTheGapCountsAsObserved(t *testing.T) {
	x, program, pinned, again := watched(t, filepath.Join(t.TempDir(), "m"), swtpm.Start(t))
	pinned += "\n[caller]\nunit = \"svc.service\"\napp = \"svc\"\n"
	attest := func(x *target, process *waiting) ruling {
		nonce, file := newNonce(), filepath.Join(t.TempDir(), "evidence.json")
		process.attest(nonce, file)
		return x.verify(pinned, nonce, file)
	}
	attest(x, x.process()).accepted(t, "a process that began after the application was measured")

	x.Kill()
	runInstead(t, program)
	old := x.process() // the attacker's, in the unit
	must(t, os.WriteFile(program, []byte(reviewed), 0o700))
	x = again()
	x.do("measure", "--app", "svc")
	young := x.process()
	attest(x, old).refused(t, "a process of the time that nothing watched", 5, "policy.app-covered")
	attest(x, young).accepted(t, "a process that began since")
}

// A waiting process of the unit svc.service becomes agentctl when it is told to.
type waiting struct {
	t   *testing.T
	cmd *exec.Cmd
	say io.WriteCloser
}

// process starts one. The kernel has its start before this returns.
func (x *target) process() *waiting {
	x.t.Helper()
	cmd := exec.CommandContext(x.t.Context(), "sh", "-c", `read -r nonce file && exec "$0" attest --nonce "$nonce" --out "$file"`, filepath.Join(shared.commands, "agentctl"))
	cmd.Env = append(os.Environ(), "AGENTD_SOCKET="+x.Socket(), "AGENTD_SIM_DECLARED_UNIT=svc.service")
	cmd.Stderr = os.Stderr
	say, err := cmd.StdinPipe()
	must(x.t, err)
	must(x.t, cmd.Start())
	return &waiting{x.t, cmd, say}
}

// attest has the process ask for evidence, and waits for its end.
func (w *waiting) attest(nonce, file string) {
	w.t.Helper()
	_, err := fmt.Fprintln(w.say, nonce, file)
	must(w.t, err)
	must(w.t, w.cmd.Wait())
}

// ends returns why each interval of coverage of an application ended, "" if it is open.
func (r ruling) ends(t *testing.T, app string) (ends []string) {
	t.Helper()
	claims, err := r.Claims()
	must(t, err)
	b, err := json.Marshal(claims.Log)
	must(t, err)
	var log struct {
		Apps []struct {
			Name      string
			Intervals []struct{ End struct{ Why string } }
		}
	}
	must(t, json.Unmarshal(b, &log))
	for _, a := range log.Apps {
		for _, i := range a.Intervals {
			if a.Name == app {
				ends = append(ends, i.End.Why)
			}
		}
	}
	return ends
}

// TestWithdrawnApplicationCountsAsObserved: case 99. Root withdraws the declaration of an
// application, and replaces its program for good. The log's last word of the application is
// the digest that the policy lists.
func TestWithdrawnApplicationCountsAsObserved(t *testing.T) {
	x, program, pinned, _ := watched(t, filepath.Join(t.TempDir(), "m"), swtpm.Start(t))
	must(t, os.Remove(filepath.Join(x.Dir, "apps.d", "svc.toml")))
	x.do("app", "reload")
	runInstead(t, program)
	nonce, file := x.attest()
	x.verify(pinned, nonce, file).refused(t, "an application without a declaration", 5, "policy.app-covered")
	x.verify(pinned+"covered = \"now\"\n", nonce, file).refused(t, "an application that is not watched now", 5, "policy.app-covered")
}
