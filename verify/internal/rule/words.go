// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// Words is a policy in sentences for people. What a policy leaves open is as much a part
// of its meaning as what it demands: no check that an appraisal lists as not asserted
// should come as a surprise.
//
// A demand about what the guest states ends with the party on whose word it rests.
type Words struct {
	Demands   []string `json:"demands"`   // evidence that does not meet one of these is refused
	Unchecked []string `json:"unchecked"` // nothing is asked about these
	Dangers   []string `json:"dangers"`   // the policy accepts what a cautious one refuses

	rests func(check.Ground) check.Basis // at the least, of evidence that the policy accepts
	fact  check.Ground                   // that the next demands are about
	name  string                         // of the next demands together
	about map[check.Ground][]string      // names of all demands
}

// Explain returns what p demands, what it leaves unchecked, and which of its rules
// weaken it. Signatures, formats and bindings are always checked and not listed.
func (p *Policy) Explain() *Words {
	v := p.promised()
	w := &Words{rests: v.Basis, about: make(map[check.Ground][]string)}
	for _, s := range p.subjects() {
		w.on(check.OnVerifier, "")
		s.explain(p, w)
	}
	p.explainBasis(w)
	return w
}

func addIf(is bool, list *[]string, format string, a ...any) {
	if is {
		*list = append(*list, fmt.Sprintf(format, a...))
	}
}

func (w *Words) demandIf(is bool, format string, a ...any) {
	addIf(is, &w.Demands, "%s%s", fmt.Sprintf(format, a...), byWord(w.rests(w.fact)))
	if is && !slices.Contains(w.about[w.fact], w.name) {
		w.about[w.fact] = append(w.about[w.fact], w.name)
	}
}

// on says what the next demands are about, and what they are called together: if they rest
// on the guest alone, each says so, and a danger names them.
func (w *Words) on(fact check.Ground, name string)         { w.fact, w.name = fact, name }
func (w *Words) openIf(is bool, format string, a ...any)   { addIf(is, &w.Unchecked, format, a...) }
func (w *Words) dangerIf(is bool, format string, a ...any) { addIf(is, &w.Dangers, format, a...) }
func (w *Words) demand(format string, a ...any)            { w.demandIf(true, format, a...) }
func (w *Words) open(format string, a ...any)              { w.openIf(true, format, a...) }
func (w *Words) danger(format string, a ...any)            { w.dangerIf(true, format, a...) }

// tolerates says the danger of a rule that tolerates something, or the demand of its absence.
func (w *Words) tolerates(is bool, danger, demand string) {
	w.dangerIf(is, "%s", danger)
	w.demandIf(!is, "%s", demand)
}

// Golden is what an appraisal found on a golden machine.
type Golden struct {
	*Subject
	Unverified bool          // the maker of the evidence chose everything else
	Failed     []check.Check // checks that it failed
}

// bare reports whether the machine gave a report alone.
func (g *Golden) bare() bool { return !g.Material.Quote }

// product returns the processor line: that of the chain, else that of the report alone.
func (g *Golden) product() string {
	return cmp.Or(g.SNP.Product, strings.ToLower(g.SNP.Report.Product().String()))
}

// oneOf says that something is on a list of n.
func oneOf(n int, thing string) string {
	if n == 1 {
		return "the listed " + thing
	}
	return fmt.Sprintf("one of %d listed %ss", n, thing)
}

// onlyOf says that nothing is there but what is on a list of n.
func onlyOf(n int, thing string) string {
	if n == 1 {
		return "the listed " + thing
	}
	return fmt.Sprintf("%ss of %d that are listed", thing, n)
}

// noneOf says that something is not on a list of n that are denied.
func noneOf(n int, thing string) string {
	if n == 1 {
		return "not the denied " + thing
	}
	return fmt.Sprintf("none of %d denied %ss", n, thing)
}

// Draft collects the text of a new policy. In TOML, root keys come before tables.
type Draft struct {
	root, tables text
}

// NewDraft writes a commented policy for a golden machine. What is dangerous in its state
// is marked DANGER and commented out: until its author decides, the policy may refuse that
// machine.
func NewDraft(g *Golden) []byte {
	d := &Draft{}
	d.root.say("A policy drafted from one machine. Read every line: it accepts what was found there, and a golden machine is only as good as the inspection of it. docs/policy.md describes every key; \"agentctl policy explain\" says in words what this demands and leaves unchecked.")
	if g.Unverified {
		d.root.line("#")
		d.root.say("DANGER: the evidence did NOT verify. The maker of the file chose what this says.")
		for _, c := range g.Failed {
			d.root.say("%s: %s", c.ID, strings.Map(printable, c.Sentence))
		}
	}
	d.root.line("\nversion = %d\n", Version)
	for _, s := range new(Policy).subjects() {
		s.draft(g, d)
	}
	d.root.line("")
	return []byte(d.root.String() + d.tables.String())
}

// printable keeps text of the evidence on its line: a newline would end the comment.
func printable(r rune) rune {
	if r < 0x20 || r == 0x7f || r > 0x7e {
		return '?'
	}
	return r
}

// text is a part of a draft.
type text struct {
	strings.Builder
}

// say writes a comment, broken into lines.
func (t *text) say(format string, a ...any) {
	line := "#"
	for _, word := range strings.Fields(fmt.Sprintf(format, a...)) {
		if len(line)+1+len(word) > 88 {
			t.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	t.WriteString(line + "\n")
}

// offer writes a comment, and lines after it.
func (t *text) offer(comment, format string, a ...any) {
	t.say("%s", comment)
	t.line(format, a...)
}

func (t *text) line(format string, a ...any) { fmt.Fprintf(t, format+"\n", a...) }

func (t *text) danger(rule, format string, a ...any) { t.dangerIf(true, rule, format, a...) }

func (t *text) lineIf(is bool, format string, a ...any) {
	if is {
		t.line(format, a...)
	}
}

// dangerIf writes a rule that would weaken the policy, if the machine needs it: as a
// comment.
func (t *text) dangerIf(needed bool, rule, format string, a ...any) {
	if needed {
		t.say("DANGER: "+format, a...)
		t.line("# %s", rule)
	}
}

// quoted spells a name from the log, which has no control characters: the rest of Go's
// escapes means the same in TOML.
func quoted(s string) string { return strconv.Quote(s) }

func hexOf(b []byte) string { return quoted(hex.EncodeToString(b)) }
