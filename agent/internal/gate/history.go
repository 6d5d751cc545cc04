// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// guard is what the log says of a guarded app.
type guard struct {
	enforce     bool
	gate        evidence.Digest
	declaration evidence.Digest // in force when it began
}

// history is what the log says, as docs/measurements.md, section 4, has a verifier read it.
type history struct {
	declared  map[string]evidence.Digest
	guarded   map[string]guard
	suspended map[string]guard
}

func newHistory() history {
	return history{declared: make(map[string]evidence.Digest), guarded: make(map[string]guard), suspended: make(map[string]guard)}
}

// follow follows one record.
func (h *history) follow(e *pcr.Event) {
	switch {
	case e.GateStart != nil:
		clear(h.guarded)
		for _, a := range e.GateStart.Apps {
			h.guarded[a.App] = guard{a.Enforce, e.GateStart.Gate, h.declared[a.App]}
		}
		clear(h.suspended)
	case e.GateGap != nil && e.GateGap.App != "":
		delete(h.guarded, e.GateGap.App)
		delete(h.suspended, e.GateGap.App)
	case e.GateGap != nil, e.Type == pcr.EventFull:
		clear(h.guarded)
		clear(h.suspended)
	case e.Stop != nil:
		h.suspend()
	case e.Agent != nil:
		if e.Type == pcr.EventAgent {
			h.suspend()
		}
		h.declare(e.Agent.Declarations)
	}
}

// suspend suspends what is guarded: an agent ended.
func (h *history) suspend() {
	for app, g := range h.guarded {
		h.suspended[app] = g
	}
	clear(h.guarded)
}

// declare drops what is declared otherwise now.
func (h *history) declare(list pcr.Declarations) {
	clear(h.declared)
	for _, d := range list {
		h.declared[d.App] = d.Digest
	}
	for _, m := range []map[string]guard{h.guarded, h.suspended} {
		for app, g := range m {
			if now, ok := h.declared[app]; !ok || now != g.declaration {
				delete(m, app)
			}
		}
	}
}

// concerns reports whether a gap of an app, or of all, says something new.
func (h *history) concerns(app string) bool {
	if app == "" {
		return len(h.guarded)+len(h.suspended) > 0
	}
	_, guarded := h.guarded[app]
	_, suspended := h.suspended[app]
	return guarded || suspended
}
