// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/declared"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// patience is how long anything may take: tests share their processors.
const patience = 2 * time.Minute

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for what happens by itself.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

// bed is a simulated machine with the apps billing and ledger, and a relying party with a folder.
type bed struct {
	*simulated.Machine
	t    *testing.T
	home string // folder of the relying party
	root string // folder of root of the machine, with the programs of the apps
}

// flags are those of each machine.
var flags = []string{"--declare-identity-without-checking", "--log-level", "debug"}

func newBed(t *testing.T) *bed {
	t.Helper()
	switch {
	case testing.Short():
		t.Skip("starts simulated machines: not with -short")
	case shared.platform == "":
		t.Skip(simulated.ErrNoTPM)
	}
	base, err := os.MkdirTemp("", "agentd-del-") // a socket's path is short
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })
	b := &bed{t: t, home: filepath.Join(base, "party"), root: filepath.Join(base, "root")}
	for _, dir := range []string{b.home, b.root, filepath.Join(base, "m", "apps.d")} {
		must(t, os.MkdirAll(dir, 0o700))
	}
	for _, app := range []string{"billing", "ledger"} {
		b.program(app, app+" one")
		text := fmt.Sprintf("unit = \"%s.service\"\nuser = %q\nfiles = [%q]\n", app, fmt.Sprint(os.Geteuid()), filepath.Join(b.root, app))
		must(t, os.WriteFile(filepath.Join(base, "m", "apps.d", app+".toml"), []byte(text), 0o600))
	}
	b.on(filepath.Join(base, "m"))
	t.Cleanup(func() { b.Kill() })
	b.policy("billing")
	return b
}

// program puts a program in the place of an app, as an upgrade does.
func (b *bed) program(app, content string) {
	b.t.Helper()
	name := filepath.Join(b.root, app)
	must(b.t, os.WriteFile(name+".new", []byte(content), 0o700))
	must(b.t, os.Rename(name+".new", name))
}

// on switches the machine on.
func (b *bed) on(dir string) {
	b.t.Helper()
	m, err := simulated.Start(shared.commands, dir, shared.platform, flags...)
	must(b.t, err)
	b.Machine = m
	until(b.t, "the store is open", func() bool {
		st, err := m.Client().Status(b.t.Context())
		return err == nil && st.Keys.State == api.StateOK
	})
}

// restart ends the agent and starts it again, on the same machine.
func (b *bed) restart() {
	b.t.Helper()
	must(b.t, b.Stop())
	b.on(b.Dir)
}

// policy writes a policy that lists an app as it is measured now.
func (b *bed) policy(app string) string {
	b.t.Helper()
	x, err := b.Admin().Measure(b.t.Context(), app)
	must(b.t, err)
	text, err := os.ReadFile(b.Policy())
	must(b.t, err)
	name := filepath.Join(b.home, app+".toml")
	must(b.t, os.WriteFile(name, fmt.Appendf(text, "\n[[app]]\nname = %q\ndigests = [%q]\ncovered = \"now\"\n", app, x.Digest), 0o600))
	return name
}

// run runs agentctl, and returns what it wrote and its exit code.
func (b *bed) run(input string, args ...string) (stdout []byte, stderr string, code int) {
	b.t.Helper()
	cmd := b.command(args...)
	cmd.Stdin = strings.NewReader(input)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if _, exit := err.(*exec.ExitError); err != nil && !exit {
		b.t.Fatal(err)
	}
	return out, complaints.String(), cmd.ProcessState.ExitCode()
}

func (b *bed) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(shared.commands, "agentctl"), append(args, "--socket", b.Socket(), "--admin", b.AdminSocket())...)
	cmd.Dir = b.home
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// do is run of what must succeed.
func (b *bed) do(input string, args ...string) []byte {
	b.t.Helper()
	out, stderr, code := b.run(input, args...)
	if code != 0 {
		b.t.Fatalf("agentctl %v: exit code %d\n%s\n%s", args, code, stderr, b.Output())
	}
	return out
}

// refused is run of what must be refused with a code and an exit code.
func (b *bed) refused(what string, code api.Code, exit int, input string, args ...string) {
	b.t.Helper()
	out, stderr, got := b.run(input, append(args, "--json")...)
	var said struct {
		Code api.Code `json:"code"`
	}
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	_ = json.Unmarshal([]byte(lines[len(lines)-1]), &said)
	if said.Code != code || got != exit || len(out) > 0 {
		b.t.Errorf("%s: code %q, exit code %d, %d bytes; want %s and %d\n%s", what, said.Code, got, len(out), code, exit, stderr)
	}
}

// file writes a file of the relying party, and returns its name.
func (b *bed) file(name string, content []byte) string {
	b.t.Helper()
	path := filepath.Join(b.home, name)
	must(b.t, os.WriteFile(path, content, 0o600))
	return path
}

// challenge begins a delivery of this name.
func (b *bed) challenge(name string) string {
	b.t.Helper()
	return strings.TrimSpace(string(b.do("", "secret", "challenge", "--delivery", name)))
}

// ticket begins a delivery, and makes a ticket for a secret of billing in a file of the same name.
func (b *bed) ticket(delivery, name string, more ...string) (file string) {
	b.t.Helper()
	args := append([]string{"secret", "ticket", "--app", "billing", "--challenge", b.challenge(delivery), name}, more...)
	if len(more) == 0 || more[0] != "--sender" {
		args = append(args, "--any-sender")
	}
	return b.file(delivery+".ticket", b.do("", args...))
}

// sending are the arguments of send for a delivery and its ticket.
func (b *bed) sending(delivery, name string, more ...string) []string {
	return append([]string{"secret", "send", "--delivery", delivery, "--policy", "billing.toml", "--ticket", delivery + ".ticket", "--app", "billing",
		"--trust-test-root-that-vouches-for-no-hardware", b.Root(), name}, more...)
}

// send sends a secret, and returns the message.
func (b *bed) send(delivery, name, secret string, more ...string) []byte {
	b.t.Helper()
	return b.do(secret, b.sending(delivery, name, more...)...)
}

// loaded returns what systemd gets for a unit.
func (b *bed) loaded(unit, name string) string {
	b.t.Helper()
	if os.Geteuid() != 0 {
		b.t.Skip("systemd asks as root")
	}
	self, err := os.Executable()
	must(b.t, err)
	cmd := exec.Command(self, filepath.Join(b.Dir, "credentials.sock"))
	cmd.Env = append(os.Environ(), asks+"=/unit/"+unit+"/"+name, declared.Variable+"="+unit, declared.SystemdVariable+"=1")
	out, err := cmd.Output()
	must(b.t, err)
	if len(out) > 1<<20 { // a refusal: systemd takes no more, and fails the unit
		return ""
	}
	return string(out)
}

// stored lists the names of the secrets that root provisioned, with their apps.
func (b *bed) stored() string {
	b.t.Helper()
	all, err := b.Admin().Secrets(b.t.Context(), "")
	must(b.t, err)
	var names []string
	for _, x := range all.Secrets {
		names = append(names, x.App+"/"+x.Name)
	}
	return strings.Join(names, " ")
}
