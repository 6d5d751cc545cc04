// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify"
)

// anyAppraisal returns an appraisal of the form that the verifier gives, with verdicts by
// chance.
func anyAppraisal(random *rand.Rand, model *verify.Appraisal, sentences []string) *verify.Appraisal {
	a := *model
	a.Checks = slices.Clone(model.Checks)
	a.Verdict, a.Class = verify.Fail, verify.ClassBinding
	open := random.IntN(4) // how often
	for i := range a.Checks {
		c := &a.Checks[i]
		c.Verdict, c.Required = []verify.Verdict{verify.Pass, verify.Fail, verify.NotAsserted, verify.NotAsserted, verify.NotAsserted, verify.NotAsserted}[random.IntN(3+open)], random.IntN(2) == 0
		c.Sentence, c.Expected, c.Found = sentences[random.IntN(len(sentences))], sentences[random.IntN(len(sentences))], sentences[random.IntN(len(sentences))]
	}
	a.Sentences = []string{"Refused: " + sentences[random.IntN(len(sentences))]}
	return &a
}

// modelAppraisal returns the appraisal of good evidence.
func modelAppraisal(t *testing.T) *verify.Appraisal {
	t.Helper()
	dir := folder(t, map[string][]byte{"policy.toml": []byte(openPolicy)})
	return appraise(t, evidencetest.New().Encode(t), dir, false)
}

// strangers are texts as they may come from evidence.
var strangers = []string{
	"a short sentence", "", strings.Repeat("many words ", 60), strings.Repeat("x", 500), strings.Repeat("字", 300), strings.Repeat("4d", 48),
	strings.Repeat("pass:accepted.", 40), hostile + strings.Repeat(" pass: accepted. ", 20), "]]></failure></testcase></testsuites>", "\ufffe\uffff\xff\xfe", "  two  spaces  ",
}

// TestLinesFit: whatever strangers wrote, no line is wider than the terminal, except for a
// number, and none but ours begins at its left edge.
func TestLinesFit(t *testing.T) {
	model := modelAppraisal(t)
	random := rand.New(rand.NewPCG(3, 4))
	for range 15 {
		a := anyAppraisal(random, model, strangers)
		for _, width := range []int{0, 1, 20, 33, 57, 80, 99, 100, 132, 300} {
			for _, verbose := range []bool{false, true} {
				var out bytes.Buffer
				at := &terminal{out: &out, columns: width}
				at.printAppraisal(a, verbose)
				if wide := tooWide(out.String(), at.width()); wide != "" && width >= 57 {
					t.Fatalf("%d columns: %q", width, wide)
				}
				for line := range strings.Lines(out.String()) {
					if !ours.MatchString(line) || steers(line) {
						t.Fatalf("%d columns: a stranger wrote the line %q", width, line)
					}
				}
			}
		}
	}
}

// ours are the lines of an appraisal that was refused, by how they begin.
var ours = regexp.MustCompile(`^( |\n|pass  [a-z0-9-]+\.|FAIL  [a-z0-9-]+\.|FAIL: refused|-     |(Failed|Passed|Not asserted), [0-9]|Refused:)`)

// TestWidthOfTheTerminal: the kernel says how wide it is, and 80 columns are assumed of what
// is not a terminal.
func TestWidthOfTheTerminal(t *testing.T) {
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminal: %v", err)
	}
	defer near.Close()
	for _, c := range []struct{ columns, want int }{{0, 80}, {7, 20}, {57, 57}, {200, 200}} {
		if err := unix.IoctlSetWinsize(int(near.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: uint16(c.columns)}); err != nil {
			t.Fatal(err)
		}
		at := &terminal{out: near, err: io.Discard}
		at.attend()
		if !at.screen || at.width() != c.want {
			t.Errorf("screen %v, %d columns, want %d", at.screen, at.width(), c.want)
		}
	}
	at := &terminal{out: new(bytes.Buffer), err: io.Discard}
	if at.attend(); at.width() != 80 {
		t.Errorf("%d columns of no terminal", at.width())
	}
}
