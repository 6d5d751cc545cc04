// SPDX-License-Identifier: Apache-2.0

package page

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/verify"
)

// A group is the checks of one part of an appraisal.
type group struct {
	Title, Counts string
	Open          bool // shown from the beginning, since a check failed
	Checks        []checkRow
}

// A checkRow is one check.
type checkRow struct {
	ID              string
	State           state
	Verdict         string
	By              string // on whose word; empty unless it passed
	Sentence        string
	Expected, Found string // of a check that failed
}

// titles are the names of the parts of an appraisal, by the first word of the ids of checks.
var titles = map[string]string{
	"evidence": "The document", "statement": "Statement: what the caller asked for", "batch": "Batch: what the agent signed",
	"ak": "The vTPM's attestation key", "quote": "Quote of the vTPM", "anchor": "Anchor: a report from before the request",
	"report": "Report of the processor", "paravisor": "Paravisor", "svsm": "SVSM", "binding": "Binding: what the report commits to",
	"log": "Measurement log", "firmware": "Log of the firmware", "ima": "List of the kernel (IMA)", "policy": "Your policy",
}

// groups returns every check of an appraisal by part, in the order in which the parts begin, those of
// the policy last.
func (w words) groups(a *verify.Appraisal) (out []group) {
	at := map[string]int{}
	for _, c := range a.Checks {
		part, _, _ := strings.Cut(string(c.ID), ".")
		i, ok := at[part]
		if !ok {
			i = len(out)
			at[part] = i
			out = append(out, group{Title: cmp.Or(titles[part], name(part))})
		}
		row := w.newCheckRow(c)
		out[i].Checks = append(out[i].Checks, row)
		out[i].Open = out[i].Open || row.State == failed
	}
	slices.SortStableFunc(out, func(x, y group) int { return cmp.Compare(last(x), last(y)) })
	for i := range out {
		out[i].Counts = countRows(out[i].Checks)
	}
	return out
}

// last returns 1 for the rules of the policy, which people read after what the evidence shows.
func last(g group) int {
	if g.Title == titles["policy"] {
		return 1
	}
	return 0
}

func (w words) newCheckRow(c verify.Check) checkRow {
	row := checkRow{ID: name(c.ID), State: stateOf(c), Sentence: sentence(c.Sentence)}
	row.Verdict = map[state]string{holds: "passed", failed: "FAILED", open: "required, not made", absent: "not asserted"}[row.State]
	switch row.State {
	case holds:
		if row.By = w.by(c.Basis); c.Basis == verify.ByGuest {
			row.State = guests
		}
	case failed:
		row.Expected, row.Found = sentence(c.Expected), foundIn(c)
	}
	return row
}

// stateOf returns the state of one check. A verdict that is not known is not a pass.
func stateOf(c verify.Check) state {
	switch {
	case c.Verdict == verify.Pass:
		return holds
	case c.Verdict == verify.NotAsserted && !c.Required:
		return absent
	case c.Verdict == verify.NotAsserted:
		return open
	}
	return failed
}

// countRows says how many checks of a group passed, and how many did not.
func countRows(rows []checkRow) string {
	n := map[state]int{}
	for _, r := range rows {
		n[r.State]++
	}
	var out []string
	for _, x := range []struct {
		n    int
		what string
	}{{n[failed], "failed"}, {n[open], "required and not made"}, {n[holds] + n[guests], "passed"}, {n[absent], "not asserted"}} {
		if x.n > 0 {
			out = append(out, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	return strings.Join(out, ", ")
}

// counts says how many checks there are of each verdict.
func counts(a *verify.Appraisal) string {
	var rows []checkRow
	for _, c := range a.Checks {
		rows = append(rows, checkRow{State: stateOf(c)})
	}
	return fmt.Sprintf("%s: %s.", text.Count(len(rows), "check"), countRows(rows))
}
