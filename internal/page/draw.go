// SPDX-License-Identifier: Apache-2.0

package page

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/verdict"
	"github.com/cvm-agentd/agentd/verify"
)

// Measures of the drawing, in its own units. It is as narrow as a phone, so that its text is as
// large there as on a desk.
const (
	drawingWidth = 360
	laneWidth    = 172 // of the two lanes below the report
	stationRise  = 60
	rowRise      = 104
	wideColumns  = 46 // characters of a line in a wide station
	laneColumns  = 21
)

// A drawing is the chain as a picture: stations, and links between them.
type drawing struct {
	ViewBox  string
	Stations []station
	Edges    []edge
}

// A station is what a link leads to: a root, a key, a report, a log, a statement, a caller.
type station struct {
	X, Y, Width, Height, Left int // Left is where its text begins
	TitleY                    int
	Title                     string
	Lines                     []stationLine
	Kind                      string // "station", or the last one: "end"
	State                     state
}

type stationLine struct {
	Y    int
	Text string
}

// An edge is a link, drawn from one station down to another.
type edge struct {
	X, From, To, Middle, Label int
	Verb                       string
	State                      state
}

// place is where a station is, and which link leads to it.
type place struct {
	link, title string
	x, row      int
	wide        bool
	lines       func(*verify.Appraisal, *verify.Claims) []string
}

var places = []place{
	{"", "AMD's root", 0, 0, true, func(_ *verify.Appraisal, c *verify.Claims) []string { return []string{c.Machine.Root} }},
	{"root-chip", "Key of the chip", 0, 1, true, chipLines},
	{"chip-report", "Report of the processor", 0, 2, true, func(_ *verify.Appraisal, c *verify.Claims) []string {
		return []string{c.Machine.Label, c.Machine.Measurement}
	}},
	{"report-ak", "Key of the vTPM", 0, 3, false, func(a *verify.Appraisal, c *verify.Claims) []string {
		return []string{"by " + verdict.KnownBy(a), c.AKName}
	}},
	{"ak-quote", "Values of PCRs", 0, 4, false, func(_ *verify.Appraisal, c *verify.Claims) []string {
		return []string{text.Count(len(c.PCRs), "quoted value")}
	}},
	{"quote-log", "Log", 0, 5, false, logLines},
	{"report-agent", "Key of the agent", drawingWidth - laneWidth, 3, false, agentLines},
	{"agent-statement", "Statement", drawingWidth - laneWidth, 4, false, func(_ *verify.Appraisal, c *verify.Claims) []string {
		return []string{"nonce " + digits(c.Statement.Nonce), c.Statement.Audience}
	}},
	{"statement-caller", "Caller", 0, 6, true, callerLines},
}

func chipLines(_ *verify.Appraisal, c *verify.Claims) []string {
	m := c.Machine.SNP
	if m == nil {
		return nil
	}
	return []string{strings.TrimSpace(strings.ToUpper(m.Signer) + " " + m.Product + " " + m.CSPID), cmp.Or(m.ChipID, "the report names no chip")}
}

func logLines(_ *verify.Appraisal, c *verify.Claims) []string {
	if c.Log == nil {
		return nil
	}
	return []string{text.Count(c.Log.Head.Count, "record"), text.Count(len(c.Log.Apps), "application")}
}

func agentLines(_ *verify.Appraisal, c *verify.Claims) []string {
	if c.Log == nil {
		return nil
	}
	out := []string{digits(c.Log.AgentKey)}
	if len(c.Log.Agents) == 1 {
		out = append(out, "agentd "+c.Log.Agents[0].Version)
	}
	return out
}

func callerLines(_ *verify.Appraisal, c *verify.Claims) []string {
	s := &c.Statement
	if len(s.Nonce) == 0 {
		return nil
	}
	who := cmp.Or(s.Caller.Unit, fmt.Sprintf("process %d", s.Caller.PID))
	return []string{fmt.Sprintf("%s, uid %d", who, s.Caller.UID), s.Caller.App}
}

