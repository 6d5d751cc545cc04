// SPDX-License-Identifier: Apache-2.0

package page

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/verify"
)

// A logView is what an accepted log says since boot.
type logView struct {
	Summary    string
	Apps       []appRow
	MoreApps   string
	Events     []event
	MoreEvents string
	Kernel     []string // sentences about the list of IMA
}

// An appRow is one application, as it is now and since when it is covered.
type appRow struct {
	Name, Unit, User, Digest string
	Covered                  string
	Now                      bool // it is covered at the end of the log
	Bars                     []bar
	MoreBars                 string
}

// A bar is a time in which an application was covered, in thousandths of the way from the
// first measurement to the quote. The last record is at 900 of them: what is covered then is covered
// until the quote.
type bar struct {
	X, Width int
	Carried  bool // interrupted, and carried over
}

// newLogView returns what the log of accepted evidence says, nil if there is none.
func newLogView(c *verify.Claims) *logView {
	log := c.Log
	if log == nil {
		return nil
	}
	v := &logView{Summary: fmt.Sprintf("%s in PCR %d, the last one %s after boot.", text.Count(log.Head.Count, "record"), log.PCR, sinceBoot(log.Time))}
	switch {
	case log.Full:
		v.Summary += " The log took no further record: what came later is not in it."
	case log.Stopped:
		v.Summary += " The last record says that the agent stopped."
	}
	apps, left := some(log.Apps, maxList)
	s := span{math.MaxUint64, log.Time}
	for i := range apps {
		for _, interval := range apps[i].Intervals {
			s.from = min(s.from, interval.Begin.Time)
		}
	}
	for i := range apps {
		v.Apps = append(v.Apps, newAppRow(&apps[i], s))
	}
	if left > 0 {
		v.MoreApps = text.Count(left, "application") + " more: agentctl verify --format json has them."
	}
	v.Events, v.MoreEvents = timeline(log)
	v.Kernel = kernel(c.IMA)
	return v
}

func newAppRow(a *verify.AppClaim, s span) appRow {
	r := appRow{Name: name(a.Name), Covered: "not covered now"}
	if a.Current >= 0 && a.Current < len(a.Versions) {
		now := a.Versions[a.Current]
		r.Unit, r.User, r.Digest = name(now.Unit), name(now.User), now.Digest.String()
		if now.Interpreter != "" {
			r.Covered = "not covered now; its manifest lists only the interpreter " + name(now.Interpreter)
		}
	}
	if open := a.Covered(); open != nil {
		r.Now = true
		r.Covered = fmt.Sprintf("covered since record %d", open.Begin.Record)
		if n := len(open.Joints); n > 0 {
			r.Covered += ", carried over " + text.Count(n, "interruption")
		}
	}
	if n := len(a.Versions); n > 1 {
		r.Covered += fmt.Sprintf("; %d versions since boot", n)
	}
	r.Bars, r.MoreBars = bars(a, s)
	return r
}

// bars returns the times in which an application was covered.
func bars(a *verify.AppClaim, s span) (out []bar, more string) {
	intervals, left := some(a.Intervals, maxBars)
	for _, v := range intervals {
		from, until := v.Begin.Time, uint64(math.MaxUint64)
		if v.End != nil {
			until = v.End.Time
		}
		for _, j := range v.Joints[:min(len(v.Joints), maxBars)] {
			out = append(out, s.bar(from, j.Ended.Time, false), s.bar(j.Ended.Time, j.Time, true))
			from = j.Time
		}
		out = append(out, s.bar(from, until, false))
		if len(out) > maxBars {
			out = out[:maxBars]
			left++
			break
		}
	}
	if left > 0 {
		more = "the first times of many are drawn"
	}
	return out, more
}

// span is the time from the first measurement of an application to the last record of the log.
type span struct{ from, to uint64 }

// bar returns the bar from one time to another. A time of a log that contradicts itself is drawn
// inside it.
func (s span) bar(from, to uint64, carried bool) bar {
	x, until := s.thousandths(from), s.thousandths(to)
	return bar{X: min(x, 996), Width: max(until-x, 4), Carried: carried}
}

func (s span) thousandths(at uint64) int {
	switch {
	case at == math.MaxUint64:
		return 1000
	case at <= s.from:
		return 0
	case at >= s.to:
		return 900
	}
	high, low := bits.Mul64(at-s.from, 900)
	n, _ := bits.Div64(high, low, s.to-s.from)
	return int(n)
}

// kernel returns sentences about the list of IMA.
func kernel(c *verify.IMAClaim) (out []string) {
	if c == nil {
		return nil
	}
	out = append(out, fmt.Sprintf("The kernel's list (IMA) has %s up to the quoted PCR 10.", text.Count(c.Entries, "measurement")))
	for _, x := range []struct {
		n     uint64
		what  string
		files []verify.MeasuredFile
	}{{c.Violations, "were written while they were used", c.Violated}, {c.Unlisted, "are not listed by the policy", c.Named}} {
		if x.n == 0 {
			continue
		}
		out = append(out, fmt.Sprintf("%d of them %s:", x.n, x.what))
		files, left := some(x.files, maxList)
		for _, f := range files {
			out = append(out, fmt.Sprintf("Entry %d: %s.", f.Entry, name(f.Path)))
		}
		if left > 0 {
			out = append(out, fmt.Sprintf("%d more: agentctl verify --format json has them.", left))
		}
	}
	return out
}
