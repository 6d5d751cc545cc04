// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/declared"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// agent is a running agent with one application, "billing".
type agent struct {
	*simulated.Machine
	commands string // folder of the agent's program
}

func start(t *testing.T) *agent {
	t.Helper()
	return startFrom(t, "")
}

// arguments are those of every agent here.
var arguments = []string{"--declare-identity-without-checking", "--log-level", "debug"}

// startFrom starts the agent of a folder of commands, or of those that were built.
func startFrom(t *testing.T, commands string) *agent {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a simulated machine: not with -short")
	}
	if shared.platform == "" {
		t.Skip(simulated.ErrNoTPM)
	}
	dir, err := os.MkdirTemp("", "agentd-keys-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if commands == "" {
		commands = shared.commands
	}
	folder := filepath.Join(dir, "m")
	must(t, os.Mkdir(folder, 0o700))
	must(t, os.WriteFile(filepath.Join(folder, "config.toml"), []byte("[keys]\ncertify_apps = [\"billing\"]\n"), 0o600))
	m, err := simulated.Start(commands, folder, shared.platform, arguments...)
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{m, commands}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the agent has ended: %v; it said:\n%s", a.Ended(), a.Output())
		}
		a.Kill()
	})
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("program"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Declare("billing", program); err != nil {
		t.Fatal(err)
	}
	if out, err := a.run("", "app", "reload"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return a
}

// restart ends the agent as systemd would and starts it again.
func (a *agent) restart(t *testing.T) {
	t.Helper()
	must(t, a.Stop())
	a.boot(t)
}

// boot starts the agent again, and the machine if that is off.
func (a *agent) boot(t *testing.T) {
	t.Helper()
	m, err := simulated.Start(a.commands, a.Dir, shared.platform, arguments...)
	if err != nil {
		t.Fatal(err)
	}
	a.Machine = m
}

// run is agentctl as a process of a unit, with everything that it prints.
func (a *agent) run(unit string, args ...string) ([]byte, error) {
	cmd := exec.Command(filepath.Join(shared.commands, "agentctl"), append(args, "--socket", a.Socket(), "--admin", a.AdminSocket())...)
	cmd.Env = append(os.Environ(), declared.Variable+"="+unit)
	return cmd.CombinedOutput()
}

// noCore is how the kernel tells that a process leaves no core.
var noCore = regexp.MustCompile(`(?m)^Max core file size +0 +0 `)

// forms are the ways in which a secret could be written down.
func forms(secret []byte) map[string][]byte {
	return map[string][]byte{
		"as it is":       secret,
		"in hexadecimal": []byte(hex.EncodeToString(secret)),
		"in base64":      []byte(base64.RawStdEncoding.EncodeToString(secret)),
		"quoted":         []byte(strings.Trim(strconv.Quote(string(secret)), `"`)),
		"as Go prints":   fmt.Appendf(nil, "%v", secret)[1:60],
	}
}

// TestSecretsStayWhereTheyBelong: case 75.
func TestSecretsStayWhereTheyBelong(t *testing.T) {
	a := start(t)
	stored := make([]byte, 48)
	rand.Read(stored)
	file, derivedFile := filepath.Join(a.Dir, "..", "stored"), filepath.Join(a.Dir, "..", "derived")
	if err := os.WriteFile(file, stored, 0o600); err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	do := func(ok bool, unit string, args ...string) {
		t.Helper()
		out, err := a.run(unit, args...)
		if (err == nil) != ok {
			t.Errorf("agentctl %v: %v\n%s", args, err, out)
		}
		printed.Write(out)
	}
	unit := "billing.service"
	do(true, unit, "seal", "--name", "token", file)
	do(true, unit, "seal", "--name", "bound", "--associated-data", file, file)
	do(true, unit, "unseal", "--name", "token", "--out", file)
	do(true, unit, "key", "derive", "--label", "disk", "--length", "48", "--out", derivedFile)
	do(false, unit, "unseal", "--name", "bound") // other associated data
	do(false, unit, "unseal", "--name", "none")
	do(false, "other.service", "unseal", "--name", "token")
	do(false, unit, "key", "derive", "--label", "disk", "--length", "4800")
	do(true, unit, "key", "list")
	do(true, unit, "key", "show", "billing", "token")
	do(true, unit, "key", "rotate", "billing")
	do(true, unit, "key", "rewrap")
	do(true, unit, "status", "--json")
	do(true, unit, "log", "--json")
	do(true, unit, "key", "rotate-store-key")
	key, err := a.run(unit, "key", "store-key")
	if err != nil {
		t.Fatal(err)
	}
	do(false, unit, "key", "recover", "--identity", file, "--store-key", strings.TrimSpace(string(key))) // a secret where identities are meant
	do(false, unit, "key", "recover", "--identity", file)
	derived, err := os.ReadFile(derivedFile)
	if err != nil || len(derived) != 48 {
		t.Fatalf("%d bytes, %v", len(derived), err)
	}

	look := func(where string, b []byte) {
		t.Helper()
		for name, secret := range map[string][]byte{"stored": stored, "derived": derived} {
			for form, needle := range forms(secret) {
				if bytes.Contains(b, needle) {
					t.Errorf("%s: the %s secret is there %s", where, name, form)
				}
			}
		}
	}
	look("output and errors of agentctl", printed.Bytes())
	look("log of the agent", []byte(a.Output()))
	if !strings.Contains(a.Output(), "administration of sealed blobs") {
		t.Errorf("nothing was logged that could be looked at:\n%s", a.Output())
	}
	proc := fmt.Sprintf("/proc/%d/", a.PID())
	for _, name := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(proc + name)
		if err != nil {
			t.Fatal(err)
		}
		look(name, b)
	}
	files := 0
	err = filepath.WalkDir(a.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() && !d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if strings.HasPrefix(path, filepath.Join(a.Dir, "state")) && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(path)
		look(path, b)
		files++
		return err
	})
	if err != nil || files < 10 {
		t.Errorf("looked at %d files: %v", files, err)
	}

	// The process is made undumpable last. TestCore has a core written all the same.
	limits, err := os.ReadFile(proc + "limits")
	if err != nil || !noCore.Match(limits) {
		t.Errorf("core dumps are not off: %v\n%s", err, limits)
	}
	filter, err := os.ReadFile(proc + "coredump_filter")
	if err != nil || strings.Trim(string(filter), "0\n") != "" {
		t.Errorf("a core would hold memory of kinds %s: %v", filter, err)
	}
	smaps, err := os.ReadFile(proc + "smaps")
	if err != nil || !regexp.MustCompile(`(?m)^VmFlags:.* lo .*dd`).Match(smaps) {
		t.Errorf("no memory is locked and left out of core dumps: %v", err)
	}
	if err := syscall.Kill(a.PID(), syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := a.Client().Status(t.Context()); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the agent survived SIGABRT")
		}
	}
	a.Kill()
	look("what the agent says when it is aborted", []byte(a.Output()))
}

