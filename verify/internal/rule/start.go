// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/tcglog"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// StartRules are rules about the values of the log's PCRs before the log began.
type StartRules struct {
	quiet
	StartValues []StartValue `toml:"start_value,omitempty"`
}

// StartValue is one [[start_value]]: a value that a PCR of the agent's log may have had
// when the log began.
type StartValue struct {
	Bank  string `toml:"bank" value:"one sha256 sha384 sha512" default:"required" doc:"|sha256|, |sha384| or |sha512|"`
	Value string `toml:"value" default:"required" doc:"the value"`
}

var startChecks = []check.Definition{{ID: "policy.start-value", Class: check.Policy, Ground: check.OnHistory, Checks: "when the log began, each of its PCRs was zero, or had a value that only boot software leaves, or one that the policy lists", Stops: "a log deleted and begun again during the same boot"}}

func (r *StartRules) values(f *faults) {
	f.twice("start_value[%d].value", len(r.StartValues), func(i int) string { return r.StartValues[i].Value })
	for i, x := range r.StartValues {
		key := fmt.Sprintf("start_value[%d].value", i)
		if bank, err := pcr.ParseAlgorithm(x.Bank); err == nil && f.given(key, x.Value != "") {
			if v, ok := f.hex(key, x.Value, bank.Size()); ok && check.Zero(v) {
				f.fail(key, "it is zero, which is accepted anyway: leave it out")
			}
		}
	}
}

// startsAt reports whether a rule lists a value that a PCR of the log may begin with.
func (r *StartRules) startsAt(d pcr.Digest) bool { return slices.Contains(r.StartValues, startOf(d)) }

func startOf(d pcr.Digest) StartValue {
	return StartValue{Bank: d.Algorithm.String(), Value: hex.EncodeToString(d.Value)}
}

func (r *StartRules) explain(_ *Policy, w *Words) {
	w.on(check.OnHistory, "the start of the log")
	w.demandIf(len(r.StartValues) == 0, "When the log began, its PCR was zero, or had a value that only boot software leaves.")
	w.demandIf(len(r.StartValues) > 0, "When the log began, its PCR was zero, or had a value that only boot software leaves, or %s (start_value).", oneOf(len(r.StartValues), "value"))
	for _, bank := range []string{"sha256", "sha384", "sha512"} {
		if slices.ContainsFunc(r.StartValues, func(x StartValue) bool { return x.Bank == bank }) {
			w.danger("start_value: the PCR of the log may begin at a listed value of bank %s. If that is one that an earlier log of the agent leaves, that log can be deleted unnoticed.", bank)
		}
	}
}

// draft lists the value of a golden machine if its firmware's log leads there. An attacker
// can write such a log: that the machine is good is the word of its author.
func (*StartRules) draft(g *Golden, d *Draft) {
	if g.Log == nil || g.Quote == nil {
		return
	}
	start, err := g.Log.Began()
	if err != nil {
		return
	}
	var listed []StartValue // two PCRs may have begun with one value
	for _, r := range judged(g.Subject, start) {
		for _, x := range r.Values {
			if v := startOf(x); !slices.Contains(listed, v) {
				listed = append(listed, v)
				draftStart(g, d, r.PCR, x)
			}
		}
	}
}

// draftStart lists one value.
func draftStart(g *Golden, d *Draft, index uint32, x pcr.Digest) {
	name, led := tcglog.Known(x.Algorithm, index, x.Value), tcglog.Leads(g.Firmware, x.Algorithm, index, x.Value)
	rule := fmt.Sprintf("[[start_value]]\nbank = %q\nvalue = %q\n", x.Algorithm, hex.EncodeToString(x.Value))
	switch {
	case name == tcglog.Zero:
	case name != "":
		d.tables.say("When the log began, PCR %d (%s) had the value %s. That is known, and accepted.", index, x.Algorithm, name)
		d.tables.line("")
	case led != "":
		d.tables.offer(fmt.Sprintf("When the log began, PCR %d was not zero: %s. Keep this if the machine always begins so.", index, led), "%s", rule)
	default:
		d.tables.offer("DANGER: the PCR of the log was not zero when the log began. Find out what measured into it before the agent started; if it was an earlier log of the agent, that log is gone.",
			"# %s", strings.ReplaceAll(strings.TrimSuffix(rule, "\n"), "\n", "\n# ")+"\n")
	}
}

