// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cvm-agentd/agentd/test/simulated"
)

// shared is the one machine of all tests, and the library in TypeScript as an application installs
// it.
var shared struct {
	machine *simulated.Machine
	dir     string
	install sync.Once
	failed  error
}

func TestMain(m *testing.M) {
	os.Exit(simulated.Main(m, func(commands, dir string) (func() error, error) {
		shared.dir = dir
		machine, err := simulated.Start(commands, filepath.Join(dir, "m"), "", "--declare-identity-without-checking")
		if err != nil {
			return nil, err
		}
		shared.machine = machine
		if err := machine.Declare("billing", "/bin/sh"); err != nil {
			return machine.Stop, err
		}
		_, err = machine.Admin().Reload(context.Background())
		return machine.Stop, err
	}))
}

// machine returns the simulated machine, on which the app billing is measured.
func machine(t *testing.T) *simulated.Machine {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a simulated machine: not with -short")
	}
	if shared.machine == nil {
		t.Skip(simulated.ErrNoTPM)
	}
	if _, err := shared.machine.Admin().Measure(t.Context(), "billing"); err != nil {
		t.Fatal(err)
	}
	return shared.machine
}

// A language runs programs that use a library.
type language struct {
	name    string
	suffix  string // of programs
	program string // that runs them
	// folder is where its programs find the library.
	folder func(t *testing.T) string
}

var languages = []language{
	{"Python", ".py", "python3", func(t *testing.T) string { return t.TempDir() }},
	{"TypeScript", ".mjs", "node", installed},
}

// each runs a test for each language.
func each(t *testing.T, f func(t *testing.T, l language)) {
	if testing.Short() {
		t.Skip("runs programs in other languages: not with -short")
	}
	for _, l := range languages {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			f(t, l)
		})
	}
}

// look skips the test if the program is not installed.
func (l language) look(t *testing.T) {
	t.Helper()
	_, python := exec.LookPath("python3")
	_, node := exec.LookPath("node")
	if l.program == "python3" && python != nil || l.program == "node" && node != nil {
		t.Skipf("%s is not installed", l.program)
	}
}

// run runs a program of testdata, or one that text contains, and returns what it prints.
func (l language) run(t *testing.T, name, text string, variables []string, args ...string) []byte {
	t.Helper()
	l.look(t)
	b := []byte(text)
	if text == "" {
		var err error
		if b, err = os.ReadFile(filepath.Join("testdata", name+l.suffix)); err != nil {
			t.Fatal(err)
		}
	}
	library, err := filepath.Abs("../../clients/python")
	if err != nil {
		t.Fatal(err)
	}
	dir := l.folder(t)
	program := filepath.Join(dir, name+l.suffix)
	if err := os.WriteFile(program, b, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), l.program, append([]string{program}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "PYTHONPATH="+library, "PYTHONDONTWRITEBYTECODE=1", "AGENTD_SIM_DECLARED_UNIT=billing.service"), variables...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%s: %v\n%s%s", program, err, out, stderr.Bytes())
	}
	return out
}

// sockets returns the variables that name the machine.
func sockets(m *simulated.Machine) []string {
	return []string{"AGENTD_SOCKET=" + m.Socket(), "AGENTD_ADMIN_SOCKET=" + m.AdminSocket()}
}

// installed returns a folder of an application that has the library in TypeScript, out of the package
// that clients/typescript/pack.sh makes.
func installed(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("tsc"); err != nil {
		t.Skip("tsc is not installed")
	}
	dir := filepath.Join(shared.dir, "app")
	shared.install.Do(func() {
		packed := filepath.Join(shared.dir, "packed")
		out, err := exec.Command("../../clients/typescript/pack.sh", packed).CombinedOutput()
		if err != nil {
			shared.failed = errors.New(string(out))
			return
		}
		files, err := filepath.Glob(filepath.Join(packed, "*.tgz"))
		modules := filepath.Join(dir, "node_modules", "agentd")
		if err != nil || len(files) != 1 {
			shared.failed = errors.New("pack.sh did not make one package")
		} else if err := os.MkdirAll(modules, 0o755); err != nil {
			shared.failed = err
		} else if out, err := exec.Command("tar", "-xzf", files[0], "-C", modules, "--strip-components=1").CombinedOutput(); err != nil {
			shared.failed = errors.New(string(out))
		}
	})
	if shared.failed != nil {
		t.Fatal(shared.failed)
	}
	return dir
}