// draw returns the drawing of a chain.
func (w words) draw(a *verify.Appraisal, claims *verify.Claims, links []link) drawing {
	states := map[string]state{}
	for _, l := range links {
		states[l.ID] = l.State
	}
	d := drawing{ViewBox: fmt.Sprintf("-1 -1 %d %d", drawingWidth+2, 7*rowRise+stationRise+2)}
	for _, p := range places {
		s := newStation(p, cmp.Or(states[p.link], states["root-chip"]))
		if claims != nil && s.State != absent {
			s.write(p.lines(a, claims), p.wide)
		}
		if p.row == 0 && w.test {
			s.Title, s.State = "TEST ROOT: it vouches for no hardware", tested
		}
		d.Stations = append(d.Stations, s)
	}
	last := lastStation(a, claims)
	d.Stations = append(d.Stations, last)
	links = append(slices.Clone(links), link{ID: "caller-policy", Verb: "judged by", State: last.State})
	for _, l := range links {
		d.Edges = append(d.Edges, newEdge(l))
	}
	return d
}

func newStation(p place, s state) station {
	width := laneWidth
	if p.wide {
		width = drawingWidth
	}
	y := p.row * rowRise
	return station{X: p.x, Y: y, Width: width, Height: stationRise, Left: p.x + 12, TitleY: y + 20, Title: p.title, Kind: "station", State: s}
}

// write writes the lines of a station that are not empty.
func (s *station) write(lines []string, wide bool) {
	columns := laneColumns
	if wide {
		columns = wideColumns
	}
	for _, text := range lines {
		if text != "" && len(s.Lines) < 2 {
			s.Lines = append(s.Lines, stationLine{s.TitleY + 16 + 14*len(s.Lines), brief(text, columns)})
		}
	}
}

// lastStation returns the station below the caller: what the policy says of all this.
func lastStation(a *verify.Appraisal, claims *verify.Claims) station {
	s := newStation(place{row: 7, wide: true, title: "Your policy"}, failed)
	s.Kind = "end"
	n := map[state]int{}
	for _, c := range a.Checks {
		if strings.HasPrefix(string(c.ID), "policy.") {
			n[stateOf(c)]++
		}
	}
	says := "refuses: " + text.Count(n[failed]+n[open], "rule") + " not met"
	switch {
	case claims != nil:
		s.State, says = holds, "accepts"+verdict.OnGuestWord(a)
		if a.Basis == verify.ByGuest {
			s.State = guests
		}
	case n[failed]+n[open] == 0:
		says = "refused below the policy"
	}
	s.write([]string{says, fmt.Sprintf("%s passed, %d not asserted", text.Count(n[holds], "rule"), n[absent])}, true)
	return s
}

// ways are the rows and the column that each link is drawn between.
var ways = map[string]struct{ x, from, to int }{
	"root-chip":        {drawingWidth / 2, 0, 1},
	"chip-report":      {drawingWidth / 2, 1, 2},
	"report-ak":        {laneWidth / 2, 2, 3},
	"ak-quote":         {laneWidth / 2, 3, 4},
	"quote-log":        {laneWidth / 2, 4, 5},
	"log-caller":       {laneWidth / 2, 5, 6},
	"report-agent":     {drawingWidth - laneWidth/2, 2, 3},
	"agent-statement":  {drawingWidth - laneWidth/2, 3, 4},
	"statement-caller": {drawingWidth - laneWidth/2, 4, 6},
	"caller-policy":    {drawingWidth / 2, 6, 7},
}

func newEdge(l link) edge {
	w := ways[l.ID]
	from, to := w.from*rowRise+stationRise, w.to*rowRise
	return edge{X: w.x, From: from, To: to, Middle: (from + to) / 2, Label: w.x + 18, Verb: l.Verb, State: l.State}
}
