// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/verdict"
	"github.com/cvm-agentd/agentd/verify"
)

// printNotAsserted prints what is not asserted: if verbose with each reason, otherwise the
// names. The reasons of what refuses the evidence are always printed.
func (t *terminal) printNotAsserted(a *verify.Appraisal, verbose bool) {
	o := verdict.OpenOf(a)
	more := " (--verbose says why)"
	if verbose || o.Total == 0 {
		more = ""
	}
	t.say(mark{text: "Not asserted", word: "Not asserted", colour: yellow}, fmt.Sprintf(", %d of %d checks%s:", o.Total, len(a.Checks), more), 4)
	if o.Total == 0 {
		t.say(unmarked("  "), "nothing", 2)
	}
	parts := verdict.PartsOf(a)
	var rest []string
	for _, r := range o.Reasons {
		switch {
		case verbose:
			t.printReason(r, o.IDs[r])
		case r.Required:
			t.say(of(verify.NotAsserted, "  "), fmt.Sprintf("(but required) %s: %s", parts.Name(o.IDs[r]), r.Sentence), idColumn)
		default:
			rest = append(rest, o.IDs[r]...)
		}
	}
	if len(rest) > 0 {
		t.say(unmarked("  "), parts.NameOptional(rest), 2)
	}
}

// printReason prints a reason, with the checks below it if there are several.
func (t *terminal) printReason(r verdict.Reason, ids []string) {
	name, needed := ids[0], ""
	if len(ids) > 1 {
		name = checks(ids)
	}
	if r.Required {
		needed = "(but required) "
	}
	t.say(of(verify.NotAsserted, fmt.Sprintf("  %-26s ", name)), needed+r.Sentence, t.hang())
	if len(ids) > 1 {
		t.say(unmarked("          "), strings.Join(ids, ", "), 10)
	}
}

// checks returns how many checks these are, and of which part if it is only one.
func checks(ids []string) string {
	part, _, _ := strings.Cut(ids[0], ".")
	if slices.ContainsFunc(ids, func(id string) bool { return !strings.HasPrefix(id, part+".") }) {
		return text.Count(len(ids), "check")
	}
	return part + ", " + text.Count(len(ids), "check")
}
