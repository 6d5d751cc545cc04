// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tcglog"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/pcr"
)

const logUsage = `Usage: agentctl log [--start N] [--format text|cel-json|cel-tlv] [--json]

Show the measurement log as the agent has it. This command does not verify the log;
verifying evidence does.

  --start N             number of the first record (default 0)
  --format FORMAT       how to print it: text (default); cel-json, the TCG Canonical Event
                        Log in JSON; cel-tlv, the same in TLV, the bytes that the log
                        head covers
  --json                an object with all records, byte strings in hexadecimal

Examples:
  agentctl log
  agentctl log --format cel-tlv > log.cel
`

func logCommand(t *terminal, s *sockets) *cobra.Command {
	var start uint64
	var format string
	c := command("log", logUsage, arguments(), func(c *cobra.Command, _ []string) error {
		if !slices.Contains([]string{"text", string(api.LogCELJSON), string(api.LogTLV)}, format) {
			return misuse(fmt.Errorf("--format %q is not known: want text, cel-json or cel-tlv", format)).withHint(helpHint(c))
		}
		if t.json && format == string(api.LogTLV) {
			return misuse(errors.New("--format cel-tlv is not JSON: leave --json out, or use cel-json")).withHint(helpHint(c))
		}
		agent := s.clientSocket()
		if format == string(api.LogCELJSON) {
			b, err := agent.LogCELJSON(c.Context(), start)
			if err != nil {
				return failed(err)
			}
			if t.screen {
				b = onlyPrintable(b)
			}
			return t.writeOutput("-", append(b, '\n'))
		}
		l, err := agent.Log(c.Context(), start)
		if err != nil {
			return failed(err)
		}
		switch {
		case format == string(api.LogTLV):
			return t.writeOutput("-", l.Records)
		case t.json:
			lines, err := linesOf(l)
			if err != nil {
				return misuse(err)
			}
			return t.writeJSON(logLines{lines})
		}
		return t.printLog(l)
	})
	c.Flags().Uint64Var(&start, "start", 0, "")
	c.Flags().StringVar(&format, "format", "text", "")
	return c
}

func (t *terminal) printLog(l *evidence.Log) error {
	records, err := pcr.DecodeLog(l.Records, l.Start)
	for _, r := range records {
		e, err := r.Event()
		if err != nil {
			return misuse(fmt.Errorf("record %d: %w", r.Number, err))
		}
		drawEvent(new(node), r.Number, e).draw(t)
	}
	return misuseIf(err)
}

// parseLog parses --log of attest.
func parseLog(s string) (api.LogMode, uint64, error) {
	switch s {
	case "whole":
		return api.LogWhole, 0, nil
	case "none":
		return api.LogNone, 0, nil
	}
	start, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return "", 0, misuse(fmt.Errorf("--log %q: want whole, none or the number of a record", s))
	}
	return api.LogFrom, start, nil
}

// startText spells the value of a PCR before a log, with its name if it has one.
func startText(index uint32, v pcr.StartValue) string {
	value := hex.EncodeToString(v.Value)
	bank, err := pcr.ParseAlgorithm(v.Algorithm)
	if err != nil {
		return value
	}
	switch name := tcglog.Known(bank, index, v.Value); name {
	case "":
		return value
	case tcglog.Zero:
		return name
	default:
		return fmt.Sprintf("%s, the value %s", value, name)
	}
}

// maxShownFiles is how many files of an application are listed for people.
const maxShownFiles = 20

// drawStart adds what the first record says to its line.
func drawStart(n *node, s *pcr.StartEvent) *node {
	values := func(n *node, index uint32, values pcr.StartValues) {
		for _, v := range values {
			n.add("bank %s was %s", v.Algorithm, startText(index, v))
		}
	}
	values(n, s.PCR, s.Values)
	if second := s.Events; second != nil {
		values(n.add("events of apps extend PCR %d", second.PCR), second.PCR, second.Values)
	}
	if p := s.Previous; p != nil {
		n.add("the log of an earlier boot had %s, head %s", text.Count(p.Count, "record"), p.Digest)
	}
	return n
}

// drawEvent adds an event in words to a tree: a line, and details below it.
func drawEvent(top *node, number uint64, e *pcr.Event) *node {
	line := func(format string, args ...any) *node {
		return top.add("%d: %s", number, fmt.Sprintf(format, args...))
	}
	switch e.Type {
	case pcr.EventStart:
		return drawStart(line("the log begins, for PCR %d", e.Start.PCR), e.Start)
	case pcr.EventAgent, pcr.EventReload:
		text := "the agent started"
		if e.Type == pcr.EventReload {
			text = "the agent read its configuration again"
		}
		n := line("%s, version %q", text, e.Agent.Version)
		n.add("executable %s", e.Agent.Digest)
		n.add("configuration %s", e.Agent.Configuration)
		n.add("agent key %s", hex.EncodeToString(e.Agent.AgentKey))
		for _, d := range e.Agent.Declarations {
			n.add("declares %q, %s", d.App, d.Digest)
		}
		return n
	case pcr.EventApp:
		n := line("application %q was measured, unit %q, %s %q", e.App.App, e.App.Unit, userKind(e.App.Dynamic), e.App.User)
		n.addManifest(e.App)
		return n
	case pcr.EventStop:
		n := line("the agent stopped")
		n.add("agent key %s", hex.EncodeToString(e.Stop.AgentKey))
		return n
	case pcr.EventSame:
		text := "application %q was found as it was"
		if e.Same.Carried {
			text += ", and cannot have changed meanwhile"
		}
		n := line(text+": %s", e.Same.App, e.Same.Reason)
		n.add("digest %s", e.Same.Digest)
		return n
	case pcr.EventUnmeasured:
		return line("application %q could NOT be measured: %s", e.Unmeasured.App, e.Unmeasured.Reason)
	case pcr.EventGap:
		return line("GAP: the agent may have missed changes: %s", e.Gap.Reason)
	case pcr.EventContainer:
		n := line("container %q of %s is about to run, application %q", e.Container.ID, e.Container.Engine, e.Container.App)
		n.addContainer(e.Container)
		return n
	case pcr.EventEmitted:
		return drawEmitted(line("application %q says of %q", e.Emitted.App, e.Emitted.Domain), e.Emitted)
	case pcr.EventFull:
		return line("the log is FULL: nothing is recorded after this")
	}
	return drawGate(line, e)
}

