// SPDX-License-Identifier: Apache-2.0

package page

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/verify"
)

// An event is an entry of the timeline.
type event struct {
	Record uint64
	At     string // time since boot; empty if the log does not say
	Kind   string // one of the kinds below
	Says   string
	Detail string // digits, or a reason

	time uint64
	tell func() (says, detail string) // called of what is shown: a log may have a million events
}

// Kinds of events. If there are too many, the first kinds are shown rather than the later ones: an
// application that records ten thousand events must not push a gap off the page.
const (
	alarming = "alarm"  // something may not have been measured, or coverage ended
	ordinary = "plain"  // agents, applications, containers
	spoken   = "spoken" // events that applications recorded
)

// timeline returns what a log says, in the order of its records, and what is left out.
func timeline(log *verify.LogState) (kept []event, more string) {
	h := &history{times: map[uint64]uint64{}}
	h.addAgents(log)
	h.addApps(log.Apps)
	h.addGate(log)
	h.addEmitted(log.Emitted)
	left, room := map[string]int{}, maxEvents
	for _, kind := range []string{alarming, ordinary, spoken} {
		of := h.events[kind]
		byRecord(of)
		of, left[kind] = ends(of, room)
		kept, room = append(kept, of...), room-len(of)
	}
	byRecord(kept)
	for i := range kept {
		e := &kept[i]
		if at := cmp.Or(e.time, h.times[e.Record]); at != 0 {
			e.At = sinceBoot(at)
		}
		e.Says, e.Detail = e.tell()
	}
	return kept, leftOut(left)
}

// byRecord orders events by their records; those of one record stay in their order.
func byRecord(list []event) {
	slices.SortStableFunc(list, func(x, y event) int { return cmp.Compare(x.Record, y.Record) })
}

// ends returns the first and the last events of a list that has no room for all of them.
func ends(list []event, room int) ([]event, int) {
	if len(list) <= room {
		return list, 0
	}
	first := room / 2
	return slices.Concat(list[:first], list[len(list)-(room-first):]), len(list) - room
}

// leftOut says how many events are not shown.
func leftOut(left map[string]int) string {
	total := left[alarming] + left[ordinary] + left[spoken]
	if total == 0 {
		return ""
	}
	return fmt.Sprintf("%s are left out from the middle: %d that end or interrupt coverage, %d of agents, applications and containers, %d that applications recorded. agentctl verify --format json has all of them.",
		text.Count(total, "event"), left[alarming], left[ordinary], left[spoken])
}

// history collects events by kind, and which record is of which time.
type history struct {
	events map[string][]event
	times  map[uint64]uint64
}

// add adds an event. A time of zero is that of its record, if another event knows it. The time of
// an end may be that of the record before it.
func (h *history) add(kind string, record, time uint64, tell func() (says, detail string)) {
	if h.events == nil {
		h.events = map[string][]event{}
	}
	if time != 0 && kind != alarming {
		h.times[record] = time
	}
	h.events[kind] = append(h.events[kind], event{Record: record, Kind: kind, time: time, tell: tell})
}

// say adds an event with this text, cut by the caller.
func (h *history) say(kind string, record, time uint64, detail string, format string, args ...any) {
	h.add(kind, record, time, func() (string, string) { return fmt.Sprintf(format, args...), name(detail) })
}

// addAgents adds agents, gaps and failures to measure.
func (h *history) addAgents(log *verify.LogState) {
	for _, a := range log.Agents {
		h.add(ordinary, a.Record, 0, func() (string, string) {
			return fmt.Sprintf("An agent of version %s started or read its configuration", name(a.Version)), a.Digest.String()
		})
	}
	for _, g := range log.Gaps {
		h.say(alarming, g.Record, 0, g.Reason, "Gap: changes may have been missed")
	}
	for _, u := range log.Unmeasured {
		h.add(alarming, u.Record, 0, func() (string, string) {
			return fmt.Sprintf("%s could not be measured", name(u.App)), name(u.Reason)
		})
	}
	for i := range log.Containers {
		c := &log.Containers[i]
		h.add(ordinary, c.Record, 0, func() (string, string) {
			says := fmt.Sprintf("A container of %s started", name(c.Engine))
			if c.App != "" {
				says += ", as " + name(c.App)
			}
			return says, name(cmp.Or(c.Image.Name, c.ID))
		})
	}
	if log.Full {
		h.say(alarming, log.Head.Count, log.Time, "", "The log took no further record")
	}
	if log.Stopped {
		h.say(alarming, log.Head.Count, log.Time, "", "The agent stopped")
	}
}

