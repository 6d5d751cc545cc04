// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// Gated is a time in which the gate guarded an application: what started of it was in the log
// before (docs/measurements.md, section 4).
type Gated struct {
	App     string          `json:"app"`              // name of the application
	Gate    evidence.Digest `json:"gate"`             // SHA-256 of the executable of the gate
	Enforce bool            `json:"enforce,omitzero"` // programs that the manifest does not list did not start
	Begin   Mark            `json:"begin"`            // record that began it
	Carried uint64          `json:"carried,omitzero"` // how often it went on after another agent had started
	End     *GateEnd        `json:"end,omitzero"`     // nil while it goes on

	Suspended bool `json:"suspended,omitzero"` // the end of an agent ended it, and the log does not say yet whether the gate went on
}

// GateEnd is the end of a time in which the gate guarded an application.
type GateEnd struct {
	Mark
	Why    GateEnding `json:"why"`             // what ended it
	Reason string     `json:"reason,omitzero"` // that the agent gave, of GateMissed
}

// A GateEnding says why the gate guarded an application no more.
type GateEnding string

// Endings of the gate.
const (
	GateMissed  GateEnding = "gap"     // programs may have started without the gate
	GateAgent   GateEnding = "agent"   // the agent stopped, crashed or started, and no gate went on
	GateDropped GateEnding = "dropped" // the gate guards it no more, or in another way
	GateFilled  GateEnding = "full"    // the log took no further record
)

// Started is a program that started and that no manifest of its application listed, then or
// later.
type Started struct {
	Record uint64          `json:"record"` // number of the record
	App    string          `json:"app"`    // name of the application
	Path   string          `json:"path"`   // path as the kernel showed it
	Digest evidence.Digest `json:"digest"` // SHA-256 of its content
}

// Guarded returns the time in which the gate guards an application now, nil if it does not, and
// the times before.
func (s *State) Guarded(app string) (now *Gated, before []*Gated) {
	for i := range s.Gated {
		switch g := &s.Gated[i]; {
		case g.App != app:
		case g.End == nil:
			now = g
		default:
			before = append(before, g)
		}
	}
	return now, before
}

// checkGated reports what the times of a state that was read from elsewhere contradict.
func (s *State) checkGated() error {
	goes := make(map[string]bool)
	for _, g := range s.Gated {
		if g.End != nil && !g.Suspended {
			continue
		}
		if goes[g.App] || g.End == nil && g.Suspended {
			return fmt.Errorf("app %q: two times in which the gate guards it", g.App)
		}
		goes[g.App] = true
	}
	return nil
}

type startedKey struct {
	app    string
	digest evidence.Digest
}

// gate is what a history knows of the gate.
type gate struct {
	open      map[string]int       // index in Gated of each time that goes on
	suspended map[string]int       // of each time that is suspended
	unlisted  map[startedKey][]int // indexes in Started

	manifests map[string]map[evidence.Digest]bool // executables in force, of applications that were asked for
}

func newGate(s *State) gate {
	g := gate{
		open: make(map[string]int), suspended: make(map[string]int), unlisted: make(map[startedKey][]int),
		manifests: make(map[string]map[evidence.Digest]bool),
	}
	for i := range s.Gated {
		if x := &s.Gated[i]; x.End == nil {
			g.open[x.App] = i
		} else if x.Suspended {
			g.suspended[x.App] = i
		}
	}
	for i, x := range s.Started {
		k := startedKey{x.App, x.Digest}
		g.unlisted[k] = append(g.unlisted[k], i)
	}
	return g
}

// ungate ends the time of an application.
func (h *history) ungate(app string, e GateEnd) {
	if i, ok := h.gate.open[app]; ok {
		h.Gated[i].End = &e
		delete(h.gate.open, app)
	}
}

func (h *history) ungateAll(e GateEnd) {
	for app := range h.gate.open {
		h.ungate(app, e)
	}
}

// suspend ends all times when an agent ends or starts. A gate that went on says so next.
func (h *history) suspend(number uint64) {
	for app, i := range h.gate.open {
		h.gate.suspended[app] = i
		h.Gated[i].Suspended = true
	}
	h.ungateAll(GateEnd{Mark: Mark{number, h.Time}, Why: GateAgent})
}

