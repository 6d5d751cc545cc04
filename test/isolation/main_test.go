// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/test/hangfs"
	"github.com/cvm-agentd/agentd/test/simulated"
)

var shared struct{ commands, platform string }

func TestMain(m *testing.M) {
	if err := hangfs.OwnNamespace(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if text := os.Getenv(partyVariable); text != "" {
		if err := runParty(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// Commands with the race detector take ten times as long for some work: this package compares
	// times, and builds its own.
	if err := os.Unsetenv(simulated.Binaries); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(simulated.Main(m, func(commands, dir string) (stop func() error, err error) {
		shared.commands = commands
		shared.platform, err = simulated.Platform(commands, dir)
		return nil, err
	}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// patience is how long a test waits for what must come: it ends only one that fails.
const patience = 2 * time.Minute

// until waits until what is true.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%v later, not yet: %s", patience, what)
		}
	}
}

// A machine has an application for each of two users, and is open to the users of a group.
type machine struct {
	*simulated.Machine
	t             *testing.T
	group         uint32
	victim, other *user.User // of the units victim.service and other.service
	files         string     // folder of what the applications change

	manager *simulated.Manager    // of the service, if it has one
	change  func(*exec.Cmd) error // of the command of the agent, if not nil
	args    []string              // of the agent
}

// setup is how a machine differs from the usual one.
type setup struct {
	config string   // further lines of its configuration, by tables
	flags  []string // of the simulator
}

// switchOn starts a machine on which apps may write as often as they want. It skips the test
// if this process cannot become other users.
func switchOn(t *testing.T, flags ...string) *machine {
	t.Helper()
	return switchOnAs(t, setup{flags: flags})
}

func switchOnAs(t *testing.T, s setup) *machine {
	t.Helper()
	m := prepare(t, s)
	m.start()
	return m
}

// prepare makes the folder of a machine.
func prepare(t *testing.T, s setup) *machine {
	t.Helper()
	if testing.Short() {
		t.Skip("floods a simulated machine: not with -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can start processes of other users")
	}
	dir, err := os.MkdirTemp("", "agentd-") // short: so is the path of a socket
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &machine{Machine: &simulated.Machine{Dir: filepath.Join(dir, "m")}, t: t, files: filepath.Join(dir, "files")}
	must(t, errors.Join(os.Chmod(dir, 0o755), os.Mkdir(m.files, 0o755), os.MkdirAll(filepath.Join(m.Dir, "apps.d"), 0o755)))
	for name, u := range map[string]**user.User{"victim": &m.victim, "other": &m.other} {
		login := map[string]string{"victim": "games", "other": "man"}[name]
		if *u, err = user.Lookup(login); err != nil {
			t.Skipf("this test uses the users that Debian makes: %v", err)
		}
		m.declare(name, login, "/bin/true")
	}
	group, err := user.LookupGroup("users")
	if err != nil {
		t.Skip(err)
	}
	m.group = number(t, group.Gid)
	m.args = append([]string{"--declare-identity-without-checking"}, s.flags...)
	m.configure(s.config)
	return m
}

// configure writes the configuration: the usual one with further lines of its tables.
func (m *machine) configure(further string) {
	m.t.Helper()
	text := "[sockets]\nclient_group = \"users\"\n"
	keys := "lose_on_hardware_change = true\nwrites_per_minute = 65536\n"
	if before, more, ok := strings.Cut(further, "[keys]\n"); ok {
		further, keys = before, "lose_on_hardware_change = true\n"+more
	}
	must(m.t, os.WriteFile(filepath.Join(m.Dir, "config.toml"), []byte(text+further+"[keys]\n"+keys), 0o600))
}

// declare declares an application of these files.
func (m *machine) declare(name, login string, files ...string) {
	m.t.Helper()
	m.declareAs("files", name, login, files)
}

// declareAs declares an application of files or directories.
func (m *machine) declareAs(key, name, login string, files []string) {
	m.t.Helper()
	var quoted []string
	for _, f := range files {
		quoted = append(quoted, strconv.Quote(f))
	}
	text := fmt.Sprintf("unit = \"%s.service\"\nuser = %q\n%s = [%s]\n", name, login, key, strings.Join(quoted, ", "))
	must(m.t, os.WriteFile(filepath.Join(m.Dir, "apps.d", name+".toml"), []byte(text), 0o644))
}

// start starts the machine, which must stop well at the end of the test.
func (m *machine) start() {
	m.t.Helper()
	x := m.launch()
	m.t.Cleanup(func() {
		if err := x.Stop(); err != nil {
			m.t.Error(err)
		}
	})
}

// launch starts the machine. The caller stops it.
func (m *machine) launch() *simulated.Machine {
	m.t.Helper()
	x, err := simulated.StartChanged(m.change, m.manager, shared.commands, m.Dir, shared.platform, m.args...)
	if errors.Is(err, simulated.ErrNoTPM) {
		m.t.Skip(err)
	}
	must(m.t, err)
	m.Machine = x
	return x
}

func number(t *testing.T, text string) uint32 {
	n, err := strconv.ParseUint(text, 10, 32)
	must(t, err)
	return uint32(n)
}
