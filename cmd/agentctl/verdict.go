// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/verify"
)

// marks are how verdicts are drawn: plain, and on a terminal that shows colour.
var marks = map[verify.Verdict]struct{ plain, colour string }{
	verify.Pass:        {"pass", "\x1b[32mpass\x1b[0m"},
	verify.Fail:        {"FAIL", "\x1b[1;31mFAIL\x1b[0m"},
	verify.NotAsserted: {"-   ", "-   "},
}

func (t *terminal) mark(v verify.Verdict) string {
	if t.colour() {
		return marks[v].colour
	}
	return marks[v].plain
}

// printAppraisal prints what failed first, for a reader who stops there, and the verdict
// last, next to the prompt.
func (t *terminal) printAppraisal(a *verify.Appraisal, verbose bool) {
	t.printChecks(a, verbose)
	for _, s := range a.Sentences {
		fmt.Fprintln(t.out, cleanLine(s))
	}
	if a.Verdict == verify.Pass {
		fmt.Fprintf(t.out, "%s%s: accepted. Binding %s, AK known by %s, report %s.\n", t.mark(verify.Pass), onGuestWord(a), a.Binding, akOrigin(a.AKOrigin), a.Freshness)
		return
	}
	fmt.Fprintf(t.out, "%s: refused (%s), exit code %d.\n", t.mark(verify.Fail), a.Class, a.ExitCode())
}

// onGuestWord says of an accepted evidence that the verdict rests on the guest's word, if
// it does.
func onGuestWord(a *verify.Appraisal) string {
	if a.Basis == verify.ByGuest {
		return ", by the guest's word"
	}
	return ""
}

// words are how bases are said of a check that passed. What the verifier did itself needs
// no word.
var words = map[verify.Basis]string{
	verify.ByProcessor: "by the processor's signature: ",
	verify.ByLaunch:    "by the measured system's word: ",
	verify.ByTPM:       "by the TPM's word: ",
	verify.ByGuest:     "by the guest's word: ",
}

// printChecks prints the checks that failed and those that were not asserted, and if
// verbose those that passed.
func (t *terminal) printChecks(a *verify.Appraisal, verbose bool) {
	parts := []verify.Verdict{verify.Fail}
	if verbose {
		parts = append(parts, verify.Pass)
	}
	for _, verdict := range parts {
		list := slices.DeleteFunc(slices.Clone(a.Checks), func(c verify.Check) bool { return c.Verdict != verdict })
		if len(list) == 0 {
			continue
		}
		title := map[verify.Verdict]string{verify.Fail: "Failed", verify.Pass: "Passed"}[verdict]
		fmt.Fprintf(t.out, "%s, %d of %d checks:\n", title, len(list), len(a.Checks))
		for _, c := range list {
			t.printCheck(c)
		}
		fmt.Fprintln(t.out)
	}
	fmt.Fprintln(t.out, "Not asserted:")
	t.printNotAsserted(a, verbose)
	fmt.Fprintln(t.out)
}

// A reason is why checks are not asserted. Those that were required refuse the evidence.
type reason struct {
	required bool
	sentence string
}

// printNotAsserted prints a line for each reason why checks are not asserted, those that
// refuse the evidence first. Unless verbose, rules that the policy does not have share one
// line, and the names of checks are left out.
func (t *terminal) printNotAsserted(a *verify.Appraisal, verbose bool) {
	var required, others []reason
	ids := map[reason][]string{}
	unused := 0
	for _, c := range a.Checks {
		switch {
		case c.Verdict != verify.NotAsserted:
		case !verbose && !c.Required && strings.HasPrefix(string(c.ID), "policy."):
			unused++
		default:
			r := reason{c.Required, c.Sentence}
			switch {
			case ids[r] != nil:
			case r.required:
				required = append(required, r)
			default:
				others = append(others, r)
			}
			ids[r] = append(ids[r], string(c.ID))
		}
	}
	for _, r := range slices.Concat(required, others) {
		name := ids[r][0]
		if len(ids[r]) > 1 {
			name = checks(ids[r])
		}
		needed := ""
		if r.required {
			needed = "(but required) "
		}
		t.printOpen(name, needed+r.sentence)
		if verbose && len(ids[r]) > 1 {
			t.printIDs(ids[r])
		}
	}
	if unused > 0 {
		t.printOpen(fmt.Sprintf("policy, %d checks", unused), "rules that the policy does not have, or that do not apply: --verbose lists them")
	}
	if len(ids) == 0 && unused == 0 {
		fmt.Fprintln(t.out, "      nothing")
	}
}

func (t *terminal) printOpen(name, sentence string) {
	fmt.Fprintf(t.out, "%s  %-26s %s\n", t.mark(verify.NotAsserted), name, cleanLine(sentence))
}

// checks returns how many checks these are, and of which part if it is only one.
func checks(ids []string) string {
	part, _, _ := strings.Cut(ids[0], ".")
	if slices.ContainsFunc(ids, func(id string) bool { return !strings.HasPrefix(id, part+".") }) {
		return fmt.Sprintf("%d checks", len(ids))
	}
	return fmt.Sprintf("%s, %d checks", part, len(ids))
}

// idColumns is how wide a line of ids may become.
const idColumns = 100

// printIDs lists ids below their common reason.
func (t *terminal) printIDs(ids []string) {
	const indent = "          "
	line := indent
	for i, id := range ids {
		if i < len(ids)-1 {
			id += ","
		}
		if len(line) > len(indent) && len(line)+1+len(id) > idColumns {
			fmt.Fprintln(t.out, line)
			line = indent
		}
		if len(line) > len(indent) {
			line += " "
		}
		line += id
	}
	fmt.Fprintln(t.out, line)
}

func akOrigin(o verify.AKOrigin) string {
	switch o {
	case verify.AKEnrolled:
		return "the policy"
	case verify.AKCertified:
		return "certificate"
	}
	return "the report alone"
}

func (t *terminal) printCheck(c verify.Check) {
	fmt.Fprintf(t.out, "%s  %-26s %s%s\n", t.mark(c.Verdict), c.ID, words[c.Basis], cleanLine(c.Sentence))
	if c.Verdict == verify.Fail {
		if c.Expected != "" {
			fmt.Fprintf(t.out, "%-33sexpected %s\n", "", cleanLine(c.Expected))
		}
		if c.Found != "" && c.Found != c.Sentence {
			fmt.Fprintf(t.out, "%-33sfound    %s\n", "", cleanLine(c.Found))
		}
	}
}