// judged returns the start values that an appraisal looks at: those of quoted banks that
// can be relied on.
func judged(s *Subject, start []pcr.Register) (out []pcr.Register) {
	for _, r := range start {
		banks, _ := s.Quote.Banks(r.PCR)
		r.Values = slices.DeleteFunc(slices.Clone(r.Values), func(d pcr.Digest) bool {
			return d.Algorithm == pcr.SHA1 || !slices.Contains(banks, d.Algorithm)
		})
		if len(r.Values) > 0 {
			out = append(out, r)
		}
	}
	return out
}

// judge accepts a start value that no earlier log of the agent can have left, and one that
// the policy lists. Another value means that the PCR was extended before the log began, by
// other software or by an earlier log of this boot. The firmware's log may say by what, and
// proves nothing: an attacker who deletes a log of the agent can write a firmware log that
// leads to the value.
func (r *StartRules) judge(_ *Policy, s *Subject, f *check.Findings) {
	const id = "policy.start-value"
	if noLog(f, s.LogState, id) || s.Quote == nil {
		return
	}
	start, err := s.Log.Began()
	if err != nil {
		f.DecideError(id, err)
		return
	}
	registers := judged(s, start)
	if f.SkipIf(len(registers) == 0, id, "the quote does not cover PCR %d: see log.replay", s.Log.PCR) {
		return
	}
	for _, x := range registers {
		for _, d := range x.Values {
			if r.named(x.PCR, d) == "" && !refuseStart(s, f, id, x.PCR, d) {
				return
			}
		}
	}
	var told []string
	for _, x := range registers {
		told = append(told, fmt.Sprintf("PCR %d had the value %s", x.PCR, r.names(x)))
	}
	f.PassWith(id, "when the log began, %s", strings.Join(told, ", and "))
}

// refuseStart refuses a start value, and reports whether the check goes on all the same.
func refuseStart(s *Subject, f *check.Findings, id check.ID, index uint32, d pcr.Digest) bool {
	led := "nothing in the evidence tells what extended it"
	if by := tcglog.Leads(s.Firmware, d.Algorithm, index, d.Value); by != "" {
		led = by + ", which proves nothing, as any software can write such a log"
	}
	return f.Decide(id, false, "zero, a value that only boot software leaves, or a [[start_value]] of the policy", fmt.Sprintf("%s %x", d.Algorithm, d.Value),
		"PCR %d had another value when the log began: %s. If every such machine begins so, list what was found as a [[start_value]]; else an earlier log of this boot may have been deleted", index, led)
}

// named returns why a start value is accepted, as the rest of "had the value"; empty if it
// is not.
func (r *StartRules) named(index uint32, d pcr.Digest) string {
	name := tcglog.Known(d.Algorithm, index, d.Value)
	if name == "" && r.startsAt(d) {
		return "that the policy lists"
	}
	return name
}

// names returns the names of the start values of a PCR, each once.
func (r *StartRules) names(x pcr.Register) string {
	var names []string
	for _, d := range x.Values {
		names = append(names, r.named(x.PCR, d))
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), " or ")
}

// Began says for people which values the PCRs of an accepted log began at; empty if they were zero.
func (r *StartRules) Began(s *Subject) string {
	if s.Log == nil || s.Quote == nil {
		return ""
	}
	start, err := s.Log.Began()
	if err != nil {
		return ""
	}
	var told []string
	for _, x := range judged(s, start) {
		if names := r.names(x); names != tcglog.Zero {
			told = append(told, fmt.Sprintf("PCR %d had the value %s", x.PCR, names))
		}
	}
	if len(told) == 0 {
		return ""
	}
	return fmt.Sprintf("When the log began, %s.", strings.Join(told, ", and "))
}