// TestOtherUser: the unit alone is not enough, nor is a user without it (cases 86, 87).
func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("becomes another user: for root")
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	a := start(t)
	file := filepath.Join(a.Dir, "..", "stored")
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := a.run("billing.service", "seal", "--name", "token", file); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, path := range []string{filepath.Dir(a.Dir), a.Dir} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{a.Socket(), a.AdminSocket()} {
		if err := os.Chmod(path, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(uid uint32, socket, path string) string {
		cmd := exec.Command(curl, "-sS", "--unix-socket", socket, "http://agentd"+path, "-d", `{"name":"token"}`)
		cmd.Env = []string{declared.Variable + "=billing.service"}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	for _, c := range []struct {
		uid          uint32
		socket, path string
		want         string
	}{
		{0, a.Socket(), "/v1/unseal", `{"data":"c2VjcmV0"}`},
		{12345, a.Socket(), "/v1/unseal", `"code":"no-app"`},
		{12345, a.AdminSocket(), "/v1/store/rewrap", `"code":"not-permitted"`},
		{0, a.AdminSocket(), "/v1/unseal", `"code":"not-permitted"`},
	} {
		if got := ask(c.uid, c.socket, c.path); !strings.Contains(got, c.want) {
			t.Errorf("uid %d, %s: %s, want %s", c.uid, c.path, got, c.want)
		}
	}
}
