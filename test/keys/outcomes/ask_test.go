// SPDX-License-Identifier: Apache-2.0

package outcomes

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/cvm-agentd/agentd/internal/declared"
)

// caller is a process of a unit.
type caller struct {
	unit string
	uid  uint32 // if not that of the test
}

var (
	billing = caller{unit: "billing.service"}
	ledger  = caller{unit: "ledger.service"}
	root    = caller{}
)

// reply is what agentctl answered.
type reply struct {
	exit        int
	out         []byte
	stderr      string
	code, field string // of the problem, and the part of blob or identity that it names
}

func (r reply) String() string { return fmt.Sprintf("exit code %d: %s", r.exit, r.stderr) }

// problem is how agentctl prints one: code, place in the request, detail.
var problem = regexp.MustCompile(`agentd: ([a-z0-9-]+)(?: at \S+)?: (.*)`)

// named are the parts that a problem may name.
var named = append(slices.Clone(fieldNames), "prelude", "end")

// try runs agentctl as a process of c, with input.
func (b *bed) try(c caller, input string, args ...string) (r reply) {
	cmd := b.command(c, args...)
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &stderr
	err := cmd.Run()
	r.out, r.stderr = out.Bytes(), stderr.String()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.exit = exit.ExitCode()
	} else if err != nil {
		r.exit, r.stderr = -1, err.Error()
	}
	if m := problem.FindStringSubmatch(r.stderr); m != nil {
		r.code = m[1]
		if field, _, ok := strings.Cut(m[2], ": "); ok && slices.Contains(named, field) {
			r.field = field
		}
	}
	return r
}

func (b *bed) command(c caller, args ...string) *exec.Cmd {
	program := filepath.Join(shared.commands, "agentctl")
	if c.uid != 0 {
		program = filepath.Join(b.dir, "agentctl") // see shareWith
	}
	cmd := exec.Command(program, append(args, "--socket", b.m.Socket(), "--admin", b.m.AdminSocket())...)
	cmd.Env = append(os.Environ(), declared.Variable+"="+c.unit)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if c.uid != 0 {
		cmd.Dir = "/"
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.uid, Gid: c.uid}
	}
	return cmd
}

// shareWith lets other users reach agentctl and the client socket.
func (b *bed) shareWith() {
	b.t.Helper()
	program, err := os.ReadFile(filepath.Join(shared.commands, "agentctl"))
	must(b.t, err)
	// A process that another test starts meanwhile would have the file open for writing until it runs
	// its own program, and the kernel starts no such file.
	syscall.ForkLock.RLock()
	err = os.WriteFile(filepath.Join(b.dir, "agentctl"), program, 0o755)
	syscall.ForkLock.RUnlock()
	must(b.t, err)
	must(b.t, os.Chmod(filepath.Join(b.dir, "agentctl"), 0o755))
	for _, path := range []string{filepath.Dir(b.dir), b.dir} {
		must(b.t, os.Chmod(path, 0o755))
	}
	must(b.t, os.Chmod(b.m.Socket(), 0o666))
}

// do is try that has to succeed.
func (b *bed) do(c caller, input string, args ...string) []byte {
	b.t.Helper()
	b.on()
	r := b.try(c, input, args...)
	if r.exit != 0 {
		b.t.Fatalf("agentctl %v: %v\n%s", args, r, b.m.Output())
	}
	return r.out
}

// seal seals text under name, with the associated data of "token".
func (b *bed) seal(c caller, name, text string, flags ...string) {
	b.t.Helper()
	b.do(c, text, append([]string{"seal", "--name", name, "--associated-data", inShared(associatedFile), "-"}, flags...)...)
}

// unseal asks for a secret. The associated data come by standard input, which also
// another user can read.
func (b *bed) unseal(c caller, name, associated string) reply {
	b.t.Helper()
	text, err := os.ReadFile(inShared(associated))
	must(b.t, err)
	return b.try(c, string(text), "unseal", "--name", name, "--associated-data", "-")
}

// opens reports whether "token" holds what was sealed, and whether the same secret is
// derived as on the first day.
func (b *bed) opens(r reply, c caller) error {
	b.t.Helper()
	if r.exit != 0 || string(r.out) != "hunter2" {
		return fmt.Errorf("got %q, %v", r.out, r)
	}
	if d := b.try(c, "", "key", "derive", "--label", "disk", "--length", "32"); d.exit != 0 || !bytes.Equal(d.out, shared.derived) {
		return fmt.Errorf("another secret is derived, %v", d)
	}
	if key := b.signingKey(c); key != "the same" {
		return fmt.Errorf("the signing key is %s", key)
	}
	return nil
}

// signingKey says what the app of c has in the place of billing's key of the first day: the same
// key, one of its own as another app, or the code of a refusal. It is never another key of billing.
func (b *bed) signingKey(c caller) string {
	b.t.Helper()
	r := b.try(c, "", "key", "public", "--key", "host:ecdsa-p256:1")
	same := bytes.Equal(r.out, shared.public)
	switch {
	case r.exit != 0 && r.code != "":
		return "`" + r.code + "`"
	case r.exit == 0 && same == (c.unit == billing.unit):
		if same {
			return "the same"
		}
		return "its own"
	}
	b.t.Errorf("the signing key of %s: %q, %v", c.unit, r.out, r)
	return ""
}
