// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"crypto/ed25519"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify"
)

// asking is the application that the evidence is made for.
var asking = evidencetest.App("billing", "billing.service", "billing", "billing 1")

// sequences makes logs of the gate by chance, which keep the order that a log must have.
type sequences struct {
	*rand.Rand
	key     byte // of the agent that runs
	stopped bool
}

// some returns most of these apps, each with a byte that is mostly the same.
func (s *sequences) some() map[string]byte {
	out := make(map[string]byte)
	for _, app := range []string{"a", "b", "c"} {
		if s.IntN(6) > 0 {
			out[app] = byte(1 + s.IntN(6)/5)
		}
	}
	return out
}

func (s *sequences) agent(t pcr.EventType) pcr.Event {
	if t == pcr.EventAgent {
		s.key, s.stopped = 'a'+(s.key+1)%26, false
	}
	e := evidencetest.Agent(t, "1.0.0", evidencetest.Key(s.key))
	e.Agent.Declarations = pcr.Declarations{}
	declared := s.some()
	declared[asking.App.App] = 0
	for _, app := range slices.Sorted(maps.Keys(declared)) {
		d := pcr.Declaration{App: app, Digest: evidence.Digest{declared[app]}}
		if app == asking.App.App {
			d.Digest = asking.App.Declaration
		}
		e.Agent.Declarations = append(e.Agent.Declarations, d)
	}
	return e
}

// event returns the next event. The last one may be that nothing more is recorded.
func (s *sequences) event(last bool) pcr.Event {
	n := s.IntN(20)
	switch {
	case s.stopped || n < 3:
		return s.agent(pcr.EventAgent)
	case n < 6:
		return s.agent(pcr.EventReload)
	case n < 8:
		s.stopped = true
		return evidencetest.Stop(evidencetest.Key(s.key))
	case n < 12:
		return pcr.Event{Type: pcr.EventGateGap, GateGap: &pcr.GateGapEvent{App: []string{"", "a", "b", "c"}[s.IntN(4)], Reason: "chance"}}
	case n < 15 && last:
		return pcr.Event{Type: pcr.EventFull}
	}
	e := &pcr.GateStartEvent{Gate: evidence.Digest{byte(1 + s.IntN(2)/(1+s.IntN(3)))}, Carried: s.IntN(3) > 0}
	enforced := s.some()
	for _, app := range slices.Sorted(maps.Keys(enforced)) {
		e.Apps = append(e.Apps, pcr.GatedApp{App: app, Enforce: enforced[app] > 1})
	}
	return pcr.Event{Type: pcr.EventGateStart, GateStart: e}
}

// said writes down what is guarded and what is suspended.
func said(guarded, suspended map[string]guard) string {
	var b strings.Builder
	for word, m := range map[string]map[string]guard{"guarded": guarded, "suspended": suspended} {
		for app, g := range m {
			fmt.Fprintf(&b, "%s %s %t %d\n", word, app, g.enforce, g.gate[0])
		}
	}
	lines := strings.Split(b.String(), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// appraised returns the same, as a verifier reads it in evidence with these events in its log.
func appraised(t *testing.T, v *verify.Verifier, key ed25519.PrivateKey, events []pcr.Event) string {
	t.Helper()
	r := evidencetest.New()
	r.AgentKey, r.Events = key, events
	claims, err := v.Verify(r.Encode(t), verify.Expect{Nonce: evidencetest.Nonce}, evidencetest.Time)
	if err != nil {
		t.Fatal(err)
	}
	guarded, suspended := make(map[string]guard), make(map[string]guard)
	for _, g := range claims.Log.Gated {
		switch {
		case g.End == nil:
			guarded[g.App] = guard{enforce: g.Enforce, gate: g.Gate}
		case g.Suspended:
			suspended[g.App] = guard{enforce: g.Enforce, gate: g.Gate}
		}
	}
	return said(guarded, suspended)
}

// TestAgentReadsAsAVerifier: of any log, agent and verifier say the same: what is guarded, what is
// suspended until a gate says that it went on, and how.
func TestAgentReadsAsAVerifier(t *testing.T) {
	p, err := verify.ParsePolicy(fmt.Appendf(nil, "version = 1\ntolerate_gaps = true\n[[launch]]\nmeasurement = \"%x\"\nkind = \"plain\"\ncovers = \"firmware\"\n", evidencetest.Measurement))
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.New(p, verify.Config{Roots: verify.Roots{SNP: evidencetest.Roots(t)}})
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 300
	states := make(map[string]bool)
	for seed := range uint64(rounds) {
		s := &sequences{Rand: rand.New(rand.NewPCG(seed, 0)), key: 'a'}
		events := []pcr.Event{s.agent(pcr.EventAgent), asking}
		for n := s.IntN(14); n >= 0; n-- {
			events = append(events, s.event(n == 0))
		}
		if s.stopped { // an agent makes the evidence
			events = append(events, s.agent(pcr.EventAgent))
		}
		h := newHistory()
		for i := range events {
			h.follow(&events[i])
		}
		ours, theirs := said(h.guarded, h.suspended), appraised(t, v, evidencetest.Key(s.key), events)
		if ours != theirs {
			t.Fatalf("sequence %d: the agent says%s\nand a verifier%s", seed, ours, theirs)
		}
		states[ours] = true
	}
	if len(states) < rounds/8 {
		t.Errorf("%d different ends of %d sequences: they show little", len(states), rounds)
	}
}