// resume says that a time that was suspended did not go on, or that it does now.
func (h *history) resume(app string) (i int, was bool) {
	i, was = h.gate.suspended[app]
	if was {
		h.Gated[i].Suspended = false
		delete(h.gate.suspended, app)
	}
	return i, was
}

func (h *history) resumeAll() {
	for app := range h.gate.suspended {
		h.resume(app)
	}
}

// gateStart takes a list of applications that the gate guards from now on.
func (h *history) gateStart(number uint64, e *pcr.GateStartEvent) {
	now := Mark{number, h.Time}
	listed := make(map[string]bool, len(e.Apps))
	for _, a := range e.Apps {
		listed[a.App] = true
		if i, ok := h.gate.open[a.App]; ok {
			if x := &h.Gated[i]; x.Enforce == a.Enforce && x.Gate == e.Gate {
				continue
			}
			h.ungate(a.App, GateEnd{Mark: now, Why: GateDropped})
		} else if i, ok := h.resume(a.App); ok && e.Carried {
			if x := &h.Gated[i]; x.Enforce == a.Enforce && x.Gate == e.Gate {
				x.End = nil
				x.Carried++
				h.gate.open[a.App] = i
				continue
			}
		}
		h.gate.open[a.App] = len(h.Gated)
		h.Gated = append(h.Gated, Gated{App: a.App, Gate: e.Gate, Enforce: a.Enforce, Begin: now})
	}
	for app := range h.gate.open {
		if !listed[app] {
			h.ungate(app, GateEnd{Mark: now, Why: GateDropped})
		}
	}
	h.resumeAll()
}

// gateGap takes a gap of the gate. What was suspended cannot go on after it.
func (h *history) gateGap(number uint64, e *pcr.GateGapEvent) {
	end := GateEnd{Mark: Mark{number, h.Time}, Why: GateMissed, Reason: e.Reason}
	if e.App != "" {
		h.ungate(e.App, end)
		h.resume(e.App)
		return
	}
	h.ungateAll(end)
	h.resumeAll()
}

// redeclared ends the times of applications whose declaration was withdrawn or replaced: the
// gate does not know all of their files yet.
func (h *history) redeclared(number uint64, before map[string]evidence.Digest) {
	for app := range h.gate.open {
		if now, ok := h.declared[app]; !ok || now != before[app] {
			h.ungate(app, GateEnd{Mark: Mark{number, h.Time}, Why: GateDropped})
		}
	}
	for app := range h.gate.suspended {
		if now, ok := h.declared[app]; !ok || now != before[app] {
			h.resume(app)
		}
	}
}

// exec takes a program that the manifest in force did not list.
func (h *history) exec(number uint64, e *pcr.ExecEvent) {
	if e.Refused {
		return
	}
	if h.lists(e.App, e.Digest) {
		return
	}
	k := startedKey{e.App, e.Digest}
	h.gate.unlisted[k] = append(h.gate.unlisted[k], len(h.Started))
	h.Started = append(h.Started, Started{Record: number, App: e.App, Path: e.Path, Digest: e.Digest})
}

// lists reports whether the manifest of an application in force lists an executable.
func (h *history) lists(app string, d evidence.Digest) bool {
	i, ok := h.apps[app]
	if !ok {
		return false
	}
	m, ok := h.gate.manifests[app]
	if !ok {
		m = make(map[evidence.Digest]bool, len(h.inForce[i]))
		for _, x := range h.inForce[i] {
			m[x] = true
		}
		h.gate.manifests[app] = m
	}
	return m[d]
}

// listed forgets the programs that a manifest lists: it is judged like every manifest.
func (h *history) listed(app string, digests []evidence.Digest) {
	delete(h.gate.manifests, app)
	for _, d := range digests {
		k := startedKey{app, d}
		for _, i := range h.gate.unlisted[k] {
			h.Started[i].App = "" // no application has this name
		}
		delete(h.gate.unlisted, k)
	}
}

// closeGate leaves out what was listed later, at the end of the log.
func (h *history) closeGate() {
	h.Started = slices.DeleteFunc(h.Started, func(x Started) bool { return x.App == "" })
	slices.SortStableFunc(h.Started, func(a, b Started) int { return cmp.Compare(a.Record, b.Record) })
}
