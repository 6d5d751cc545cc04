// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// coverage is what the log says of one app, as a verifier reads it (docs/measurements.md,
// section 4): whether an interval of coverage is open, and since when. The state of an app
// never claims more.
type coverage struct {
	last    *outcome // of the app's last [pcr.AppEvent]; nil if there is none, or it is not known
	changed uint64   // time of that record
	reason  string   // of the last record about the app, if that says that it is not measured

	record uint64 // number of the last record about the app
	base   uint64 // number of the last one that did not only carry coverage on
	known  bool   // there is one
	at     uint64 // its time

	open    bool   // an interval is open
	since   uint64 // when it began, by the clock of records
	from    uint64 // number of the record that began it
	carried uint64 // how often it was carried over an interruption

	ended string // why none is open, for people
	// Nothing but an end of the agent or a gap ended the last interval: it may be carried.
	carriable bool
}

// outcome is what an [pcr.AppEvent] says.
type outcome struct {
	declaration evidence.Digest
	digest      evidence.Digest
	uid         uint32 // of the declared user
	users       string // the further users, in words that differ if they do
}

// outcomeOf returns what an event says.
func outcomeOf(e *pcr.AppEvent) outcome {
	o := outcome{declaration: e.Declaration, digest: e.Digest}
	if e.UID != nil {
		o.uid = *e.UID
	}
	if len(e.Users) > 0 {
		o.users = fmt.Sprintf("%#v", e.Users)
	}
	return o
}

// follow makes c say what a record about its app says.
func (c *coverage) follow(number uint64, e *pcr.Event) {
	c.record, c.known, c.at, c.reason = number, true, e.Time, ""
	if e.Same == nil || !e.Same.Carried {
		c.base = number
	}
	switch {
	case e.App != nil:
		if c.last != nil && c.last.declaration != e.App.Declaration {
			c.open = false
		}
		c.last, c.changed = new(outcomeOf(e.App)), e.Time
		c.begin(number, e.Time)
	case e.Same != nil && e.Same.Carried:
		c.open = true
		c.carried++
	case e.Same != nil:
		c.begin(number, e.Time)
	case e.Unmeasured != nil:
		c.reason = e.Unmeasured.Reason
		c.interrupt(c.reason, false)
	}
}

// begin begins an interval, unless one is open.
func (c *coverage) begin(number, at uint64) {
	if !c.open {
		c.open, c.since, c.from, c.carried = true, at, number, 0
	}
}

// interrupt ends the interval that is open. What was ended by something that cannot be carried
// over stays so.
func (c *coverage) interrupt(why string, carriable bool) {
	if c.open {
		c.open, c.ended, c.carriable = false, why, carriable
	}
	c.carriable = c.carriable && carriable
}

// doubt forgets what the log says: whether it took a record is not known.
func (c *coverage) doubt() {
	c.last, c.reason = nil, ""
	c.interrupt(endedDoubt, false)
}

// Reasons why an interval ended.
const (
	endedStopped = "the agent was stopped"
	endedCrashed = "the agent ended without a record of it"
	endedGap     = "changes may have been missed"
	endedReload  = "its declaration was withdrawn or changed"
	endedFull    = "the log is full"
	endedDoubt   = "it is not known whether the log took a record"
)

// history is what this boot's log says of all apps, before this process.
type history struct {
	apps    map[string]*coverage
	stopped bool // the last record says that the agent stopped
}

// follow follows one record.
func (h *history) follow(number uint64, e *pcr.Event) {
	switch {
	case e.App != nil:
		h.of(e.App.App).follow(number, e)
	case e.Same != nil:
		h.of(e.Same.App).follow(number, e)
	case e.Unmeasured != nil:
		h.of(e.Unmeasured.App).follow(number, e)
	case e.Type == pcr.EventAgent:
		h.interrupt(h.end(), true)
		h.declared(e.Agent.Declarations)
	case e.Type == pcr.EventReload:
		h.declared(e.Agent.Declarations)
	case e.Type == pcr.EventStop:
		h.interrupt(endedStopped, true)
	case e.Type == pcr.EventGap:
		h.interrupt(endedGap, true)
	case e.Type == pcr.EventFull:
		h.interrupt(endedFull, false)
	}
	h.stopped = e.Type == pcr.EventStop
}

// end returns how the agent before ended.
func (h *history) end() string {
	if h.stopped {
		return endedStopped
	}
	return endedCrashed
}

func (h *history) of(app string) *coverage {
	if h.apps[app] == nil {
		h.apps[app] = &coverage{}
	}
	return h.apps[app]
}

func (h *history) interrupt(why string, carriable bool) {
	for _, c := range h.apps {
		c.interrupt(why, carriable)
	}
}

// declared drops what was not declared for a while, which is recorded anew, and ends the
// intervals of apps that were declared otherwise.
func (h *history) declared(declarations []pcr.Declaration) {
	now := make(map[string]evidence.Digest)
	for _, d := range declarations {
		now[d.App] = d.Digest
	}
	for app, c := range h.apps {
		digest, still := now[app]
		switch {
		case !still:
			delete(h.apps, app)
		case c.last == nil || c.last.declaration != digest:
			c.interrupt(endedReload, false)
		}
	}
}

// interruptAll ends the intervals of all apps, as a record did, or may have done, that concerns
// all of them. Nothing is claimed of any until it was measured again. The caller holds mu.
func (a *Apps) interruptAll(why string, carriable bool) {
	for _, x := range a.apps {
		x.cover.interrupt(why, carriable)
		if x.measured {
			x.unmeasured(why + ": it is not measured again yet")
		}
	}
}

// doubtAll does that for a record of which it is not known whether the log took it. The caller
// holds mu.
func (a *Apps) doubtAll() {
	a.interruptAll(endedDoubt, false)
	for _, x := range a.apps {
		x.cover.doubt()
	}
}

// tookNothing ends all intervals if err says that the log takes nothing more: its last record
// says so, and concerns all apps.
func (a *Apps) tookNothing(err error) {
	if errors.Is(err, ledger.ErrFull) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.interruptAll(endedFull, false)
	}
}
