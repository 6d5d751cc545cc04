// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/internal/verdict"
	"github.com/cvm-agentd/agentd/verify"
)

// A mark is how a line begins. On a terminal that shows colour, its word has one.
type mark struct {
	text   string // with the word, after spaces if any
	word   string
	colour string // escape sequence; empty if there is none
}

const (
	green  = "\x1b[32m"
	red    = "\x1b[1;31m"
	yellow = "\x1b[33m"
)

// unmarked is a mark without a word.
func unmarked(text string) mark { return mark{text: text} }

// of returns the mark of a verdict, with rest after its word.
func of(v verify.Verdict, rest string) mark {
	m := map[verify.Verdict]mark{
		verify.Pass:        {word: "pass", colour: green},
		verify.Fail:        {word: "FAIL", colour: red},
		verify.NotAsserted: {word: "-   "},
	}[v]
	m.text = m.word + rest
	return m
}

// printAppraisal prints what failed first, for a reader who stops there, and the verdict
// last, next to the prompt.
func (t *terminal) printAppraisal(a *verify.Appraisal, verbose bool) {
	t.printChecks(a, verbose)
	if verbose {
		t.printClaims(a)
	}
	sentences := a.Sentences
	if a.Verdict == verify.Pass && !verbose {
		sentences = sentences[1:] // the first is the verdict, which comes last
	}
	for _, s := range sentences {
		t.say(unmarked(""), s, 2)
	}
	if a.Verdict == verify.Pass {
		t.say(of(verify.Pass, verdict.OnGuestWord(a)+": accepted."), " "+verdict.Ties(a), 2)
		return
	}
	t.say(of(verify.Fail, ": "), verdict.Refused(a), 2)
}

// printChecks prints the checks that failed and those that were not asserted, and if
// verbose those that passed.
func (t *terminal) printChecks(a *verify.Appraisal, verbose bool) {
	t.printPart(a, verify.Fail, "Failed")
	if verbose {
		t.printPart(a, verify.Pass, "Passed")
	}
	t.printNotAsserted(a, verbose)
	fmt.Fprintln(t.out)
}

// printPart prints the checks of one verdict, and nothing if there are none.
func (t *terminal) printPart(a *verify.Appraisal, v verify.Verdict, title string) {
	list := verdict.With(a, v)
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(t.out, "%s, %d of %d checks:\n", title, len(list), len(a.Checks))
	for _, c := range list {
		t.printCheck("", c)
	}
	fmt.Fprintln(t.out)
}

// Columns of the table of checks.
const (
	idColumn   = 6  // where ids begin
	textColumn = 33 // where the sentences begin
	wideTable  = 100
)

// hang returns how far the lines after the first of a check are indented. Narrow terminals
// have no room for a column of sentences.
func (t *terminal) hang() int {
	if t.width() < wideTable {
		return idColumn
	}
	return textColumn
}

// printCheck prints a check, after what begins the line.
func (t *terminal) printCheck(before string, c verify.Check) {
	m := of(c.Verdict, fmt.Sprintf("  %-26s ", c.ID))
	m.text = before + m.text
	t.say(m, verdict.Sentence(c), len(before)+t.hang())
	if c.Verdict != verify.Fail {
		return
	}
	rest := strings.Repeat(" ", len(before)+t.hang())
	if c.Expected != "" {
		t.say(unmarked(rest+"expected "), c.Expected, len(rest)+9)
	}
	if c.Found != "" && c.Found != c.Sentence {
		t.say(unmarked(rest+"found    "), c.Found, len(rest)+9)
	}
}
