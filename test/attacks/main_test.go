// SPDX-License-Identifier: Apache-2.0

package attacks

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/verify"
)

// shared is made once: the commands, and a software platform with the keys of its test
// root, which take seconds to make.
var shared struct{ commands, platform string }

// genoa are the flags of every machine.
var genoa = []string{"--product", "genoa", "--report-version", "5"}

func TestMain(m *testing.M) {
	os.Exit(simulated.Main(m, func(commands, dir string) (stop func() error, err error) {
		shared.commands = commands
		first, err := simulated.Start(commands, dir, "", genoa...)
		if err != nil {
			return nil, err
		}
		shared.platform = filepath.Join(dir, "platform")
		return nil, first.Stop()
	}))
}

// A target is a machine that is attacked.
type target struct {
	*simulated.Machine
	t *testing.T
}

// switchOn starts a Genoa machine in dir. It skips the test if there is no software TPM.
func switchOn(t *testing.T, dir string, flags ...string) *target {
	t.Helper()
	if testing.Short() {
		t.Skip("starts simulated machines: not with -short")
	}
	m, err := simulated.Start(shared.commands, dir, shared.platform, slices.Concat(genoa, flags)...)
	if errors.Is(err, simulated.ErrNoTPM) {
		t.Skip(err)
	}
	must(t, err)
	x := &target{m, t}
	t.Cleanup(func() {
		if !m.Ended() {
			must(t, m.Stop())
		}
	})
	return x
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs agentctl against the machine, and returns its exit code and what it printed.
func (x *target) run(args ...string) (code int, stdout, stderr string) {
	x.t.Helper()
	return x.runAs("", args...)
}

// runAs is run as a caller that declares this unit to a simulator that believes it.
func (x *target) runAs(unit string, args ...string) (code int, stdout, stderr string) {
	x.t.Helper()
	cmd := exec.CommandContext(x.t.Context(), filepath.Join(shared.commands, "agentctl"), args...)
	cmd.Env = append(os.Environ(), "AGENTD_SOCKET="+x.Socket(), "AGENTD_ADMIN_SOCKET="+x.AdminSocket(), "AGENTD_SIM_DECLARED_UNIT="+unit)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		x.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), complaints.String()
}

// do is run of what must succeed.
func (x *target) do(args ...string) string {
	x.t.Helper()
	code, stdout, stderr := x.run(args...)
	if code != 0 {
		x.t.Fatalf("agentctl %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// declare puts a program in the place of an application, as root of the machine can, and
// declares it.
func (x *target) declare(app, content string) (program string) {
	x.t.Helper()
	program = filepath.Join(x.Dir, app+".bin")
	must(x.t, os.WriteFile(program, []byte(content), 0o700))
	text := fmt.Sprintf("unit = \"%s.service\"\nuser = %q\nfiles = [%q]\n", app, username(x.t), program)
	must(x.t, os.WriteFile(filepath.Join(x.Dir, "apps.d", app+".toml"), []byte(text), 0o600))
	x.do("app", "reload")
	x.do("measure", "--app", app)
	return program
}

// username returns the user of these tests, who is that of every application.
func username(t *testing.T) string {
	t.Helper()
	me, err := user.Current()
	must(t, err)
	return me.Username
}

// digest returns the digest of an application as it was measured last.
func (x *target) digest(app string) string {
	x.t.Helper()
	apps, err := x.Admin().Apps(x.t.Context())
	must(x.t, err)
	i := slices.IndexFunc(apps, func(a api.App) bool { return a.Name == app && a.Digest != nil })
	if i < 0 {
		x.t.Fatalf("application %s is not measured: %+v", app, apps)
	}
	return hex.EncodeToString(apps[i].Digest[:])
}

// attest returns a new nonce, and evidence for it in a file.
func (x *target) attest(args ...string) (nonce, file string) {
	x.t.Helper()
	nonce, file = newNonce(), filepath.Join(x.t.TempDir(), "evidence.json")
	x.do(append([]string{"attest", "--nonce", nonce, "--out", file}, args...)...)
	return nonce, file
}

func newNonce() string {
	b := make([]byte, 32)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// A ruling is how agentctl verify ended.
type ruling struct {
	*verify.Appraisal
	code int
	text string // of the same command without --json
}

// verify has agentctl verify evidence under a policy, twice: for programs and for people.
func (x *target) verify(policy, nonce, file string, flags ...string) ruling {
	x.t.Helper()
	return x.verifyRaw(policy, append([]string{"--nonce", nonce, file}, flags...)...)
}

// verifyRaw is verify of what the flags name.
func (x *target) verifyRaw(policy string, flags ...string) ruling {
	x.t.Helper()
	args := append([]string{"verify", "--policy", write(x.t, policy), "--trust-test-root-that-vouches-for-no-hardware", x.Root()}, flags...)
	r := ruling{Appraisal: new(verify.Appraisal)}
	_, r.text, _ = x.run(args...)
	var stdout, stderr string
	r.code, stdout, stderr = x.run(append(args, "--json")...)
	if err := json.Unmarshal([]byte(stdout), r.Appraisal); err != nil {
		x.t.Fatalf("%v: exit code %d, %v\n%s", args, r.code, err, stderr)
	}
	return r
}

// accepted checks that the evidence was accepted.
func (r ruling) accepted(t *testing.T, what string) {
	t.Helper()
	if r.code != 0 {
		t.Errorf("%s: exit code %d\n%s", what, r.code, r.text)
	}
}

// refused checks that the evidence was refused with this exit code, by this check.
func (r ruling) refused(t *testing.T, what string, code int, by verify.CheckID) {
	t.Helper()
	if r.code != code || !slices.ContainsFunc(r.Failed(), func(c verify.Check) bool { return c.ID == by }) {
		t.Errorf("%s: exit code %d, want %d by %s\n%s", what, r.code, code, by, r.text)
	}
}

// write writes text to a new file.
func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

// policy accepts the launch of the machines, and what root and tables say.
func policy(root, tables string) string {
	m := soft.Measurement()
	return fmt.Sprintf("version = 1\nproducts = [\"genoa\"]\n%s\n[[launch]]\nmeasurement = %q\nkind = \"plain\"\ncovers = \"firmware\"\nlabel = \"simulated\"\n%s",
		root, hex.EncodeToString(m[:]), tables)
}

// fileDigest returns the SHA-256 of a file in hexadecimal.
func fileDigest(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	must(t, err)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
