// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/verify"
)

// A reason is why checks are not asserted. Those that were required refuse the evidence.
type reason struct {
	required bool
	sentence string
}

// openChecks are the checks that are not asserted, by reason, those that refuse the evidence
// first.
type openChecks struct {
	reasons []reason
	ids     map[reason][]string
	total   int
}

func openOf(a *verify.Appraisal) *openChecks {
	o := &openChecks{ids: map[reason][]string{}}
	for _, c := range with(a, verify.NotAsserted) {
		r := reason{c.Required, c.Sentence}
		if o.ids[r] == nil {
			o.reasons = append(o.reasons, r)
		}
		o.ids[r] = append(o.ids[r], string(c.ID))
		o.total++
	}
	slices.SortStableFunc(o.reasons, func(x, y reason) int {
		switch {
		case x.required == y.required:
			return 0
		case x.required:
			return -1
		}
		return 1
	})
	return o
}

// printNotAsserted prints what is not asserted: if verbose with each reason, otherwise the
// names. The reasons of what refuses the evidence are always printed.
func (t *terminal) printNotAsserted(a *verify.Appraisal, verbose bool) {
	o := openOf(a)
	more := " (--verbose says why)"
	if verbose || o.total == 0 {
		more = ""
	}
	t.say(mark{text: "Not asserted", word: "Not asserted", colour: yellow}, fmt.Sprintf(", %d of %d checks%s:", o.total, len(a.Checks), more), 4)
	if o.total == 0 {
		t.say(unmarked("  "), "nothing", 2)
	}
	parts := partsOf(a)
	var rest []string
	for _, r := range o.reasons {
		switch {
		case verbose:
			t.printReason(r, o.ids[r])
		case r.required:
			t.say(of(verify.NotAsserted, "  "), fmt.Sprintf("(but required) %s: %s", parts.name(o.ids[r]), r.sentence), idColumn)
		default:
			rest = append(rest, o.ids[r]...)
		}
	}
	if len(rest) > 0 {
		t.say(unmarked("  "), parts.nameOptional(rest), 2)
	}
}

// printReason prints a reason, with the checks below it if there are several.
func (t *terminal) printReason(r reason, ids []string) {
	name, needed := ids[0], ""
	if len(ids) > 1 {
		name = checks(ids)
	}
	if r.required {
		needed = "(but required) "
	}
	t.say(of(verify.NotAsserted, fmt.Sprintf("  %-26s ", name)), needed+r.sentence, t.hang())
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

// parts is how many checks each part of an appraisal has.
type parts struct {
	order []string
	size  map[string]int
}

func partsOf(a *verify.Appraisal) *parts {
	p := &parts{size: map[string]int{}}
	for _, c := range a.Checks {
		part, _, _ := strings.Cut(string(c.ID), ".")
		if p.size[part]++; p.size[part] == 1 {
			p.order = append(p.order, part)
		}
	}
	return p
}

// split returns the checks by part, without the part in their names.
func split(ids []string) map[string][]string {
	out := map[string][]string{}
	for _, id := range ids {
		part, check, _ := strings.Cut(id, ".")
		out[part] = append(out[part], check)
	}
	return out
}

// name names checks in few words: "log.head, quote (magic, type), all 16 of anchor", or if there
// are several such parts, "all of anchor, svsm and ima".
func (p *parts) name(ids []string) string {
	byPart := split(ids)
	var out, whole []string
	at := 0 // place of the parts of which all checks are named
	for _, part := range p.order {
		switch names := byPart[part]; len(names) {
		case 0:
		case 1:
			out = append(out, part+"."+names[0])
		case p.size[part]:
			if whole = append(whole, part); len(whole) == 1 {
				at = len(out)
			}
		default:
			out = append(out, fmt.Sprintf("%s (%s)", part, strings.Join(names, ", ")))
		}
	}
	switch last := len(whole) - 1; last {
	case -1:
	case 0:
		out = slices.Insert(out, at, fmt.Sprintf("all %d of %s", p.size[whole[0]], whole[0]))
	default:
		out = slices.Insert(out, at, fmt.Sprintf("all of %s and %s", strings.Join(whole[:last], ", "), whole[last]))
	}
	return strings.Join(out, ", ")
}

// nameOptional names checks that nothing asked for. Rules that a policy does not have are
// counted.
func (p *parts) nameOptional(ids []string) string {
	const policy = "policy"
	unused := len(split(ids)[policy])
	if unused == 0 {
		return p.name(ids)
	}
	words := fmt.Sprintf("%s (%s that it lacks or that do not apply)", policy, text.Count(unused, "rule"))
	rest := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return strings.HasPrefix(id, policy+".") })
	if len(rest) == 0 {
		return words
	}
	return p.name(rest) + ", " + words
}