// drawGate adds an event of the gate.
func drawGate(line func(format string, args ...any) *node, e *pcr.Event) *node {
	switch {
	case e.GateStart != nil:
		what := "the gate guards"
		if e.GateStart.Carried {
			what = "the gate went on, and guards"
		}
		n := line("%s %s", what, text.Count(len(e.GateStart.Apps), "application"))
		n.add("executable %s", e.GateStart.Gate)
		for _, a := range e.GateStart.Apps {
			if a.Enforce {
				n.add("%q, and starts nothing that its manifest does not list", a.App)
			} else {
				n.add("%q", a.App)
			}
		}
		return n
	case e.GateGap != nil && e.GateGap.App != "":
		return line("GATE GAP: programs of application %q may have started without the gate: %s", e.GateGap.App, e.GateGap.Reason)
	case e.GateGap != nil:
		return line("GATE GAP: programs may have started without the gate: %s", e.GateGap.Reason)
	case e.Exec != nil:
		text := "application %q started %s, which its manifest does NOT list"
		if e.Exec.Refused {
			text = "application %q was REFUSED to start %s, which its manifest does not list"
		}
		n := line(text, e.Exec.App, e.Exec.Path)
		n.add("digest %s", e.Exec.Digest)
		return n
	}
	return line("event %q", e.Type)
}

// drawEmitted adds what an application had recorded.
func drawEmitted(n *node, e *pcr.EmittedEvent) *node {
	if e.Digest != nil {
		n.add("digest %s", e.Digest)
	} else {
		n.add("content %q", e.Content)
	}
	if e.Container != nil {
		n.add("container %q of %s, uid %d", e.Container.ID, e.Container.Engine, e.UID)
	} else {
		n.add("unit %q, uid %d", e.Unit, e.UID)
	}
	return n
}

// fileMode returns st_mode as ls prints it. A manifest has only regular files and links.
func fileMode(mode uint32) string {
	const rwx = "rwxrwxrwx"
	out := []byte("-")
	if mode&0o170000 == 0o120000 {
		out[0] = 'l'
	}
	for i := range len(rwx) {
		c := rwx[i]
		if mode&(0o400>>i) == 0 {
			c = '-'
		}
		out = append(out, c)
	}
	for _, special := range []struct {
		bit   uint32
		place int
		with  byte // if the file may also be executed
	}{{0o4000, 3, 's'}, {0o2000, 6, 's'}, {0o1000, 9, 't'}} {
		if mode&special.bit == 0 {
			continue
		}
		if out[special.place] == 'x' {
			out[special.place] = special.with
		} else {
			out[special.place] = special.with - 'a' + 'A'
		}
	}
	return string(out)
}

// logLines is what log prints as JSON.
type logLines struct {
	Records []logLine `json:"records"` // in order
}

// logLine is one record of a log.
type logLine struct {
	Number  uint64                    `json:"number"`  // from 0
	PCR     uint32                    `json:"pcr"`     // PCR that it was measured into
	Digests map[string]evidence.Bytes `json:"digests"` // digest that the PCR was extended with, by bank
	Event   *pcr.Event                `json:"event"`   // what happened, as docs/measurements.md describes it
}

// linesOf returns the records of a log.
func linesOf(l *evidence.Log) ([]logLine, error) {
	records, err := pcr.DecodeLog(l.Records, l.Start)
	if err != nil {
		return nil, err
	}
	lines := make([]logLine, 0, len(records))
	for _, r := range records {
		e, err := r.Event()
		if err != nil {
			return nil, fmt.Errorf("log record %d: %w", r.Number, err)
		}
		digests := map[string]evidence.Bytes{}
		for _, d := range r.Digests {
			digests[d.Algorithm.String()] = d.Value
		}
		lines = append(lines, logLine{r.Number, r.PCR, digests, e})
	}
	return lines, nil
}

// addManifest adds what was measured of an application.
func (n *node) addManifest(e *pcr.AppEvent) {
	n.add("digest %s", e.Digest)
	if program := pcr.Interpreter(e.Manifest); program != "" {
		n.add("interpreter only: %q is measured, and what it runs is not", program)
	}
	for i, f := range e.Manifest {
		if i == maxShownFiles {
			n.add("%s", text.Count(len(e.Manifest)-i, "more file"))
			break
		}
		n.add("%s %s, %d bytes, %q", fileMode(f.Mode), f.Digest, f.Size, f.Path)
	}
}
