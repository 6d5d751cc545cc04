// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

func guestName(g int8) string {
	switch g {
	case guestA:
		return "A"
	case guestB:
		return "B"
	}
	return "another launch"
}

var eventNames = [kinds]string{"the verifier chooses its nonce", "time passes", "%s measures", "%s serves fresh", "%s serves anchored",
	"%s's agent stops", "%s's agent starts again", "%s is launched again", "root of %s is the attacker", "the attacker extends the PCR of %s"}

// String says what happens, for people.
func (e event) String() string {
	text := eventNames[e.kind]
	if strings.Contains(text, "%s") {
		text = fmt.Sprintf(text, guestName(e.guest))
	}
	switch {
	case e.audience == ours:
		text += " (its application asks for us)"
	case e.audience == another:
		text += " (its application asks for another verifier)"
	case e.kind == extend && e.record != foreign:
		text += " as an agent-start with its own key would"
	}
	return text
}

// trace says how a document came to be.
func (s *search) trace(d *document) string {
	var text strings.Builder
	for i, e := range s.events[:s.length] {
		fmt.Fprintf(&text, "%d. %s\n", i+1, e)
	}
	fmt.Fprintf(&text, "report: %s\n", s.reportOf(d))
	if d.onAnchor {
		fmt.Fprintf(&text, "anchor's quote: %s\n", s.quoteOf(&d.anchor.quote))
	}
	fmt.Fprintf(&text, "quote: %s\n", s.quoteOf(&d.batch.quote))
	fmt.Fprintf(&text, "agent signature: %s\n", signerNames[d.signedBy])
	if !d.noLog {
		fmt.Fprintf(&text, "log: %s\n", describe(d.log))
	}
	fmt.Fprintf(&text, "statement: %s\n", s.statementOf(d))
	return text.String()
}

func (s *search) reportOf(d *document) string {
	r := &d.report
	if r.batch != none {
		return fmt.Sprintf("of event %d", s.batches.at[r.batch].at)
	}
	return fmt.Sprintf("%s, asked for by the attacker after event %d", guestName(r.guest), r.at)
}

func (s *search) quoteOf(q *quote) string {
	switch {
	case q.batch != none:
		return fmt.Sprintf("of event %d, signed by %s", s.batches.at[q.batch].at, signerNames[q.signedBy])
	case q.invented():
		return "invented, signed by " + signerNames[q.signedBy]
	}
	return fmt.Sprintf("%s after event %d, signed by %s", guestName(q.guest), q.at, signerNames[q.signedBy])
}

func (s *search) statementOf(d *document) string {
	st, text := &d.statement, "by the attacker, caller: the application"
	if st.batch != none {
		b := &s.batches.at[st.batch]
		text = fmt.Sprintf("of event %d, caller: %s", b.at, processName(st.process, b.guest))
	}
	if st.key != none {
		text += ", key: that of the application on " + guestName(st.key)
	}
	return text
}

// processName says which process on a guest a caller is.
func processName(p process, g int8) string {
	if p == application {
		return "the application on " + guestName(g)
	}
	var same []string
	for i, name := range []string{"uid", "pid", "start time"} {
		if p>>i&1 == 1 {
			same = append(same, name)
		}
	}
	name := "a process of the attacker on " + guestName(g)
	if len(same) > 0 {
		name += " with the application's " + strings.Join(same, ", ")
	}
	return name
}

// describe lists the records of a log.
func describe(l log) string {
	var names []string
	if l.start != 0 {
		names = append(names, "start value of something extended before")
	}
	for n := 56; n >= 0; n -= 8 {
		r := record(l.records >> n)
		name := ""
		switch r & 0xf0 {
		case agentStart:
			if name = fmt.Sprintf("agent-start %d", r&0xf); r&0xf == record(evil) {
				name = "agent-start with the attacker's key"
			}
		case agentStop:
			name = "agent-stop"
		case measured:
			name = fmt.Sprintf("app of event %d", r&0xf+1)
		case foreign:
			name = "what is not a record"
		default:
			continue
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}
