// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// An Interval is a time in which the agent watched an application: every change of its
// files was recorded. It begins with a measurement under a declaration in force.
type Interval struct {
	Begin  Mark    `json:"begin"`            // record that began it
	Joints []Joint `json:"joints,omitempty"` // interruptions that were carried over
	End    *End    `json:"end,omitzero"`     // nil if it is open
}

// A Mark is a record and its time.
type Mark struct {
	Record uint64 `json:"record"` // number of the record
	Time   uint64 `json:"time"`   // CLOCK_BOOTTIME of the guest in milliseconds
}

// An End is the end of an interval.
type End struct {
	Mark        // of a crash: the start that tells of it, and the time of the record before it
	Why  Ending `json:"why"` // what ended it
}

// An Ending says why an interval ended.
type Ending string

// Endings.
const (
	Stopped    Ending = "stopped"    // the agent stopped in order
	Crashed    Ending = "crashed"    // the agent was killed, or crashed
	Withdrawn  Ending = "withdrawn"  // the declaration was removed
	Redeclared Ending = "redeclared" // another declaration took its place
	Missed     Ending = "gap"        // changes may have been missed
	Failed     Ending = "unmeasured" // the application could not be measured
	Filled     Ending = "full"       // the log took no further record
)

// carriable are endings that say nothing of the files of the application: the agent may
// show later that they did not change.
var carriable = []Ending{Stopped, Crashed, Missed}

// A Joint is an interruption across which the agent carried an interval: it states that
// nothing can have changed.
type Joint struct {
	Mark          // record that carries the interval on
	Ended  End    `json:"ended"`
	Reason string `json:"reason"` // what that rests on, for people
}

// Executable is the content of an executable file in a manifest.
type Executable struct {
	Digest evidence.Digest `json:"digest"`         // SHA-256 of the file
	Until  uint64          `json:"until,omitzero"` // time of the record that took it out; 0 if it is in force
}

// kept is how long the content of an executable is kept after another took its place, in
// milliseconds: a statement waits for its quote, and the application may be upgraded
// meanwhile.
const kept = 10 * 60 * 1000

// Covered returns the interval that is open, nil if there is none.
func (a *App) Covered() *Interval {
	if n := len(a.Intervals); n > 0 && a.Intervals[n-1].End == nil {
		return &a.Intervals[n-1]
	}
	return nil
}

// Lists reports whether a manifest of the application listed this executable at some time
// from since on, in milliseconds.
func (a *App) Lists(d evidence.Digest, since uint64) bool {
	return slices.ContainsFunc(a.Executables, func(x Executable) bool { return x.Digest == d && (x.Until == 0 || x.Until >= since) })
}

// declares reports whether a declaration of the application is in force.
func (h *history) declares(app string, d evidence.Digest) bool {
	in, ok := h.declared[app]
	return ok && in == d
}

// declare sets the declarations in force, and ends coverage under those that are not.
func (h *history) declare(number uint64, list pcr.Declarations) {
	h.Declarations, h.declared = list, make(map[string]evidence.Digest, len(list))
	for _, d := range list {
		h.declared[d.App] = d.Digest
	}
	for i := range h.open {
		app := &h.Apps[i]
		switch in, ok := h.declared[app.Name]; {
		case !ok:
			h.end(i, End{Mark{number, h.Time}, Withdrawn})
		case in != app.declaration():
			h.end(i, End{Mark{number, h.Time}, Redeclared})
		}
	}
	for i := range h.carriable {
		if app := &h.Apps[i]; !h.declares(app.Name, app.declaration()) {
			h.forget(i)
		}
	}
}

// declaration returns the digest of the declaration of the last measurement.
func (a *App) declaration() evidence.Digest { return a.Versions[a.Current].Declaration }

// end ends the open interval of an application.
func (h *history) end(i int, e End) {
	app := &h.Apps[i]
	app.Covered().End = &e
	delete(h.open, i)
	if slices.Contains(carriable, e.Why) {
		app.Carriable = true
		h.carriable[i] = true
	}
}

// endAll ends every open interval.
func (h *history) endAll(e End) {
	for i := range h.open {
		h.end(i, e)
	}
}

// forget says that the last interval of an application cannot be carried on any more.
func (h *history) forget(i int) {
	h.Apps[i].Carriable = false
	delete(h.carriable, i)
}

// began begins an interval, if the measurement was made under a declaration in force.
func (h *history) began(i int, number uint64) {
	app := &h.Apps[i]
	h.forget(i)
	if h.declares(app.Name, app.declaration()) {
		app.Intervals = append(app.Intervals, Interval{Begin: Mark{number, h.Time}})
		h.open[i] = true
	}
}

// measured takes a measurement of an application: a change within an interval, or the
// begin of one.
func (h *history) measured(i int, number uint64, before evidence.Digest, e *pcr.AppEvent) {
	if h.open[i] && before != e.Declaration {
		h.end(i, End{Mark{number, h.Time}, Redeclared})
	}
	if !h.open[i] {
		h.began(i, number)
	}
	h.list(i, e.Manifest)
}

// list takes the executables of a manifest that is in force from now on.
func (h *history) list(i int, m pcr.Manifest) {
	var now []evidence.Digest
	listed := make(map[evidence.Digest]bool)
	for _, f := range m {
		if f.Executable() && !listed[f.Digest] {
			listed[f.Digest] = true
			now = append(now, f.Digest)
		}
	}
	for _, d := range h.inForce[i] {
		if !listed[d] {
			h.replaced[i] = append(h.replaced[i], Executable{d, h.Time})
		}
	}
	h.inForce[i] = now
	h.listed(h.Apps[i].Name, now)
}

// close writes the executables into the state, at the end of the log.
func (h *history) close() {
	h.fewContents()
	h.closeGate()
	for i := range h.Apps {
		app := &h.Apps[i]
		app.Executables = nil
		for _, d := range h.inForce[i] {
			app.Executables = append(app.Executables, Executable{Digest: d})
		}
		for _, x := range h.replaced[i] {
			if x.Until+kept >= h.Time {
				app.Executables = append(app.Executables, x)
			}
		}
	}
}

// same takes an application that is what its last record says. What is carried on must
// have been interrupted by something that says nothing of its files.
func (h *history) same(number uint64, e *pcr.SameEvent) error {
	i, ok := h.apps[e.App]
	if !ok || len(h.Apps[i].Versions) == 0 {
		return fmt.Errorf("it says that %q is the same, and no record before it says what that is", e.App)
	}
	app := &h.Apps[i]
	if v := app.Versions[app.Current]; v.Digest != e.Digest || v.Declaration != e.Declaration {
		return fmt.Errorf("it says that %q is the same, and the last record of it says something else", e.App)
	}
	switch {
	case !e.Carried && !h.open[i]:
		h.began(i, number)
	case !e.Carried:
	case !app.Carriable || !h.declares(app.Name, e.Declaration):
		return fmt.Errorf("it carries on the coverage of %q, which nothing interrupted that can be carried over", e.App)
	default:
		last := &app.Intervals[len(app.Intervals)-1]
		last.Joints = append(last.Joints, Joint{Mark: Mark{number, h.Time}, Ended: *last.End, Reason: e.Reason})
		last.End = nil
		h.forget(i)
		h.open[i] = true
	}
	return nil
}