// addApps adds what was measured of applications, and when they were covered.
func (h *history) addApps(apps []verify.AppClaim) {
	for i := range apps {
		a, begins := &apps[i], map[uint64]bool{} // records that measured a version for the first time
		for j := range a.Versions {
			v := &a.Versions[j]
			begins[v.Record] = true
			h.add(ordinary, v.Record, 0, func() (string, string) {
				if j == 0 {
					return name(a.Name) + " was measured", v.Digest.String()
				}
				return name(a.Name) + " was measured, and is something else than before", v.Digest.String()
			})
		}
		for j := range a.Intervals {
			h.addInterval(a.Name, &a.Intervals[j], begins)
		}
	}
}

// endings say what ended the coverage of an application.
var endings = map[string]string{
	"stopped": "the agent stopped", "crashed": "the agent was killed or crashed", "withdrawn": "its declaration was removed",
	"redeclared": "another declaration took its place", "gap": "changes may have been missed", "full": "the log took no further record",
}

// addInterval adds a time in which an application was covered. A measurement begins it, which may be
// in the timeline already.
func (h *history) addInterval(app string, v *verify.Interval, measured map[uint64]bool) {
	h.times[v.Begin.Record] = v.Begin.Time
	if !measured[v.Begin.Record] {
		h.add(ordinary, v.Begin.Record, v.Begin.Time, func() (string, string) { return name(app) + " was measured: a version that the log has already", "" })
	}
	for i := range v.Joints {
		j := &v.Joints[i]
		h.add(ordinary, j.Record, j.Time, func() (string, string) {
			return fmt.Sprintf("Coverage of %s is carried over: %s", name(app), cmp.Or(endings[string(j.Ended.Why)], name(j.Ended.Why))), name(j.Reason)
		})
	}
	if e := v.End; e != nil && e.Why != "unmeasured" { // an event of its own says so
		h.add(alarming, e.Record, e.Time, func() (string, string) {
			return fmt.Sprintf("Coverage of %s ends: %s", name(app), cmp.Or(endings[string(e.Why)], name(e.Why))), ""
		})
	}
}

// addGate adds what the gate guarded, and what started without being listed.
func (h *history) addGate(log *verify.LogState) {
	for i := range log.Gated {
		g := &log.Gated[i]
		h.add(ordinary, g.Begin.Record, g.Begin.Time, func() (string, string) {
			if g.Enforce {
				return fmt.Sprintf("The gate guards %s, and starts nothing that its manifest does not list", name(g.App)), ""
			}
			return "The gate guards " + name(g.App), ""
		})
		if g.End != nil {
			h.add(alarming, g.End.Record, g.End.Time, func() (string, string) {
				return fmt.Sprintf("The gate guards %s no more", name(g.App)), name(g.End.Reason)
			})
		}
	}
	for i := range log.Started {
		s := &log.Started[i]
		h.add(alarming, s.Record, 0, func() (string, string) {
			return fmt.Sprintf("%s: a program started that no manifest lists, %s", name(s.App), name(s.Path)), s.Digest.String()
		})
	}
}

// addEmitted adds what applications had recorded.
func (h *history) addEmitted(list []verify.EmittedClaim) {
	for i := range list {
		e := &list[i]
		h.add(spoken, e.First, 0, func() (string, string) {
			says := fmt.Sprintf("%s recorded an event about %s", name(e.App), name(e.Domain))
			if e.Count > 1 {
				says += fmt.Sprintf(", %d times up to record %d", e.Count, e.Last)
			}
			if len(e.Content) > 0 {
				return says, name(e.Content)
			}
			return says, e.Value.String()
		})
		if e.First == e.Last {
			h.times[e.First] = e.Time
		}
	}
}
