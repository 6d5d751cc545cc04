// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/internal/config"
)

const doctorUsage = `Usage: agentctl doctor [--config FILE] [--json]

Look for what prevents good evidence from this machine, and say what to do. The
command changes nothing. It asks for evidence once. As root it sees more, and tries
out the TPM and the keys that the firmware derives.

What follows from something else is shown below its cause. The last line is the verdict.
The levels are ok, note (worth knowing), warning (may become wrong) and bad.

  --config FILE    configuration of the agent (default /etc/agentd/config.toml)

Exit codes: 0 nothing is wrong, 1 something is wrong, 6 the agent does not answer.

Examples:
  agentctl doctor
  agentctl doctor --json | jq -r '.findings[] | select(.level == "bad") | .name'
`

// deviceTime is how long the doctor waits for an answer that needs a device. It is more
// than the slowest take, even if reports are throttled for a minute.
const deviceTime = 5 * time.Minute

// level is how much a symptom matters.
type level string

const (
	levelFine    level = "ok"
	levelNote    level = "note"    // worth knowing, but not wrong
	levelWarning level = "warning" // not wrong yet
	levelBad     level = "bad"
)

// symptom is the result of one check.
type symptom struct {
	Name    string `json:"name"`              // no other symptom has it; what comes before ": " is the subject
	Level   level  `json:"level"`             // how much it matters
	Says    string `json:"says"`              // what was found
	Todo    string `json:"todo,omitempty"`    // what to do; empty if a cause says it
	Because string `json:"because,omitempty"` // name of the symptom that this one follows from
}

// diagnosis is what the doctor says as JSON.
type diagnosis struct {
	OK       bool      `json:"ok"`       // nothing is bad
	Verdict  string    `json:"verdict"`  // one sentence
	Findings []symptom `json:"findings"` // causes before what follows from them
}

// doctor collects findings.
type doctor struct {
	sockets  *sockets
	symptoms []symptom
	absent   map[string]string // paths of device files that do not exist, by finding
	silent   bool              // the agent does not answer
	evidence bool              // the agent made evidence
}

// Names of findings that others follow from.
const (
	deviceOfTPM     = "TPM"
	deviceOfReports = "report device"
	agentsTPM       = "agent's TPM"
	agentsReports   = "agent's reports"
	agentsLog       = "log"
)

// add records a symptom. If its name is taken, it gets a number: names are unique.
func (d *doctor) add(name string, l level, todo, format string, args ...any) {
	unique := name
	for n := 2; d.find(unique) != nil; n++ {
		unique = fmt.Sprintf("%s %d", name, n)
	}
	d.symptoms = append(d.symptoms, symptom{Name: unique, Level: l, Todo: here(todo), Says: fmt.Sprintf(format, args...)})
}

func (d *doctor) good(name, format string, args ...any) { d.add(name, levelFine, "", format, args...) }

func (d *doctor) note(name, todo, format string, args ...any) {
	d.add(name, levelNote, todo, format, args...)
}

func (d *doctor) warn(name, todo, format string, args ...any) {
	d.add(name, levelWarning, todo, format, args...)
}

func (d *doctor) bad(name, todo, format string, args ...any) {
	d.add(name, levelBad, todo, format, args...)
}

// follows records that a symptom follows from that of the first of the causes that is bad. It
// reports whether there is one. The cause says what to do.
func (d *doctor) follows(name string, causes ...string) bool {
	x := d.find(name)
	if x == nil {
		return false
	}
	for _, cause := range causes {
		if c := d.find(cause); c != nil && c.Level == levelBad && cause != name {
			x.Because, x.Todo = cause, ""
			return true
		}
	}
	return false
}

// find returns the symptom of a name, nil if there is none.
func (d *doctor) find(name string) *symptom {
	if i := slices.IndexFunc(d.symptoms, func(f symptom) bool { return f.Name == name }); i >= 0 {
		return &d.symptoms[i]
	}
	return nil
}

func doctorCommand(t *terminal, s *sockets) *cobra.Command {
	var file string
	c := command("doctor", doctorUsage, arguments(), func(c *cobra.Command, _ []string) error {
		d := &doctor{sockets: s, absent: make(map[string]string)}
		d.lookAtAgent(c.Context(), d.lookAtMachine(file, c.Flags().Changed("config")))
		return t.finishDoctor(d)
	})
	c.Flags().StringVar(&file, "config", config.File, "")
	return c
}

func (t *terminal) finishDoctor(d *doctor) error {
	roots := d.roots()
	out := diagnosis{OK: len(roots) == 0, Verdict: d.verdict(roots), Findings: d.symptoms}
	if t.json {
		if err := t.writeJSON(out); err != nil {
			return err
		}
	} else {
		for i := range d.symptoms {
			if d.symptoms[i].Because == "" {
				t.printFinding(d, &d.symptoms[i])
			}
		}
		fmt.Fprintln(t.out)
		t.tell("", out.Verdict, 2)
	}
	switch {
	case d.silent:
		return &exitError{code: exitUnavailable}
	case !out.OK:
		return &exitError{code: exitMisuse}
	}
	return nil
}

// levelMarks are the levels as text.
var levelMarks = map[level]string{levelFine: "ok", levelNote: "note", levelWarning: "warn", levelBad: "BAD"}

// printFinding prints a symptom, and below it what follows from it.
func (t *terminal) printFinding(d *doctor, f *symptom) {
	subject, rest, _ := strings.Cut(f.Name, ": ")
	if rest != "" {
		rest += ": "
	}
	mark := levelMarks[f.Level]
	if f.Because != "" {
		mark = "  so"
	}
	t.tell(fmt.Sprintf("%-4s  %-14s ", mark, cleanLine(subject)), rest+f.Says, 21)
	if f.Todo != "" {
		t.tell(fmt.Sprintf("%21sdo: ", ""), f.Todo, 25)
	}
	for i := range d.symptoms {
		if d.symptoms[i].Because == f.Name {
			t.printFinding(d, &d.symptoms[i])
		}
	}
}

// roots returns the names of what is bad and follows from nothing else.
func (d *doctor) roots() (names []string) {
	for _, f := range d.symptoms {
		if f.Level == levelBad && f.Because == "" {
			names = append(names, f.Name)
		}
	}
	return names
}

// verdict says in one sentence what the findings amount to.
func (d *doctor) verdict(roots []string) string {
	causes := strings.Join(roots, ", ")
	switch {
	case d.silent:
		return "Verdict: the agent does not answer, so that there is no evidence: " + causes + "."
	case !d.evidence:
		return "Verdict: this machine cannot make evidence: " + causes + "."
	case len(roots) > 0:
		return "Verdict: this machine makes evidence, and something is wrong: " + causes + "."
	}
	return "Verdict: this machine makes evidence, and nothing is wrong."
}
