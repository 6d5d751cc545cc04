// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/test/simulated"
)

var shared struct{ commands, platform string }

func TestMain(m *testing.M) {
	if text := os.Getenv(partyVariable); text != "" {
		if err := runParty(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
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

// A machine has an application for each of two users, and is open to the users of a group.
type machine struct {
	*simulated.Machine
	t             *testing.T
	group         uint32
	victim, other *user.User // of the units victim.service and other.service
}

// switchOn starts a machine on which apps may write as often as they want. It skips the test
// if this process cannot become other users.
func switchOn(t *testing.T, flags ...string) *machine {
	t.Helper()
	return switchOnWriting(t, 65536, flags...)
}

// switchOnWriting starts a machine on which an app may write so often a minute.
func switchOnWriting(t *testing.T, perMinute int, flags ...string) *machine {
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
	must(t, errors.Join(os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "apps.d"), 0o755)))
	m := &machine{t: t}
	for name, u := range map[string]**user.User{"victim": &m.victim, "other": &m.other} {
		login := map[string]string{"victim": "games", "other": "man"}[name]
		if *u, err = user.Lookup(login); err != nil {
			t.Skipf("this test uses the users that Debian makes: %v", err)
		}
		text := fmt.Sprintf("unit = \"%s.service\"\nuser = %q\nfiles = [\"/bin/true\"]\n", name, login)
		must(t, os.WriteFile(filepath.Join(dir, "apps.d", name+".toml"), []byte(text), 0o644))
	}
	group, err := user.LookupGroup("users")
	if err != nil {
		t.Skip(err)
	}
	m.group = number(t, group.Gid)
	config := fmt.Sprintf("[sockets]\nclient_group = \"users\"\n[keys]\nlose_on_hardware_change = true\nwrites_per_minute = %d\n", perMinute)
	must(t, os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o600))
	m.Machine, err = simulated.Start(shared.commands, dir, shared.platform, slices.Concat([]string{"--declare-identity-without-checking"}, flags)...)
	if errors.Is(err, simulated.ErrNoTPM) {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func number(t *testing.T, text string) uint32 {
	n, err := strconv.ParseUint(text, 10, 32)
	must(t, err)
	return uint32(n)
}

// The usual work of a victim.
func (m *machine) asVictim(p party) party {
	p.UID, p.Group, p.Unit = number(m.t, m.victim.Uid), m.group, "victim.service"
	p.Socket, p.Connections = m.Socket(), 1
	return p
}

func (m *machine) derive() party {
	return m.asVictim(party{Method: "POST", Path: "/v1/keys/derive", Body: `{"label":"disk","length":32}`, Requests: 200, Pause: time.Millisecond})
}

func (m *machine) anchored() party {
	return m.asVictim(party{Method: "POST", Path: "/v1/evidence", Body: `{"nonce":"%N","freshness":"anchored","log":"none"}`, Requests: 200, Pause: time.Millisecond})
}

func (m *machine) measure() party {
	return party{Socket: m.AdminSocket(), Connections: 1, New: true, Method: "POST", Path: "/v1/apps/victim/measure", Requests: 30}
}

// attackers are the users who attack: n of them, none of which is the victim.
func (m *machine) attackers(n int, p party) []party {
	out := make([]party, n)
	for i := range out {
		out[i] = p
		out[i].UID, out[i].Group, out[i].Socket = 4000+uint32(i), m.group, m.Socket()
	}
	return out
}

// tries is how often a comparison is made: the machine of the test may be busy with something
// else in one half of it. A victim that is held up is held up each time.
const tries = 3

// compare runs work alone, and again while parties attack. No request of the work may be
// refused, and its median during the attack is at most limit times that before.
func (m *machine) compare(work party, limit float64, attack ...party) {
	m.t.Helper()
	start(m.t, work).end(false) // what is made at the first request
	best := 0.0
	for n := range tries {
		if ratio := m.ratio(work, attack); n == 0 || ratio < best {
			best = ratio
		}
		if best <= limit || m.t.Failed() {
			return
		}
	}
	m.t.Errorf("attacked, the median is %.1f times that alone, want at most %g", best, limit)
}

// ratio returns how much longer the work takes while parties attack.
func (m *machine) ratio(work party, attack []party) float64 {
	m.t.Helper()
	before := start(m.t, work).end(false)
	var running []*process
	for _, p := range attack {
		running = append(running, start(m.t, p))
	}
	during := start(m.t, work).end(false)
	for _, x := range running {
		a := x.end(true)
		m.t.Logf("an attacker: %d answered, median %v, others %v", len(a.Times), a.median().Round(time.Microsecond), a.Refused)
	}
	ratio := float64(during.median()) / float64(max(before.median(), time.Microsecond))
	m.t.Logf("%s %s: median %v alone, %v attacked: %.1f times", work.Method, work.Path, before.median().Round(time.Microsecond), during.median().Round(time.Microsecond), ratio)
	if len(before.Refused) > 0 || len(during.Refused) > 0 {
		m.t.Errorf("refused alone: %v, attacked: %v", before.Refused, during.Refused)
	}
	return ratio
}
