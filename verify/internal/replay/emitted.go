// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// Emitted is what an application had recorded, each value once. That the words are true, the
// application says; who it is, the agent.
type Emitted struct {
	App     string          `json:"app"`              // name of the application
	Unit    string          `json:"unit,omitzero"`    // systemd system unit of the process; empty if it is in a container
	Engine  string          `json:"engine,omitzero"`  // of the container of the process; empty if it is in a unit
	UID     uint32          `json:"uid"`              // of the process
	Domain  string          `json:"domain"`           // what the words are about, as the application calls it
	Value   evidence.Digest `json:"value"`            // the digest that was recorded, or SHA-256 of the content
	Content evidence.Bytes  `json:"content,omitzero"` // absent if a digest was recorded, and of all but the last 256
	First   uint64          `json:"first"`            // number of the first record of it
	Last    uint64          `json:"last"`             // number of the last one
	Time    uint64          `json:"time"`             // of the last one: CLOCK_BOOTTIME of the guest in milliseconds
	Count   uint64          `json:"count"`            // records of it
}

// keptContents is how many contents a state keeps. Rules of a policy compare values, which all stay.
const keptContents = 256

// emittedKey tells apart what is recorded once.
type emittedKey struct {
	app, unit, engine, domain string
	uid                       uint32
	value                     evidence.Digest
}

func (e *Emitted) key() emittedKey {
	return emittedKey{e.App, e.Unit, e.Engine, e.Domain, e.UID, e.Value}
}

// emit adds what an application had recorded. The agent records it for an application alone that
// is declared, and for a process in a container only if that was recorded as the application.
func (h *history) emit(number uint64, e *pcr.EmittedEvent) error {
	x := Emitted{App: e.App, Unit: e.Unit, UID: e.UID, Domain: e.Domain, Value: e.Value(), First: number}
	if e.Container != nil {
		x.Engine = e.Container.Engine
	}
	i, known := h.emitted[x.key()]
	if !known {
		i = len(h.Emitted)
		h.emitted[x.key()] = i
		h.Emitted = append(h.Emitted, x)
	}
	all := &h.Emitted[i]
	all.Last, all.Time, all.Count = number, h.Time, all.Count+1
	if e.Content != nil {
		all.Content = e.Content
	}
	if _, declared := h.declared[e.App]; !declared {
		return fmt.Errorf("it is an event of %q, which no declaration in force names", e.App)
	}
	if c := e.Container; c != nil {
		if in := h.container(&evidence.Container{Engine: c.Engine, ID: c.ID}); in == nil || in.App != e.App {
			return fmt.Errorf("it is an event of %q from container %q of %s, which is not of that application", e.App, c.ID, c.Engine)
		}
	}
	return nil
}

// fewContents removes all contents but those that were recorded last.
func (s *State) fewContents() {
	var with []*Emitted
	for i := range s.Emitted {
		if s.Emitted[i].Content != nil {
			with = append(with, &s.Emitted[i])
		}
	}
	slices.SortFunc(with, func(a, b *Emitted) int { return cmp.Compare(b.Last, a.Last) })
	for _, x := range with[min(len(with), keptContents):] {
		x.Content = nil
	}
}

// LastEmitted returns what an application had recorded last in a domain, nil if nothing.
func (s *State) LastEmitted(app, domain string) (last *Emitted) {
	for i := range s.Emitted {
		if x := &s.Emitted[i]; x.App == app && x.Domain == domain && (last == nil || x.Last > last.Last) {
			last = x
		}
	}
	return last
}
