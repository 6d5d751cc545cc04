// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/test/simulated"
)

// usual is how long the usual work of a victim goes on at least: long enough for attackers to
// have all that they can get.
const usual = 700 * time.Millisecond

// The usual work of a victim.
func (m *machine) asVictim(p party) party {
	p.UID, p.Group, p.Unit = number(m.t, m.victim.Uid), m.group, "victim.service"
	p.Socket, p.Connections = m.Socket(), 1
	return p
}

func (m *machine) derive() party {
	return m.asVictim(party{Method: "POST", Path: "/v1/keys/derive", Body: `{"label":"disk","length":32}`, Requests: 100, For: usual, Pause: time.Millisecond})
}

func (m *machine) anchored() party {
	return m.asVictim(party{Method: "POST", Path: "/v1/evidence", Body: `{"nonce":"%N","freshness":"anchored","log":"none"}`, Requests: 100, For: usual, Pause: time.Millisecond})
}

// measure is what a unit does that starts.
func (m *machine) measure() party {
	return party{Socket: m.AdminSocket(), Connections: 1, New: true, Method: "POST", Path: "/v1/apps/victim/measure", Requests: 30, For: usual, Pause: 5 * time.Millisecond}
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

// asOther is an attack by the application other.
func (m *machine) asOther(p party) party {
	p.UID, p.Group, p.Unit, p.Socket = number(m.t, m.other.Uid), m.group, "other.service", m.Socket()
	return p
}

// tries is how often a comparison is made: the machine of the test may be busy with something
// else in one half of it. A victim that is held up is held up each time.
const tries = 3

// compare runs work alone, and again while parties attack. No request of the work may be
// refused, and its median during the attack is at most limit times that before.
//
// The processes of attackers take processors too, which on a machine with few of them is not a
// fault of the agent. If the work takes longer, it is therefore compared with what it takes while
// the same parties attack another agent beside.
func (m *machine) compare(work party, limit float64, attack ...party) {
	m.t.Helper()
	warm := work // what is made at the first request
	warm.Requests, warm.For = max(1, len(work.Replace)), 0
	start(m.t, warm).end(false)
	best := 0.0
	var beside []party
	for n := range 2 * tries {
		if n == tries {
			if beside = m.beside(attack); beside == nil {
				break
			}
		}
		if ratio := m.ratio(work, attack, beside); n == 0 || ratio < best {
			best = ratio
		}
		if best <= limit || m.t.Failed() {
			return
		}
	}
	m.t.Errorf("attacked, the median is %.1f times that alone, want at most %g", best, limit)
}

// beside starts a machine like m, and returns attackers of it that do what these do to m. It
// returns nil if they change files, which both would read, or if m is not a usual one.
func (m *machine) beside(attack []party) []party {
	m.t.Helper()
	if m.manager != nil || m.change != nil {
		return nil
	}
	for _, p := range attack {
		if len(p.Touch)+len(p.Replace) > 0 {
			return nil
		}
	}
	dir, err := os.MkdirTemp("", "agentd-")
	must(m.t, err)
	m.t.Cleanup(func() { os.RemoveAll(dir) })
	other := *m
	other.Machine = &simulated.Machine{Dir: filepath.Join(dir, "m")}
	config, err := os.ReadFile(filepath.Join(m.Dir, "config.toml"))
	must(m.t, errors.Join(err, os.Chmod(dir, 0o755), os.CopyFS(filepath.Join(other.Dir, "apps.d"), os.DirFS(filepath.Join(m.Dir, "apps.d"))),
		os.WriteFile(filepath.Join(other.Dir, "config.toml"), config, 0o600)))
	other.start()
	out := slices.Clone(attack)
	for i := range out {
		out[i].Socket = map[string]string{m.Socket(): other.Socket(), m.AdminSocket(): other.AdminSocket()}[out[i].Socket]
	}
	return out
}

// ratio returns how much longer the work takes while parties attack than while those beside attack
// another machine.
func (m *machine) ratio(work party, attack, beside []party) float64 {
	m.t.Helper()
	running := startAll(m.t, beside...)
	before := start(m.t, work).end(false)
	for _, x := range running {
		x.end(true)
	}
	running = startAll(m.t, attack...)
	during := start(m.t, work).end(false)
	for _, x := range running {
		a := x.end(true)
		m.t.Logf("an attacker: %d answered, median %v, others %v", len(a.Times), a.median().Round(time.Microsecond), a.Refused)
	}
	ratio := float64(during.median()) / float64(max(before.median(), time.Microsecond))
	m.t.Logf("%s %s: median %v with %d attackers of another agent, %v attacked (%d): %.1f times", work.Method, work.Path, before.median().Round(time.Microsecond), len(beside), during.median().Round(time.Microsecond), len(during.Times), ratio)
	if len(before.Refused) > 0 || len(during.Refused) > 0 {
		m.t.Errorf("refused alone: %v, attacked: %v", before.Refused, during.Refused)
	}
	return ratio
}
