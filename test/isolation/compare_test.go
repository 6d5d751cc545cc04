// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"time"
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
func (m *machine) compare(work party, limit float64, attack ...party) {
	m.t.Helper()
	warm := work // what is made at the first request
	warm.Requests, warm.For = max(1, len(work.Replace)), 0
	start(m.t, warm).end(false)
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
	running := startAll(m.t, attack...)
	during := start(m.t, work).end(false)
	for _, x := range running {
		a := x.end(true)
		m.t.Logf("an attacker: %d answered, median %v, others %v", len(a.Times), a.median().Round(time.Microsecond), a.Refused)
	}
	ratio := float64(during.median()) / float64(max(before.median(), time.Microsecond))
	m.t.Logf("%s %s: median %v alone, %v attacked (%d): %.1f times", work.Method, work.Path, before.median().Round(time.Microsecond), during.median().Round(time.Microsecond), len(during.Times), ratio)
	if len(before.Refused) > 0 || len(during.Refused) > 0 {
		m.t.Errorf("refused alone: %v, attacked: %v", before.Refused, during.Refused)
	}
	return ratio
}
